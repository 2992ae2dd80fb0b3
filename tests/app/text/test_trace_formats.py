"""Exits for other programs: what they read is what `trace --json` says."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import pytest
from machine_lab import needs_assembler, require

from app.main import main
from app.text.trace_formats import FIELDS, Places

pytestmark = needs_assembler


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The exits of the tour, as JSON."""
    require("trap:portable")
    assert main(["trace", "tour", "--core", "trap:portable", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def export(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["trace", "tour", "--core", "interpreter,trap:portable", "--format", *words]) == 0
    return capsys.readouterr().out


def test_csv(said: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each exit, with the fields of the JSON."""
    rows = list(csv.DictReader(io.StringIO(export(capsys, "csv"))))
    assert len(rows) == len(said)
    for row, exit in zip(rows, said, strict=True):
        assert row["core"] == "trap:portable"
        for name in set(FIELDS) - {"core", "linear", "ns", "vmm_ns"}:
            assert row[name] == ("" if exit[name] is None else str(exit[name])), name


def test_folded(said: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> None:
    """Stacks of core, ring, reason, place and instruction, each with a whole number."""
    stacks = [line.rpartition(" ") for line in export(capsys, "folded").splitlines()]
    assert {stack.split(";")[2] for stack, _, _ in stacks} == {str(exit["reason"]) for exit in said}
    assert all(len(stack.split(";")) == 5 and int(ns) > 0 for stack, _, ns in stacks)


def test_perfetto(said: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> None:
    """A process for each core; its exits where they were, and rings without a gap."""
    events = json.loads(export(capsys, "perfetto"))["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert names == ["interpreter", "trap:portable"]
    exits = [e for e in events if e["ph"] == "X" and e["tid"] == 1]
    assert [(e["pid"], e["ts"], e["cat"]) for e in exits] == [(2, x["n"], x["reason"]) for x in said]
    rings = [e for e in events if e["ph"] == "X" and e["tid"] == 2]
    assert all(a["ts"] + a["dur"] == b["ts"] for a, b in pairwise(rings))
    cost = [e["args"]["us"] for e in events if e["ph"] == "C"]
    assert cost == sorted(cost)


def test_what_contradicts_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Several cores need a format that tells them apart; steps are for people and JSON."""
    for words in (["--core", "trap,kvm"], ["--core", "trap", "--steps", "--format", "csv"]):
        assert main(["trace", "tour", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_places() -> None:
    """An address belongs to the last symbol before it."""
    places = Places({"b": 0x20, "a": 0x10})
    assert [places.name(at) for at in (0x8, 0x10, 0x1F, 0x25)] == ["0x8", "a", "a+0xf", "b+0x5"]
    assert places.function(0x8) is None
