"""The command line of entry points: flags, errors, devices, child processes."""
