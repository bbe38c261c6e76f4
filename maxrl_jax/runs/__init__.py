"""Runs on disk: checkpoints, resuming, and studies of many runs."""
