"""The README's moving picture, and the script that draws it from a cast."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "assets" / "images" / "tinyos.svg"


def animation() -> ModuleType:
    found = importlib.util.spec_from_file_location("animation", ROOT / ".ci" / "animation.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    import sys

    sys.modules["animation"] = module  # where dataclasses look for the names of their types
    found.loader.exec_module(module)
    return module


def test_a_cast_becomes_a_film(tmp_path: Path) -> None:
    """Each screen of a cast stands in the strip once, at its time, with its colors; the last stays."""
    header = {"version": 2, "width": 12, "height": 3}
    events = [
        (0.0, "o", "$ \x1b[1;38;2;255;0;16m<run>\x1b[0m\r\n"),
        (1.0, "m", "a chapter"),
        (1.5, "o", "\x1b[44m one \x1b[0m"),
        (1.55, "o", "two"),
    ]
    cast = tmp_path / "x.cast"
    cast.write_text("\n".join(json.dumps(line) for line in (header, *events)))
    drawn = animation().svg(cast)
    picture = ElementTree.fromstring(drawn)
    words = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["$", "<run>", "one", "one two"]
    assert "fill:#ff0010" in drawn
    steps = re.findall(r"([\d.]+)%\{transform:translateY\((-?\d+)px\)\}", drawn)
    assert steps == [("0.00", "0"), ("37.04", "-54"), ("38.27", "-108")]  # 1.55 of 1.55 + 2.5 s


def test_the_readmes_picture() -> None:
    """It is well-formed and small, needs nothing from elsewhere, and can stand still."""
    text = PICTURE.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert len(text.encode()) < 300_000
    assert (
        re.findall(r"(?:href|src)=\"(?!#)|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text) == []
    )
    assert "prefers-reduced-motion" in text
    assert f"assets/images/{PICTURE.name}" in (ROOT / "README.md").read_text(encoding="utf-8")
