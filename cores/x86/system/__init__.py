"""System instructions and structures."""
