"""Output of the command line: reports as text and as JSON, lessons as plain text."""
