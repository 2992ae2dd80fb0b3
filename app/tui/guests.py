"""The guests that come with Ringscope."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cores.shipped import guests


@dataclass(frozen=True, slots=True)
class Guest:
    """path: its source. summary: the first comment line."""

    path: Path
    summary: str

    @property
    def name(self) -> str:
        return self.path.name


def shipped() -> list[Guest]:
    """Each with its source, by name."""
    return [Guest(path, _summary(path)) for path in guests()]


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
