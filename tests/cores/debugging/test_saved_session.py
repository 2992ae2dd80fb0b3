"""Saved sessions: written, read back, and refused when damaged."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

import pytest
from machine_lab import require

from cores.debugging import value_file
from cores.debugging.live_session import LiveSession
from cores.debugging.plain_values import plain
from cores.debugging.saved_session import MAGIC, is_saved, reopen, save
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.pc.devices.storage.disk import SECTOR
from cores.pc.ram import CHUNK
from cores.pc.ram_image import RamImage
from cores.programs.loader import assemble_program, load_program

COUNTER = b"""
_start: mov ecx, 40
again:  mov al, 'x'
        out 0xe9, al
        movd xmm0, ecx
        push rcx
        loop again
        xor eax, eax
        out 0xf4, al
"""
OPTIONS = Options(cores=("interpreter", "trap:portable"), ram=4 << 20)


TYPING = b"""
_start: xor ebx, ebx
wait:   in al, 0x64
        inc ebx
        test al, 1
        jz wait
        in al, 0x60
        out 0xe9, al
        jmp wait
"""
WRITES_SECTOR_2 = b"""
_start: mov al, 1
        mov dx, 0x1f2
        out dx, al
        inc al
        inc edx
        out dx, al
        mov al, 0xe0
        mov dx, 0x1f6
        out dx, al
        mov al, 0x30
        inc edx
        out dx, al
        mov ecx, 256
        lea rsi, [rip + written]
        mov dx, 0x1f0
        rep outsw
        mov al, 'd'
again:  out 0xe9, al
        jmp again
written: .space 512, 0x77
"""
SPIN = b"again: inc rax\njmp again"


def opened(source: bytes = COUNTER, options: Options = OPTIONS) -> LiveSession:
    return LiveSession(assemble_program(source, "counter.s", options.ram), options)


def consoles(session: LiveSession) -> set[str]:
    return {machine.console() for machine in session.machines}


def content(session: LiveSession, path: Path) -> Any:
    """The plain values of the session's file: tuples in the order of the dataclasses' fields."""
    save(session, str(path))
    return value_file.read(io.BytesIO(path.read_bytes()[len(MAGIC) :]))


def rewrite(path: Path, values: object) -> str:
    with path.open("wb") as file:
        file.write(MAGIC)
        value_file.write(file, values)  # type: ignore[arg-type]
    return str(path)


def put(values: Any, at: tuple[object, ...], new: Callable[[Any], object]) -> Any:
    """The same values with one replaced, at this path: numbers index tuples, keys dictionaries."""
    if not at:
        return new(values)
    if isinstance(values, dict):
        return values | {at[0]: put(values[at[0]], at[1:], new)}
    return tuple(put(v, at[1:], new) if i == at[0] else v for i, v in enumerate(values))


def places(values: Any) -> list[tuple[object, ...]]:
    """The paths to all values and containers."""
    parts: Any = ()
    if isinstance(values, dict):
        parts = values.items()
    elif isinstance(values, tuple):
        parts = enumerate(values)
    return [(), *((key, *at) for key, value in parts for at in places(value))]


def ends(session: LiveSession) -> list[object]:
    while session.run(5):
        pass
    return [
        (m.report().console, m.report().memory_sha256, m.engine.read_fpu()) for m in session.machines
    ]


def test_a_session_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    """A session saved in the middle and reopened ends as the uninterrupted one."""
    path = str(tmp_path / "counter.ringscope")
    with closing(opened()) as session:
        session.go_to(61)
        save(session, path)
        assert is_saved(path)
        expected = ends(session)
    with closing(reopen(path)) as session:
        assert [m.instructions for m in session.snapshot().machines] == [61, 61]
        assert ends(session) == expected
        assert session.snapshot().divergence is None


def test_a_session_is_no_program(tmp_path: Path) -> None:
    """compare refuses the file of a session by its kind, and does not run its bytes."""
    path = tmp_path / "later.ringscope"
    path.write_bytes(MAGIC + b"x")
    with pytest.raises(InputError, match="a saved session, not a program"):
        load_program(str(path))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"x",
        MAGIC,
        MAGIC + b"junk",
        MAGIC + zlib.compress(b"junk"),
        MAGIC + zlib.compress(b"N"),
        MAGIC + zlib.compress(b"Nx"),
        MAGIC + zlib.compress(b"N") + b"x",
        MAGIC + zlib.compress(b"N" * 1000)[:-1],
        MAGIC + zlib.compress(b"i\x09" + b"\xff" * 9),
        MAGIC + zlib.compress(b"i\x40" + b"\x01" * 64),
        MAGIC + zlib.compress(b"s" + (2).to_bytes(8, "little") + b"\xff\xff"),
        MAGIC + zlib.compress(b"d\x01\0\0\0" + b"t\0\0\0\0N"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damaged: bytes) -> None:
    """A file that is no session gives one sentence, never a traceback."""
    path = tmp_path / "bad.ringscope"
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="session") as caught:
        reopen(str(path))
    assert len(caught.value.reason.splitlines()) == 1
    assert caught.value.reason.removeprefix("a damaged session:").strip()


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """The format names no code; the pickles of version 1 are refused unread."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("1/0",))

    path = tmp_path / "evil.ringscope"
    packed = zlib.compress(pickle.dumps(Evil()))
    path.write_bytes(b"Ringscope session 1\n" + packed)
    with pytest.raises(InputError, match="saved by another version of Ringscope"):
        reopen(str(path))
    path.write_bytes(MAGIC + packed)
    with pytest.raises(InputError, match="a value of an unknown kind"):
        reopen(str(path))


BOMBS = {
    "objects": (b"t\xff\xff\xff\xff" + b"N" * 20_000_000, "more values than a session can have"),
    "small tuples": (b"t\0\0\0\1" + b"t\1\0\0\0N" * 4_000_000, "more values"),
    "a table": (b"d\0\0\0\1" + b"iA" * 1000, "more values"),
    "depth": (b"t\1\0\0\0" * 5_000, "more values"),
    "a number": (b"i\xff" + bytes(255), "a number of more than 64 bits"),
    "bytes": (b"b" + (1 << 62).to_bytes(8, "little") + bytes(1000), "unpacks to more"),
    "bytes that are not there": (b"b" + (1 << 20).to_bytes(8, "little") + bytes(9), "it ends too soon"),
    "text that is not there": (b"s" + (1 << 30).to_bytes(8, "little") + b"x", "it ends too soon"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_of_many_values(bomb: str, tmp_path: Path) -> None:
    """Values, containers and nesting are bounded, not only bytes: 1.5 MB once took 4.4 GB."""
    path = tmp_path / "bomb.ringscope"
    content, reason = BOMBS[bomb]
    path.write_bytes(MAGIC + zlib.compress(content))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=reason):
            reopen(str(path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 256 << 20


def test_as_many_values_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound counts the values in all containers together."""
    monkeypatch.setattr(value_file, "MOST_VALUES", 7)
    for value, lawful in (((1, (2, 3), {"a": 4}), False), ((1, (2,), {"a": 4}), True)):
        file = io.BytesIO()
        value_file.write(file, value)
        file.seek(0)
        if lawful:
            assert value_file.read(file) == value
        else:
            with pytest.raises(ValueError, match="more values"):
                value_file.read(file)


def test_typed_text_comes_once(tmp_path: Path) -> None:
    """Text typed before the save is part of the state and is not typed again; text still to come, after
    going back, is typed."""
    path = str(tmp_path / "typed.ringscope")
    with closing(opened(TYPING)) as session:
        session.go_to(61)
        session.key("a")
        save(session, path)
        session.go_to(400)
        (expected,) = consoles(session)
        assert len(expected) == 2
        session.go_to(30)
        save(session, f"{path}.back")
    for name, places in ((path, (400, 61, 400)), (f"{path}.back", (400, 30, 400))):
        with closing(reopen(name)) as session:
            for place in places:
                session.go_to(place)
            assert consoles(session) == {expected}


def test_the_past_begins_where_it_was_saved(tmp_path: Path) -> None:
    """Going back beyond the save is refused in words, and the machines stay where they are."""
    path = str(tmp_path / "counter.ringscope")
    with closing(opened()) as session:
        session.go_to(61)
        save(session, path)
    with closing(reopen(path)) as session:
        session.go_to(70)
        with pytest.raises(InputError, match="begins at instruction 61"):
            session.go_to(60)
        assert session.here == 70
        session.go_to(61)
        session.step()
        assert session.snapshot().divergence is None


def test_a_session_on_the_way_is_saved_at_one_instruction(tmp_path: Path) -> None:
    """During a seek that is cut short the file has all machines at one instruction."""
    path = str(tmp_path / "spin.ringscope")
    with closing(opened(SPIN)) as session:
        session.run(60, steps=12_000)
        assert not session.seek(7_777, 0.0)
        session.machines[0].step()
        save(session, path)
    with closing(reopen(path)) as session:
        assert len({m.instructions for m in session.snapshot().machines}) == 1
        session.step()
        assert session.snapshot().divergence is None


def test_a_free_session_stays_uncounted(tmp_path: Path) -> None:
    """A free run that has no count has none after saving and reopening."""
    require("trap:native")
    path = str(tmp_path / "free.ringscope")
    with closing(opened(SPIN, Options(cores=("trap:native",), ram=4 << 20))) as session:
        session.run_free(0.02)
        before = session.snapshot().machines[0]
        save(session, path)
    with closing(reopen(path)) as session:
        after = session.snapshot().machines[0]
        assert session.mode == "free"
        assert before.instructions is after.instructions is None
        assert (before.notes, before.registers) == (after.notes, after.registers)


def test_a_disk_is_never_written_to(tmp_path: Path) -> None:
    """A reopened session writes to no disk image, whatever the file says; what the guest had written is
    still there for it."""
    disk, path = tmp_path / "disk.img", tmp_path / "disk.ringscope"
    blank = bytes(4 * SECTOR)
    disk.write_bytes(blank)
    options = Options(cores=("interpreter",), ram=4 << 20, disks=(str(disk),), disk_write=True)
    with closing(opened(WRITES_SECTOR_2, options)) as session:
        values = content(session, path)
        while not session.machines[0].console():
            session.step()
        assert disk.read_bytes()[2 * SECTOR : 3 * SECTOR] == b"w" * SECTOR
        save(session, str(path))
    disk.write_bytes(blank)
    with closing(reopen(str(path))) as session:
        (machine,) = session.machines
        assert machine.board.disks
        assert machine.board.disks[0].read(2, 1) == b"w" * SECTOR
        assert disk.read_bytes() == blank
    evil = put(values, (*BOARD, 5), lambda _: ({0: b"e" * SECTOR},))
    with closing(reopen(rewrite(path, evil))) as session:
        while "d" not in session.machines[0].console():
            session.step()
        session.go_to(3)
        session.restart()
        session.go_to(300)
    assert disk.read_bytes() == blank


# Where things stand in a file: SavedSession, SavedMachine, MachineState, VirtualCpu, BoardState
PROGRAM, OPTION, MACHINES = (0,), (1,), (4,)
RAM_OPTION = [field.name for field in fields(Options)].index("ram")
STATE, RAM = (4, 0, 1), (4, 0, 2)
CPU, BOARD = (*STATE, 0), (*STATE, 2)
DEVICES = (*BOARD, 6)


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (STATE, 5),
        (MACHINES, 5),
        (MACHINES, ()),
        ((*MACHINES, 0, 0), "interpretor"),
        ((*MACHINES, 0, 0), "trap:portable"),
        (RAM, "x"),
        (RAM, {0: b"short"}),
        (RAM, {8: b""}),
        (RAM, {4 << 20: b""}),
        (RAM, {-CHUNK: b""}),
        ((*OPTION, RAM_OPTION), 3 << 30),
        ((*OPTION, RAM_OPTION), "x"),
        ((*OPTION, RAM_OPTION + 1), 5),
        ((*CPU, 0), ("x",) * 16),
        ((*CPU, 0), (1, 2, 3)),
        ((*CPU, 0), (1 << 64,) * 16),
        ((*CPU, 1), -1),
        ((*CPU, 3), ()),
        ((*STATE, 1), b"too short"),
        ((*BOARD, 2), ("never", None)),
        ((*BOARD, 4), (b"", True)),
        ((*BOARD, 5), ({0: b"no sector"},)),
        (DEVICES, ()),
        ((*DEVICES, 0), {"read": 5}),
        ((*DEVICES, 0, "base"), 0x1234),
        ((*DEVICES, 2, "irr"), (5,)),
        ((*DEVICES, 4, "counters"), ((2, 3, False, 0, 0, None, False, b"", None),) * 3),
        ((*DEVICES, 7, "strokes"), ((("no such key", True),),)),
        ((*DEVICES, 6, "ier"), 0x158),
        ((2,), "exactly"),
        ((3,), 5),
        ((3,), ((1, "text"),)),
        ((*PROGRAM, 3), ()),
        ((*PROGRAM, 3), ((1 << 40, b"", 5),)),
        ((*PROGRAM, 3), ((-8, b"12345678", 8),)),
        ((*PROGRAM, 3), ((1 << 20, b"12345678", 7),)),
    ],
    ids=str,
)
def test_a_changed_file_is_refused(tmp_path: Path, at: tuple[object, ...], new: object) -> None:
    """A value of a wrong type or range gives one sentence that names the file."""
    path = tmp_path / "changed.ringscope"
    with closing(opened()) as session:
        values = content(session, path)
    with pytest.raises(InputError, match=r"changed\.ringscope: a damaged session: [^\n]+$"):
        reopen(rewrite(path, put(values, at, lambda _: new)))


def test_a_file_is_as_large_as_what_was_touched(tmp_path: Path) -> None:
    """Two equal machines of 1 GiB take less than 1 MiB before compression, and are restored whole."""
    path = tmp_path / "large.ringscope"
    options = Options(cores=("interpreter", "trap:portable"), ram=1 << 30)
    with closing(LiveSession(assemble_program(COUNTER, "counter.s", options.ram), options)) as session:
        session.step()
        before = [RamImage.of(machine.ram) for machine in session.machines]
        values = content(session, path)
    assert len(pickle.dumps(values)) < 1 << 20
    with closing(reopen(str(path))) as again:
        assert [RamImage.of(machine.ram) for machine in again.machines] == before


def test_any_change_is_refused_or_runs(tmp_path: Path) -> None:
    """A file with random changes is refused, or can be stepped, run, viewed and saved again."""
    path = tmp_path / "changed.ringscope"
    random = Random(11)
    with closing(opened(TYPING)) as session:
        session.key("ab")
        session.go_to(30)
        values = content(session, path)
    wrong = (None, 5, -1, 1 << 63, 1 << 70, "x", b"x" * 513, (), (1, 2), {1: 2}, True, 1.5)
    everywhere, refused = places(values), 0
    for _ in range(60):
        at = random.choice(everywhere)
        new = random.choice((*wrong, random.getrandbits(64), random.getrandbits(8)))
        try:
            session = reopen(rewrite(path, put(values, at, lambda _, new=new: new)))
        except InputError:
            refused += 1
            continue
        with closing(session):
            session.run(5, steps=60)
            session.snapshot()
            save(session, str(path))
    assert refused > 20


def test_every_state_is_as_it_was_in_the_file(tmp_path: Path) -> None:
    """Every state is equal after it is written and read."""
    path = str(tmp_path / "whole.ringscope")
    with closing(opened(TYPING)) as session:
        session.go_to(61)
        session.key("aB")
        session.go_to(90)
        before = [(m.save(), bytes(m.memory.view[: m.memory.size])) for m in session.machines]
        save(session, path)
    with closing(reopen(path)) as session:
        after = [(m.save(), bytes(m.memory.view[: m.memory.size])) for m in session.machines]
    assert plain(after) == plain(before)
    assert after == before
