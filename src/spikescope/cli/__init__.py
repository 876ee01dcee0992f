"""The command line: arguments and calls."""
