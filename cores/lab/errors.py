"""The error of the lab."""

from __future__ import annotations


class LabError(Exception):
    """A student's VMM has asked for what cannot be, or does not get on. The message is for its
    author; the file and the line are added where it is caught."""


class NoSuchName(LabError, KeyError, AttributeError):
    """A name, as attribute or index, that something of the lab does not have. ``hasattr`` and ``get``
    take it as Python's own."""

    __str__ = Exception.__str__  # KeyError's would put quotes around the sentence
