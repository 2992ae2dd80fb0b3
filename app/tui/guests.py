"""The guests that come with Ringscope."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHELF = Path(__file__).resolve().parents[2] / "assets" / "guests"


@dataclass(frozen=True, slots=True)
class Guest:
    """path: its source. summary: the first comment line."""

    path: Path
    summary: str

    @property
    def name(self) -> str:
        return self.path.name


def shipped(shelf: Path = SHELF) -> list[Guest]:
    """Every assembly source on the shelf, by name; none where the folder is missing."""
    return [Guest(path, _summary(path)) for path in sorted(shelf.glob("*.s"))]


def _summary(path: Path) -> str:
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if words := line.strip().lstrip("#;/ ").strip():
                if not line.lstrip().startswith(("#", ";", "//")):
                    return ""
                return words.removeprefix(f"{path.stem}:").strip().rstrip(".")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""
