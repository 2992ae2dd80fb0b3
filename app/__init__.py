"""The command line and the terminal interface."""
