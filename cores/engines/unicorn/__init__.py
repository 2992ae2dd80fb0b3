"""The software engine."""
