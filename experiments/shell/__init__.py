"""Between a person's shell and a run: flags, words, signals, folders."""
