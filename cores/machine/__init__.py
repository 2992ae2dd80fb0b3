"""Machine: one PC with its guest, engine and VMM."""
