"""The terminal of this process, and its abilities."""

from __future__ import annotations

import os
import sys


def is_there() -> bool:
    """Somebody reads, and can type."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def is_capable() -> bool:
    """Is there a terminal for a full-screen program? TERM=dumb and pipes are none. Where Textual was
    given a driver (textual-serve's, for a browser), that draws, and needs no terminal."""
    if os.environ.get("TEXTUAL_DRIVER"):
        return True
    capable = os.name == "nt" or os.environ.get("TERM", "") not in ("", "dumb")
    return capable and is_there() and sys.stderr.isatty()  # which Textual draws on
