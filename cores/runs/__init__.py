"""Entry points for app and lessons."""
