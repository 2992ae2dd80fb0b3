"""Exit heat: the sums are those of the trace, however they are grouped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from machine_lab import needs_assembler, require

from app.main import main

pytestmark = needs_assembler
CORE = ["--core", "trap:portable"]


def heat(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    require("trap:portable")
    assert main(["heat", "tour", *CORE, *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("by", ["line", "function", "address"])
def test_every_exit_counts_once(by: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows by line, function and address add up to the same exits and reasons."""
    told = json.loads(heat(capsys, "--json", "--by", by))
    assert main(["trace", "tour", *CORE, "--json"]) == 0
    said = [json.loads(line)["reason"] for line in capsys.readouterr().out.splitlines()]
    hidden = sum(reason in ("shadow", "scan") for reason in said)
    assert (told["exits"], told["hidden"]) == (len(said) - hidden, hidden)
    assert sum(row["exits"] for row in told["rows"]) == told["exits"]
    counts: dict[str, int] = {}
    for row in told["rows"]:
        for reason, count in row["exits_by_reason"].items():
            counts[reason] = counts.get(reason, 0) + count
    assert counts == {reason: said.count(reason) for reason in set(said)}


def test_the_table_names_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Where lines are known, the source's own text stands beside the count."""
    require("trap:portable")
    assert main(["heat", "hello", *CORE]) == 0
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split()[0] == "36"
    assert "hello:15" in first
    assert "out     0xe9, al" in first


def test_nothing_leaves_an_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine without exits says so."""
    require("interpreter")
    assert main(["heat", "hello", "--core", "interpreter"]) == 0
    assert capsys.readouterr().out == "The guest was never left.\n"


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page fetches nothing, and does not replace what is no such page."""
    page = tmp_path / "heat.html"
    heat(capsys, "--html", str(page))
    text = page.read_text()
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    page.write_text("mine")
    assert main(["heat", "tour", *CORE, "--html", str(page)]) == 2
    assert page.read_text() == "mine"
