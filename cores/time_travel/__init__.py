"""Checkpoints and re-execution."""
