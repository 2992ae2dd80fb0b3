"""The files that the interface may read and write.

At one's own terminal: all that one's user may. For a visitor of ``ringscope serve``: the shipped guests
and lessons, and texts of his own in a folder that ends with his session. Every place of the interface
that takes a path or writes a file asks here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cores.errors import InputError
from cores.programs.shipped import programs

REFUSED = "not in this session: it opens the guests and lessons that come with it, and texts of its own"


@dataclass(frozen=True, slots=True)
class Files:
    """own: the folder of a visitor's texts; None for a user at his own terminal."""

    own: Path | None = None

    @property
    def all(self) -> bool:
        """May every file be named?"""
        return self.own is None

    def demand(self, path: str) -> None:
        """Raises InputError for a file that may not be opened. The message holds no more of the path
        than the visitor wrote himself."""
        if self.own is None:
            return
        try:
            real = Path(path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise InputError(REFUSED) from None
        known = {guest.resolve() for guest in programs()}
        if real not in known and real.parent != self.own.resolve():
            raise InputError(REFUSED)

    def demand_all(self) -> None:
        """Raises InputError where not every file may be named: for disks, sessions and pictures."""
        if self.own is not None:
            raise InputError(REFUSED)

    def text(self) -> Path | None:
        """Where a visitor's text is saved; None: the user says where."""
        return None if self.own is None else self.own / "guest.s"


EVERY_FILE = Files()
