"""cores/README.md, the way through the source, leads to every file, and to none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from cores.pc.devices.board import PLUGGED

CORES = Path(__file__).parents[2] / "cores"


def named() -> set[str]:
    """Paths below cores/: a bare name belongs to the directory that its list item has named last."""
    found = set()
    for part in re.split(r"\n(?=- |\n|\|)", (CORES / "README.md").read_text()):
        directory = ""
        for name in re.findall(r"`([\w/]+(?:/|\.py))`", part):
            if name.endswith("/"):
                directory = name
            elif "/" not in name and (CORES / directory / name).exists():
                found.add(directory + name)
            else:
                found.add(name)
    return found


def test_every_file_has_its_place() -> None:
    """Whoever adds a file says when to read it; a device stands in the board's list instead."""
    there = {str(path.relative_to(CORES)) for path in CORES.rglob("*.py") if path.stem[:2] != "__"}
    listed = {"/".join(kind.__module__.split(".")[1:]) + ".py" for kind in PLUGGED}
    assert named() <= there
    assert there - named() <= listed
