"""One widget a file, with its keys, its help and its messages."""
