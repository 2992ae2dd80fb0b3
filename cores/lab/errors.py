"""The error of the lab."""

from __future__ import annotations


class LabError(Exception):
    """A student's VMM has asked for what cannot be, or does not get on. The message is for its
    author; the file and the line are added where it is caught."""
