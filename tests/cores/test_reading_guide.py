"""cores/README.md names every file of cores/, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from cores.pc.devices.board import PLUGGED

CORES = Path(__file__).parents[2] / "cores"


def named() -> set[str]:
    """Paths below cores/: a bare name belongs to the directory named last in its list item."""
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
    """Every file has its place in the guide; a device has it in the board's list instead."""
    there = {str(path.relative_to(CORES)) for path in CORES.rglob("*.py") if path.stem[:2] != "__"}
    listed = {"/".join(kind.__module__.split(".")[1:]) + ".py" for kind in PLUGGED}
    assert named() <= there
    assert there - named() <= listed
