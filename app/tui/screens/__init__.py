"""Screens, one a file.

May import app/tui/widgets and app/tui/rows, app/text, lessons and cores.
"""
