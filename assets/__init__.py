"""Guest programs and their assembled images."""
