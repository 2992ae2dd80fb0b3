"""Several machines compared instruction by instruction."""
