"""Faults made on purpose: what a run is put through before it is trusted.

Each module is a command of its own (`make faults` runs them all, at length);
tests/test_faults.py has a short form of each.
"""
