"""One PC with its guest, engine and VMM."""
