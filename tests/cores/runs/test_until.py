"""``--until`` and ``--timeout``: runs that end by what is shown, and by the host's clock."""

from __future__ import annotations

import pytest

from cores.lockstep.options import Options
from cores.pc.stop import Stop
from cores.programs.program import LOAD_ADDRESS, Program, Segment
from cores.runs.compare import compare

CORES = ("interpreter", "trap:portable")


def flat(code: str) -> Program:
    data = bytes.fromhex(code)
    return Program("test", "flat", LOAD_ADDRESS, (Segment(LOAD_ADDRESS, data, len(data)),), "")


def digits(store: str) -> Program:
    """0, 1, 2 and so on for ever, by this instruction from AL."""
    return flat(f"b030 {store} fec0 eb{-(4 + len(bytes.fromhex(store))) & 0xFF:02x}")


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_until_on_the_console(free: bool) -> None:
    """Every core ends with the write that completes the text."""
    report = compare(digits("e6e9"), Options(cores=CORES, free=free, budget=100_000, until="456"))
    assert [(core.stop, core.console) for core in report.cores] == [(Stop.UNTIL, "0123456")] * 2
    assert report.equivalent


def test_until_on_the_screen() -> None:
    """The screen counts as well."""
    store = "880425 00800b00"  # mov [0xb8000], al
    report = compare(digits(store), Options(cores=CORES, budget=100_000, until="7"))
    assert [(core.stop, core.screen) for core in report.cores] == [(Stop.UNTIL, "7")] * 2


def test_a_text_that_comes_in_a_string() -> None:
    """OUTS that writes beyond the text ends as well; the rest of its block is written."""
    # lea rsi, [rip + 13]; mov ecx, 5; mov edx, 0xe9; rep outsb; jmp $
    code = "488d350e000000 b905000000 bae9000000 f36e ebfe" + b"abcde".hex()
    report = compare(flat(code), Options(cores=("interpreter",), until="bcd"))
    assert (report.cores[0].stop, report.cores[0].console) == (Stop.UNTIL, "abcde")


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_timeout(free: bool) -> None:
    """The host's clock ends a run before its budget does."""
    options = Options(cores=("interpreter",), free=free, budget=10**12, timeout=0.05)
    assert compare(flat("ebfe"), options).cores[0].stop is Stop.BUDGET
