"""Rows of text for the panes, as functions of frozen values; no widget is imported here."""
