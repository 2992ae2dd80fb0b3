"""A live session on real engines: breakpoints, edits, seeks, views."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cores.debugging import breakpoints
from cores.debugging import edits as poke
from cores.debugging import live_session as live
from cores.debugging.live_session import LiveSession
from cores.engines import registry
from cores.errors import InputError
from cores.inspection.page_tables import PagingView
from cores.inspection.tables_devices import TablesView
from cores.inspection.views import (
    EventsQuery,
    EventsView,
    MemoryQuery,
    MemoryView,
    PagingQuery,
    TablesQuery,
)
from cores.lockstep.options import Options
from cores.pc.network.spec import NetSpec
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program, load_program
from cores.programs.shipped import guests

CORES = tuple(
    core for core in ("interpreter", "trap:portable") if registry.availability(core).available
)
TRAP = "trap:portable"
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="Unicorn is not installed")


def opened(guest: str) -> LiveSession:
    path = next(path for path in guests() if path.stem == guest)
    return LiveSession(load_program(str(path), 16 << 20), Options(cores=CORES))


@pytest.fixture
def session() -> Iterator[LiveSession]:
    session = opened("tour")
    yield session
    session.close()


def states(session: LiveSession) -> list[tuple[int, ...]]:
    return [machine.cpu.state() for machine in session.machines]


@pytest.mark.parametrize("words", ["100061", "on msr", "rsi = 11050", "on exit", "zf = 1"])
def test_a_run_stops_where_it_was_told(session: LiveSession, words: str) -> None:
    """A run stops at its breakpoint on all machines before the end, and does not stop there again at
    once."""
    point = frozenset({breakpoints.parse(words, session.program.symbols)})
    assert not session.run(30, point)
    snapshot = session.snapshot()
    assert snapshot.reached
    assert all(m.stop is None for m in snapshot.machines)
    here = snapshot.machines[0].instructions
    session.run(30, point)
    assert session.snapshot().machines[0].instructions != here


def test_every_event_can_be_had_again(session: LiveSession) -> None:
    """The view of an exit shows what it changed; afterwards the machines are where they were."""
    session.run(30)
    before = states(session)
    view = session.query(EventsQuery(TRAP, 0, 1000))
    assert isinstance(view, EventsView)
    assert len(view.events) == view.total > 20
    for number, event in enumerate(view.events):
        around = session.around(TRAP, number)
        assert around is not None
        changes = {name: (old, new) for name, old, new in around.changes}
        if event.reason.value == "descriptor" and "gdtr = " in event.detail and "rip" in changes:
            assert changes["rip"][0] == event.rip
    assert states(session) == before
    assert session.snapshot().divergence is None


def test_a_poke_belongs_to_the_past(session: LiveSession) -> None:
    """Edited alike, the machines agree; going back and forth applies the same edit again."""
    for _ in range(5):
        session.step()
    session.poke(poke.parse("r15 = 1234", {}))
    session.poke(poke.parse('20000 = "hi"', {}))
    for _ in range(10):
        session.step()
    then = states(session)
    assert session.snapshot().machines[0].registers["r15"] == 0x1234
    session.go_to(2)
    assert session.snapshot().machines[0].registers["r15"] == 0
    session.go_to(15)
    assert states(session) == then
    assert session.snapshot().divergence is None
    memory = session.query(MemoryQuery(TRAP, 0x20000, 16))
    assert isinstance(memory, MemoryView)
    assert bytes(b or 0 for b in memory.data[:2]) == b"hi"


def test_one_machine_poked_alone_parts_from_the_others(session: LiveSession) -> None:
    """An edit of one machine is a divergence at the next step."""
    session.step()
    session.poke(poke.parse("r15 = 1", {}), TRAP)
    session.step()
    divergence = session.snapshot().divergence
    assert divergence is not None
    assert divergence.differs == ("r15",)


@pytest.mark.parametrize("words", ["cr3 = 0", "rax", "rax = zz", "[cr3] = 00", "0 = 00", "20000 = 1"])
def test_a_poke_that_cannot_be(session: LiveSession, words: str) -> None:
    """An impossible edit is refused in words, and changes nothing."""
    before = states(session)
    with pytest.raises(InputError):
        session.poke(poke.parse(words, session.program.symbols))
    assert states(session) == before


def test_a_way_back_may_be_broken_off() -> None:
    """A seek that is cut short leaves all machines at one instruction, and they go on equal."""
    session = opened("primes")
    try:
        session.run(30, steps=12_000)
        assert not session.seek(9_500, 0.0)
        assert session.snapshot().progress is not None
        session.step()
        counts = {m.instructions for m in session.snapshot().machines}
        assert len(counts) == 1
        session.go_to(12_500)
        snapshot = session.snapshot()
        assert {m.instructions for m in snapshot.machines} == {12_500}
        assert snapshot.divergence is None
        assert snapshot.compared >= 12_500
    finally:
        session.close()


def test_back_again_before_it_has_got_there() -> None:
    """One step back, and the exit before, are counted from the target of a seek under way."""
    session = opened("primes")
    try:
        session.run(30, steps=12_000)
        session.go_to(9_500)
        expected = session.exit_before()
        session.go_to(12_000)
        assert not session.seek(9_500, 0.0)
        assert session.here == 9_500
        assert session.exit_before() == expected
        assert session.here == 9_500
    finally:
        session.close()


def test_looking_around_an_exit_changes_nothing() -> None:
    """After the view of an exit, stopped machines are still stopped, and the log of later exits is
    whole."""
    source = b"a: mov ecx, 30\nw: loop w\nmov al, 65\nout 0xe9, al\ninc ebx\ncmp ebx, 400\njne a\nud2"
    session = LiveSession(assemble_program(source, "ends.s", 16 << 20), Options(cores=CORES))
    try:
        while session.run(30):
            pass
        trace = session.machines[1].vmm.trace
        before = session.snapshot(), len(trace.events), trace.by_address.copy()
        assert {m.stop for m in before[0].machines} == {Stop.SHUTDOWN}
        assert session.around(TRAP, 3) is not None
        trace = session.machines[1].vmm.trace
        after = session.snapshot(), len(trace.events), trace.by_address.copy()
        assert after[1:] == before[1:]
        assert after[0].machines == before[0].machines
    finally:
        session.close()


def test_a_restart_that_cannot_be(tmp_path: Path) -> None:
    """A restart without the disk's file is refused, and the session is unchanged."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(4096))
    path = next(path for path in guests() if path.stem == "hello")
    options = Options(cores=CORES, disks=(str(disk),))
    session = LiveSession(load_program(str(path), 16 << 20), options)
    try:
        session.go_to(5)
        before = session.snapshot().machines
        disk.unlink()
        with pytest.raises(InputError, match="no such disk"):
            session.restart()
        assert session.snapshot().machines == before
        session.step()
        assert {m.instructions for m in session.snapshot().machines} == {6}
    finally:
        session.close()


def test_what_has_changed_on_the_way_to_an_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for an exit shows all changes since it began, however many slices it takes."""
    session = opened("hello")
    try:
        session.next_exit(limit=30)
        begin = session.here
        session.next_exit(limit=30)
        expected = [m.changed for m in session.snapshot().machines]
        assert "rsi" in expected[0]
        session.go_to(begin)
        clock = itertools.count()
        monkeypatch.setattr(live, "perf_counter", lambda: next(clock))
        slices = 1
        while not session.next_exit(limit=2):
            slices += 1
        assert slices > 1
        assert [m.changed for m in session.snapshot().machines] == expected
    finally:
        session.close()


def test_page_tables_beside_the_shadow() -> None:
    """For two tasks with tables of their own the view shows the guest's mappings and the host's."""
    session = opened("tasks")
    try:
        for _ in range(25):
            session.next_exit(limit=5)
        view = session.query(PagingQuery(TRAP, "rip"))
        assert isinstance(view, PagingView)
        assert view.complete
        assert view.gpa is not None
        assert any(sum(r.shadowed) for r in view.ranges)
        tables = session.query(TablesQuery(TRAP))
        assert isinstance(tables, TablesView)
        assert any("cs" in entry.used for entry in tables.segments)
        assert tables.gates
        alone = session.query(PagingQuery("interpreter", "rip"))
        assert isinstance(alone, PagingView)
        assert alone.shadow is None
    finally:
        session.close()


WAITS = """
start:  lea     rax, [rip + on_key]
        mov     [idt + 0x210], ax
        mov     word ptr [idt + 0x212], 0x10
        mov     word ptr [idt + 0x214], 0x8e00
        shr     rax, 16
        mov     [idt + 0x216], ax
        lidt    [rip + idtr]
        mov     al, 0x11
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xfd
        out     0x21, al
wait:   sti
        hlt
        jmp     wait
on_key: in      al, 0x60
        out     0xe9, al
        mov     al, 0x20
        out     0x20, al
        iretq
idtr:   .word   0xfff
        .quad   0x200000
"""


def test_a_guest_without_a_timer_waits_for_a_key() -> None:
    """A guest that sleeps until a key comes has halted, says that it awaits one, and a key wakes it."""
    source = WAITS.replace("idt +", "0x200000 +").encode()
    session = LiveSession(assemble_program(source, "waits.s"), Options(cores=CORES, ram=4 << 20))
    try:
        assert session.run(30) is False
        assert {m.stop for m in session.snapshot().machines} == {Stop.HALTED}
        assert all(m.awaits_key for m in session.snapshot().machines)
        session.key("a")
        assert not any(m.awaits_key for m in session.snapshot().machines)
        session.run(30)
        snapshot = session.snapshot()
        assert [m.console for m in snapshot.machines] == ["\x1e\x9e"] * len(CORES)
        assert snapshot.divergence is None
        assert all(m.awaits_key for m in snapshot.machines)
        session.step_back()
        assert session.instructions > 0
    finally:
        session.close()


def test_a_guest_that_spins_takes_keys() -> None:
    """A guest with the keyboard's interrupt on takes keys, though it never sleeps and asks for none, as
    long as it has read the last."""
    source = WAITS.replace("idt +", "0x200000 +").replace("hlt", "nop\n jmp $ - 1").encode()
    session = LiveSession(
        assemble_program(source, "spins.s"), Options(cores=("interpreter",), ram=4 << 20)
    )
    try:
        assert not session.snapshot().machines[0].takes_keys  # its interrupt is still off
        session.run(30, steps=400)
        (m,) = session.snapshot().machines
        assert (m.takes_keys, m.awaits_key, m.stop) == (True, False, None)
        session.key("a")
        assert not session.snapshot().machines[0].takes_keys
    finally:
        session.close()


POLLS = """
start:  in      al, 0x64
        test    al, 1
        jz      start
        in      al, 0x60
        out     0xe9, al
        jmp     start
"""


def test_a_guest_that_polls_waits_for_a_key() -> None:
    """A guest that never sleeps, and reads the keyboard's status again and again, awaits a key, too;
    while it reads one it does not."""
    session = LiveSession(
        assemble_program(POLLS.encode(), "polls.s"), Options(cores=("interpreter",), ram=4 << 20)
    )
    try:
        session.run(30, steps=50)
        assert not session.snapshot().machines[0].awaits_key
        session.run(30, steps=2_000)
        assert session.snapshot().machines[0].awaits_key
        session.key("a")
        session.run(30, steps=20)
        (m,) = session.snapshot().machines
        assert (m.console, m.awaits_key) == ("\x1e\x9e", False)
    finally:
        session.close()


def test_a_breakpoint_is_met_once() -> None:
    """Where the machines go back for what a stretch had them differ in, undefined flags in a checksum,
    breakpoints that they have passed before do not stop them again."""
    if not registry.availability("trap:native").available:
        pytest.skip("the stand-in leaves flags as the interpreter does")
    cores = ("interpreter", "trap:native")
    path = next(path for path in guests() if path.stem == "ping")
    program = load_program(str(path), None)
    stops = frozenset({breakpoints.AtAddress(program.symbols["next"])})
    met = []
    with closing(LiveSession(program, Options(cores=cores, nets=(NetSpec("user"),)))) as session:
        for _ in range(9):
            session.run(60.0, stops)
            if not session.snapshot().reached:
                break
            met.append(session.instructions)
    assert met == sorted(set(met))
    assert len(met) == 4
