"""Rows of text for the panes, as functions of frozen values.

May import app/text, lessons and cores, and no screen or widget.
"""
