"""Output of the command line: reports as text and as JSON, lessons as plain text.

May import app/recording, app/teacher, lessons and cores, and no widget.
"""
