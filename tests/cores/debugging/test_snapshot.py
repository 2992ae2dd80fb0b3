"""What a snapshot carries for the session screen: exits by address, old values, what the CPU holds."""

from __future__ import annotations

from contextlib import closing

import pytest

from cores.debugging.live_session import LiveSession
from cores.engines import registry
from cores.inspection.snapshot import Marks, Sites
from cores.lockstep.options import Options
from cores.machine.report import MachineSnapshot
from cores.programs.loader import assemble_program
from cores.vmm.trace import Site, Trace
from cores.x86.isa.instruction import Reason

SOURCE = b"""_start: mov eax, 65   # a letter
        out 0xe9, al
        inc ebx
        out 0xe9, al
        jmp _start
text:   .byte 1, 2, 3
"""
OUT, INC = 0x100005, 0x100007
CORES = tuple(
    core
    for core in ("interpreter", "trap:portable", "trap:native")
    if registry.availability(core).available
)
needs_cores = pytest.mark.skipif(len(CORES) < 2, reason="only one core runs here")


def session(*cores: str) -> LiveSession:
    return LiveSession(assemble_program(SOURCE, "letters.s", 16 << 20), Options(cores=cores or CORES))


def on(s: LiveSession, core: str) -> MachineSnapshot:
    return next(m for m in s.snapshot().machines if m.core == core)


@needs_cores
def test_exits_by_address_follow_the_machine_back_and_on() -> None:
    """Each address has its exits and their time; going back takes them away, going on gives them."""
    core = CORES[-1]
    with closing(session()) as s:
        s.go_to(4)
        m = on(s, core)
        assert {at: site.own for at, site in m.sites.items()} == {OUT: 1, 0x100009: 1}
        assert sum(site.ns for site in m.sites.values()) == sum(m.ns_by_reason.values()) > 0
        s.go_to(1)
        assert not on(s, core).sites
        s.go_to(12)
        assert on(s, core).sites[OUT].own == 3
        assert not on(s, "interpreter").sites


@needs_cores
def test_what_was_done_and_what_it_changed() -> None:
    """The last instruction is known after a step, forwards and backwards; old values count from where
    the user stopped."""
    with closing(session()) as s:
        assert on(s, CORES[0]).done is None
        s.step()
        s.step()
        s.step()
        m = on(s, CORES[0])
        assert m.done is not None
        assert (m.done.address, m.done.text) == (INC, "inc ebx")
        assert m.before["rbx"] == 0
        assert "rax" not in m.before
        assert s.snapshot().since == 2
        s.go_to(1)
        done = on(s, CORES[0]).done
        assert done is not None
        assert done.text == "mov eax, 0x41"
        s.go_to(8)
        assert on(s, CORES[0]).before == {"rbx": 0}
        assert s.snapshot().since == 1


@needs_cores
def test_the_listing_has_every_line_of_the_source() -> None:
    """Each line that makes code or data is in it, with its kind."""
    with closing(session()) as s:
        snapshot = s.snapshot()
        kinds = [snapshot.listing[at].kind for at in sorted(snapshot.listing)]
        assert kinds == ["direct", "privileged", "direct", "privileged", "direct", "data"]
        assert snapshot.source[snapshot.lines[OUT] - 1].strip() == "out 0xe9, al"


@pytest.mark.skipif("trap:native" not in CORES, reason="trap:native does not run here")
def test_what_the_cpu_really_holds() -> None:
    """While the guest believes to be in ring 0 with interrupts off, the CPU has ring 3, and IF set. At
    an exit the registers that the host's kernel holds are still those before the instruction."""
    with closing(session("trap:native")) as s:
        s.go_to(2)
        m = on(s, "trap:native")
        assert m.real is not None
        assert (m.ring, m.registers["cs"], m.registers["rflags"] >> 9 & 1) == (0, 0x10, 0)
        assert (m.real["cs"] & 3, m.real["rflags"] >> 9 & 1) == (3, 1)
        assert (m.registers["rip"], m.real["rip"], m.real["rax"]) == (INC, OUT, 65)
        assert m.tables["gdtr"] == 0x11000


def events(trace: Trace, count: int) -> None:
    for n in range(count):
        trace.left()
        trace.record(n, 0x1000 + n % 2, b"\xf4", Reason.IRQ if n % 3 == 0 else Reason.HLT, "", "", 0)
        trace.close()


def test_sites_count_by_what_met_the_guest() -> None:
    """Interrupts from outside are counted apart; a rewind takes back what came after it."""
    trace, sites = Trace(), Sites()
    events(trace, 6)
    mark = trace.mark()
    found = sites.update(trace)
    assert [(site.own, site.outside, site.hidden) for site in found.values()] == [(2, 1, 0), (2, 1, 0)]
    events(trace, 6)
    sites.update(trace)
    trace.rewind(mark)
    assert sites.update(trace) == found
    assert isinstance(found[0x1000], Site)


def test_marks_say_how_many_instructions_they_stand_for() -> None:
    """However thinned out, the counts are those of the instructions that exited."""
    trace, marks = Trace(), Marks()
    events(trace, 5_000)
    marks.update([trace])
    assert sum(marks.counts) == 5_000
    assert len(marks.taken) == len(marks.counts) <= 2048
    marks.update([trace])
    assert sum(marks.counts) == 5_000
