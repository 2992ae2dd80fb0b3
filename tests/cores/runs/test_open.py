"""The platform of a program: decided in one place, and the same door for every caller."""

from __future__ import annotations

import ast
from contextlib import closing
from pathlib import Path

import pytest

from cores.errors import InputError
from cores.lockstep.options import Options
from cores.pc.boot.protocols import protocol_of
from cores.programs.program import M68K_LOAD_ADDRESS, Program, Segment
from cores.runs.compare import compare
from cores.runs.open import ForeignSession, LiveSession, open_session
from cores.runs.trace import trace

ROOT = Path(__file__).resolve().parents[3]
M68K = {"m68k"}


def program(kind: str, code: str, address: int) -> Program:
    data = bytes.fromhex(code)
    return Program(f"test.{kind}", kind, address, (Segment(address, data, len(data)),), "")


PC = program("flat", "b001 e6f4", 0x100000)  # mov al, 1; out 0xf4, al
FOREIGN = program("m68k", "33fc 0000 00ff 0002", M68K_LOAD_ADDRESS)  # move.w #0, 0xff0002: power off


def compared_with_a_format(path: Path) -> list[int]:
    """The lines on which a file compares something with the format of 68000 programs."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Compare | ast.MatchValue):
            values = {v.value for v in ast.walk(node) if isinstance(v, ast.Constant)}
            if values & M68K:
                lines.append(node.lineno)
    return lines


def test_the_platform_is_decided_once() -> None:
    """Of all the source, runs/platform.py alone compares a program's format with "m68k"."""
    sources = [path for room in ("app", "lessons", "cores") for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): compared_with_a_format(path) for path in sources}
    assert {name: len(lines) for name, lines in found.items() if lines} == {"cores/runs/platform.py": 1}


@pytest.mark.parametrize(
    ("guest", "kind"), [(PC, LiveSession), (FOREIGN, ForeignSession)], ids=["pc", "m68k"]
)
def test_each_door_leads_to_the_platform(guest: Program, kind: type) -> None:
    """`compare`, `trace` and a session of a program are those of its platform, and run it."""
    options = Options(cores=("interpreter",), ram=2 << 20)
    (core,) = compare(guest, options).cores
    assert (core.available, core.failed) == (True, False)
    *_, last = trace(guest, "interpreter", options, steps=True)
    assert last.stop is core.stop  # type: ignore[union-attr]
    with closing(open_session(guest, options)) as session:
        assert isinstance(session, kind)
        session.run(5.0)
        (machine,) = session.snapshot().machines
        assert machine.stop is core.stop


def test_a_pc_boots_no_program_of_the_other_machine() -> None:
    """A session on the PC that is to go on with a 68000 program refuses it, and keeps its machines."""
    assert protocol_of(PC)
    options = Options(cores=("interpreter",), ram=2 << 20)
    with closing(LiveSession(PC, options)) as session:
        with pytest.raises(InputError, match="a Motorola 68000 program: a PC cannot boot it"):
            session.begin_with(FOREIGN, options)
        session.step()
        assert session.instructions == 1
