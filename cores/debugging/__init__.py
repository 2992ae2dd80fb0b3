"""Interactive sessions: stepping, breakpoints, edits, saving."""
