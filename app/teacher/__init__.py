"""A second terminal that follows the first, and the reader that plays a lesson by itself."""
