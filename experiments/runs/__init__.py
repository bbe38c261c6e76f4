"""Training that figures and commands ask for, kept on disk when done."""
