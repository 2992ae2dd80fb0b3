"""A learner's progress: lessons, steps, and answers to questions.

One small JSON file in the user's data directory. A file that is missing, broken or not writable is
no error: progress then begins anew, or is not kept.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from platformdirs import user_data_path

from cores.atomic_file import replacing


@dataclass
class Record:
    """Progress in one lesson. step: the furthest, from 1. done: played to its end. answers: question ->
    [what was answered, whether it was right]."""

    step: int = 0
    done: bool = False
    answers: dict[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def right(self) -> int:
        return sum(right for _, right in self.answers.values())


def load() -> dict[str, Record]:
    """Lesson name -> its record, as far as the file can be read."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    records = {}
    for name, entry in found.items():
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            answers = {str(q): (str(a[0]), bool(a[1])) for q, a in entry["answers"].items()}
            records[str(name)] = Record(int(entry["step"]), bool(entry["done"]), answers)
    return records


def save(name: str, record: Record) -> None:
    """Remember a lesson's record, beside those of the others."""
    records = load() | {name: record}
    path = _path()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            text = json.dumps({n: asdict(r) for n, r in records.items()}, indent=1)
            file.write(text.encode() + b"\n")


def _path() -> Path:
    """RINGSCOPE_DATA names another directory."""
    chosen = os.environ.get("RINGSCOPE_DATA")
    return (Path(chosen) if chosen else user_data_path("ringscope")) / "progress.json"
