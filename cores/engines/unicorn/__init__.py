"""The interpreter engine, on Unicorn."""
