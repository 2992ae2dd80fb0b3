"""World switches as a sequence diagram."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from app.main import main

SVG = "{http://www.w3.org/2000/svg}"


def words(picture: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_the_first_exit_of_each_reason_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """Each reason has one diagram: the instruction, the reason for the stop, the VMM's answer."""
    assert main(["trace", "tour", "--core", "trap", "--format", "svg"]) == 0
    told = words(capsys.readouterr().out)
    titles = [line.split()[1] for line in told if line.startswith("trap:")]
    assert titles == list(dict.fromkeys(titles))
    assert {"flags,", "descriptor,", "io,", "hlt,"} <= set(titles)
    at = told.index("cli")
    assert told[at - 1] == "VMM (Ringscope)"
    assert "#GP" in told[at + 1]
    assert any(line.startswith("virtual IF = 0: ") for line in told[at : at + 5])
    assert any(line.endswith("found before it ran") for line in told)


def test_a_guest_that_is_never_left(capsys: pytest.CaptureFixture[str]) -> None:
    """On the emulator nothing leaves, and the picture says so."""
    assert main(["trace", "tour", "--core", "interpreter", "--format", "svg"]) == 0
    assert words(capsys.readouterr().out) == ["The guest was never left."]
