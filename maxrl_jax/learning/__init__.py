"""Losses and updates of a task and a policy, without file I/O."""
