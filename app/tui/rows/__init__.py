"""What panes draw, as functions from frozen values to rows of text; no widget is imported here."""
