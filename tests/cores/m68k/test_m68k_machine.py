"""The 68000 machine as a whole: its platform, its session, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from m68k_lab import RAM, STOP, machine, program, put, run

from app.main import main
from cores.debugging.breakpoints import AtAddress
from cores.inspection.views import MemoryQuery, MemoryView, TablesQuery
from cores.lockstep.options import Options
from cores.m68k.machine import REFUSAL, M68kState
from cores.m68k.session import ForeignSession
from cores.pc.stop import Stop
from cores.time_travel.history import INTERVAL, Past

GENESIS = Path(__file__).resolve().parents[3] / "assets" / "guests" / "genesis.m68k"
HELLO = "13fc 0048 00ff 0000 13fc 0069 00ff 0000 33fc 0000 00ff 0002 60fe"


def test_reset_state() -> None:
    """A reset loads SSP from 0 and PC from 4, in supervisor mode with interrupts masked."""
    with machine("4e71") as m:
        assert (m.bus.read(0, 4), m.bus.read(4, 4)) == (RAM, 0x1000)
        assert dict(zip(m.state_names, m.state(), strict=True)) == {
            **{f"{kind}{i}": 0 for kind in "da" for i in range(8)},
            "a7": RAM, "pc": 0x1000, "sr": 0x2700, "usp": 0, "ssp": RAM,
        }  # fmt: skip


def test_console_and_power_off() -> None:
    """Console bytes appear in order; a write to the power switch ends the machine, and counts."""
    with machine(HELLO) as m:
        run(m)
        assert (m.console(), m.stop, m.vmm.instructions) == ("Hi", Stop.POWEROFF, 3)
        assert m.bus.accesses == 3


def test_stop_halts() -> None:
    """STOP loads SR and halts, since no interrupt can come."""
    with machine("4e72 2015 4e71") as m:
        run(m)
        assert (m.stop, m.cpu.sr, m.cpu.pc, m.vmm.instructions) == (Stop.HALTED, 0x2015, 0x1004, 1)


def test_going_back() -> None:
    """A seek restores registers, RAM and console of any past instruction."""
    with machine("5280 33c0 0000 3000 13c0 00ff 0000 60f0") as m:
        past: Past[M68kState] = Past(m)
        seen = {}
        for n in range(2 * INTERVAL + 100):
            if n % 1777 == 0:
                seen[n] = m.state(), m.bus.read(0x3000, 2), m.console()
            past.step()
        for n in sorted(seen, reverse=True):
            past.seek(n)
            assert (m.state(), m.bus.read(0x3000, 2), m.console()) == seen[n]


def test_session_of_the_interface() -> None:
    """The session steps, steps back, runs to the end and restarts; changes are marked, and impossible
    requests refused."""
    session = ForeignSession(program(HELLO + STOP), Options(ram=RAM))
    try:
        session.step()
        picture = session.snapshot().machines[0]
        assert (picture.console, picture.instructions) == ("H", 1)
        assert picture.code[0].text == "move.b #$48, $ff0000.l"
        session.step_back()
        assert session.snapshot().machines[0].console == ""
        assert session.run(10) is False
        assert session.snapshot().machines[0].stop is Stop.POWEROFF
        session.restart()
        assert session.snapshot().machines[0].stop is None
        assert {reason for _, reason in session.snapshot().unavailable} == {REFUSAL}
    finally:
        session.close()


def test_back_again_before_it_has_got_there() -> None:
    """One step back is counted from the target of a seek under way."""
    session = ForeignSession(program("5280 60fc"), Options(ram=RAM))
    try:
        session.run(60, steps=3000)
        assert not session.seek(2000, 0.0)
        assert session.here == 2000
        session.step_back()
        assert session.snapshot().machines[0].instructions == session.here == 1999
        assert not session.seek(1000, 0.0)
        session.step()
        assert session.here == session.snapshot().machines[0].instructions < 1000
    finally:
        session.close()


def test_breakpoints_and_memory() -> None:
    """A run stops at its breakpoint; memory can be viewed at a register's address; views that only a PC
    has are empty."""
    session = ForeignSession(program("5280 5280 5280" + STOP), Options(ram=RAM))
    try:
        assert session.run(10, frozenset({AtAddress(0x1004)})) is False
        assert session.snapshot().reached == "1004"
        assert session.snapshot().machines[0].registers["pc"] == 0x1004
        view = session.query(MemoryQuery("interpreter", "pc", 16))
        assert isinstance(view, MemoryView)
        assert (view.start, view.target, view.data[:4]) == (0x1000, 0x1004, (0x52, 0x80) * 2)
        assert session.query(TablesQuery("interpreter")) is None
    finally:
        session.close()


def test_disassembly_before_pc_meets_it() -> None:
    """The lines before PC are aligned with the program, also inside long instructions."""
    with machine(HELLO) as m:
        run(m)
        lines = m.snapshot(m.state()).code
        assert [line.address for line in lines][:4] == [0x1000, 0x1008, 0x1010, 0x1018]


def test_compare_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped guest runs on one core, with a 68000's registers; the others give a reason."""
    assert main(["compare", str(GENESIS), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    first, *others = report["cores"]
    assert (report["program"]["format"], report["equivalent"]) == ("m68k", None)
    assert (first["core"], first["stop"], first["exits"]) == ("interpreter", "poweroff", 0)
    assert first["console"].startswith("I am a 68000, and big-endian. I count:\n1 1 2 3 5 8 13")
    assert first["registers"]["d1"] == "0xb520"
    assert list(first["registers"]) == [
        *(f"d{i}" for i in range(8)), *(f"a{i}" for i in range(8)), "pc", "sr", "usp", "ssp",
    ]  # fmt: skip
    assert others
    assert all((c["available"], c["reason"], c["registers"]) == (False, REFUSAL, None) for c in others)


@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
def test_named_cores_refuse(core: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A named core that cannot run it gives exit code 3, by compare and by trace."""
    assert main(["compare", str(GENESIS), "--cores", f"interpreter,{core}"]) == 3
    assert main(["trace", str(GENESIS), "--core", core]) == 3
    captured = capsys.readouterr()
    assert captured.err.count(REFUSAL) == 2


def test_free_mode_ends_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """In free mode console, stop and count are those of exact mode."""
    assert main(["compare", str(GENESIS), "--json", "--free", "--cores", "interpreter"]) == 0
    (core,) = json.loads(capsys.readouterr().out)["cores"]
    assert (core["stop"], core["instructions"]) == ("poweroff", 954)


def test_trace_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """Each step has its bytes, its text, and its changes."""
    arguments = ["trace", str(GENESIS), "--core", "interpreter", "--steps", "--json", "--budget", "200"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == {
        "n": 1, "rip": "0x1004", "bytes": "1018", "asm": "move.b (a0)+, d0",
        "changed": {"d0": "0x49", "a0": "0x105d", "pc": "0x1006"},
    }  # fmt: skip
    call = next(line for line in lines if line["asm"].startswith("bsr"))
    assert call["changed"]["mem:0xfefffc"] == "0000101a"
    assert len(lines) == 200


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"\x4e\x71" * 0x800000, "too big")], ids=["empty", "big"]
)
def test_bad_files(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad file gives one line with its name and the reason, and exit code 2."""
    path = tmp_path / "bad.m68k"
    path.write_bytes(content)
    assert main(["compare", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"bad.m68k: {words}" in error
    assert len(error.splitlines()) == 1


def test_an_odd_number_of_bytes_and_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of one byte, and one of all ones, end in the guest's exceptions, reported in words."""
    for name, content, words in (
        ("one.m68k", b"\x4e", "illegal instruction"), ("ones.m68k", b"\xff" * 64, "line F instruction"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert main(["compare", str(tmp_path / name), "--json"]) == 0
        first = json.loads(capsys.readouterr().out)["cores"][0]
        assert first["stop"] == "shutdown"
        assert words in first["reason"]


def test_an_odd_pc() -> None:
    """A jump to an odd address is an address error of the fetch."""
    with machine("4ef9 0000 1007") as m:
        run(m)
        assert m.stop is Stop.SHUTDOWN
        assert "address error (fetch of 0x1007)" in m.vmm.reason


def test_ram_may_be_large() -> None:
    """RAM beyond the 0xFF0000 bytes that a 68000 can address is absent."""
    from cores.m68k.machine import M68kMachine

    m = M68kMachine(program("4e71"), ram=64 << 20)
    try:
        assert m.cpu.ssp == 0xFF0000
        put(m, 0xFEFFFE, "1234")
        assert m.bus.read(0xFEFFFE, 2) == 0x1234
    finally:
        m.close()
