"""Is there a terminal, and what can it do?"""

from __future__ import annotations

import os
import sys


def is_there() -> bool:
    """Somebody reads, and can type."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def is_capable() -> bool:
    """Can a full-screen program be shown and typed to? Not on TERM=dumb, nor through pipes."""
    capable = os.name == "nt" or os.environ.get("TERM", "") not in ("", "dumb")
    return capable and is_there() and sys.stderr.isatty()  # which Textual draws on
