"""What the command line prints: reports as text and as JSON, lessons as plain text."""
