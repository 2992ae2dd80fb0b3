"""The container files name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KNOWN = {"FROM", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}


def test_the_containerfile() -> None:
    """Each line is an instruction of Containerfile(5), what it copies exists, lists are JSON, and all
    that the wheel is made of is copied."""
    lines = (ROOT / ".ci" / "container" / "Containerfile").read_text().splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= KNOWN
    copied = {name for word, rest in steps if word == "COPY" for name in rest.split()[:-1]}
    assert not [name for name in copied if not (ROOT / name).exists()]
    packages = re.search(r"^packages = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    assert {name.removesuffix("/ringscope") for name in json.loads(packages[1])} <= copied
    for word, rest in steps:
        if word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(part, str) for part in json.loads(rest))


def test_the_devcontainer() -> None:
    """It is JSON, and its one command is one that a clone has."""
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / settings["postCreateCommand"].split()[0]).is_file()
