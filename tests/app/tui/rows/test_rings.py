"""The texts about rings follow the way in which the machine executes the guest's ring 0."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.text.lesson import view
from app.text.marks import Mark, mark
from app.tui.lanes import facts
from app.tui.lanes.compose import picture
from app.tui.lanes.program import lane_signs, listing
from app.tui.lanes.reasons import log_row
from app.tui.lanes.scene import Scene, all_lanes
from app.tui.lanes.tips import lane_tip, ring_tip, tip
from app.tui.lanes.track import GUEST, KERNEL, levels, track
from app.tui.lanes.ways import told
from app.tui.rows.inspection import paging_rows
from app.tui.rows.rings import ring_rows
from app.tui.rows.rows import Row
from cores.engines.base import RingZero
from cores.inspection.page_tables import PagingView
from cores.machine.report import CodeLine, MachineSnapshot, SessionSnapshot, direct_share
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Reason

CLI = CodeLine(0x100000, b"\xfa", "cli", "", "privileged", 0)
NOP = CodeLine(0x100001, b"\x90", "nop", "", "direct", 0)
OUT = CodeLine(0x100002, b"\xe6\xe9", "out 0xe9, al", "", "privileged", 0)
HLT = CodeLine(0x100004, b"\xf4", "hlt", "", "privileged", 0)


def machine(ring_zero: RingZero, ring: int = 0, core: str = "kvm") -> MachineSnapshot:
    real = {RingZero.GUEST_MODE: ring, RingZero.INTERPRETED: 3 if ring == 3 else None}
    return MachineSnapshot(
        core=core, engine="", label="", where="", registers={"rip": 0x100001}, changed=frozenset(),
        ring=ring, real_ring=real.get(ring_zero), instructions=100, exits=10, exits_by_reason={},
        device_accesses=0, bridged=0, console="", screen=None, stop=None, reason="", exit_status=None,
        code=(CLI, NOP, OUT, HLT), events=(), notes=(), ring_zero=ring_zero, nested_paging=None,
    )  # fmt: skip


def screen(m: MachineSnapshot) -> str:
    """The session screen of a machine."""
    snapshot = SessionSnapshot(0, "", "exact", False, 0, None, (m,), ())
    scene = Scene(snapshot, 200, 60, all_lanes(snapshot))
    return text([line for rows in picture(scene).rows.values() for line in rows])


def text(rows: list[Row] | tuple[Row, ...]) -> str:
    return "\n".join("".join(part for part, _ in line) for line in rows)


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize("ring_zero", [RingZero.INTERPRETED, RingZero.UNKNOWN])
def test_guest_mode_is_claimed_only_where_there_is_one(ring_zero: RingZero, ring: int) -> None:
    """On a KVM without hardware support no title, ring, tooltip, view or mark mentions hardware guest
    mode."""
    m = machine(ring_zero, ring)
    snapshot = SessionSnapshot(0, "", "exact", False, 0, None, (m,), ())
    told = [
        screen(m),
        ring_tip(m),
        text(ring_rows((m,), "kvm", {}, 80)),
        "\n".join(view("rings", snapshot)),
    ]
    assert not any("guest mode" in words for words in told)


def test_hardware_is_called_by_its_name() -> None:
    """Where the CPU executes ring 0 in guest mode, each of these texts says so."""
    m = machine(RingZero.GUEST_MODE)
    for words in ("this CPU, in guest mode", "real, in guest mode", "this CPU's guest state"):
        assert words in screen(m)
    assert "guest mode" in ring_tip(m)
    rings = text(ring_rows((m,), "kvm", {}, 80))
    assert "guest mode, ring 0  ▸ the guest's kernel" in rings


def test_the_interpreted_kernel_is_in_the_hosts_ring_0() -> None:
    """Without hardware support the mark is at the host's kernel for ring 0, and at the CPU for ring
    3."""
    kernel = text(ring_rows((machine(RingZero.INTERPRETED),), "kvm", {}, 80))
    assert "▸ KVM, interpreting ring 0" in kernel
    user = text(ring_rows((machine(RingZero.INTERPRETED, 3),), "kvm", {}, 80))
    assert "host, ring 3        ▸ the guest's programs" in user


@pytest.mark.parametrize(
    ("ring_zero", "ring", "expected"),
    [
        (RingZero.GUEST_MODE, 0, Mark.DIRECT), (RingZero.GUEST_MODE, 3, Mark.DIRECT),
        (RingZero.INTERPRETED, 0, Mark.INTERPRETED), (RingZero.INTERPRETED, 3, Mark.DIRECT),
        (RingZero.UNKNOWN, 0, Mark.INTERPRETED),
    ],
)  # fmt: skip
def test_direct_execution_is_claimed_only_of_the_cpu(
    ring_zero: RingZero, ring: int, expected: Mark
) -> None:
    """Code that the host's kernel interprets has another mark, another tooltip and no share."""
    m = machine(ring_zero, ring)
    assert mark(m, NOP) is mark(m, CLI) is expected
    assert [mark(m, line) for line in (OUT, HLT)] == [Mark.LEAVES] * 2
    assert ("Runs directly" in lane_tip(m, NOP)) == (expected is Mark.DIRECT)
    assert (direct_share(m) is None) == (ring_zero is not RingZero.GUEST_MODE)


@pytest.mark.parametrize(
    ("nested", "counts", "words"),
    [
        (True, {"pf_fixed": 6}, "nested paging"), (False, {"pf_fixed": 6}, "filled 6 times"),
        (False, None, "not counted"), (None, None, "does not say"),
    ],
)  # fmt: skip
def test_kvms_shadow_is_counted_or_not_claimed(
    nested: bool | None, counts: dict[str, int] | None, words: str
) -> None:
    """The page tables' view shows the host kernel's count for KVM's shadow, and never a zero of its
    own."""
    m = machine(RingZero.INTERPRETED)
    view = PagingView(0x12000, 0, (), None, (), True, None, (), 0)
    rows = paging_rows(view, replace(m, nested_paging=nested, kernel_exits=counts), 150)
    assert words in text(rows)


@pytest.mark.parametrize(
    ("ring_zero", "ring", "role"),
    [
        (RingZero.GUEST_MODE, 0, "cpu-bold"), (RingZero.INTERPRETED, 0, "soft-bold"),
        (RingZero.INTERPRETED, 3, "cpu-bold"), (RingZero.UNKNOWN, 0, "strong"),
    ],
)  # fmt: skip
def test_colour_says_who_works(ring_zero: RingZero, ring: int, role: str) -> None:
    """Green only where the CPU itself executes the guest, blue only where software does."""
    assert facts.who(machine(ring_zero, ring)).role == role


@pytest.mark.parametrize("width", [76, 156])
def test_an_uncounted_exit_has_no_number_on_the_screen(width: int) -> None:
    """After a free run, the log does not number exits by instructions."""
    event = ExitEvent(None, 0x100002, b"\xe6\xe9", Reason.IO, "console", "left to the VMM", 0, 9, 5)
    assert text([log_row(event, width)]).split()[0] == "-"


@pytest.mark.parametrize(
    ("ns", "words"),
    [(24_800, "24.8 µs"), (857_000, "857 µs"), (1_600_000, "1.6 ms"), (568_000_000, "568 ms"),
     (99_960, "100 µs"), (12_000_000_000, "12.0 s"), (3_600_000_000_000, "3,600 s")],
)  # fmt: skip
def test_times_are_short_and_whole(ns: int, words: str) -> None:
    """A time takes seven cells at most, and is never cut."""
    assert facts.time_away(ns) == words
    assert len(words) <= 7


def test_counts_are_short_and_whole() -> None:
    """A count is rounded, never cut into another number."""
    assert [facts.brief(n) for n in (180, 1_480, 17_400, 2_500_000)] == ["180", "1.5k", "17k", "2M"]
    assert [facts.short(n) for n in (9_999, 17_400)] == ["9,999", "17k"]


@pytest.mark.parametrize("pure", [False, True])
def test_nothing_is_foretold_before_a_lessons_answer(pure: bool) -> None:
    """While a lesson conceals, no line of the program, no tip and no sentence says what an instruction
    will do: not of one that traps, nor of one that would not."""
    silent = CodeLine(0x100001, b"\x9c", "pushfq", "", "silent", 0)
    m = replace(machine(RingZero.DEPRIVILEGED, core="trap:native"), code=(CLI, silent, OUT, HLT))
    other = replace(machine(RingZero.GUEST_MODE), code=m.code)
    snapshot = SessionSnapshot(0, "", "exact", pure, 0, None, (m, other), ())
    open_scene = Scene(snapshot, 120, 40, all_lanes(snapshot))
    for scene, foretold in ((open_scene, True), (replace(open_scene, quiet=True), False)):
        assert (told(scene) is not None) == foretold
        found = listing(scene)
        signs = [lane_signs(scene, x, found, at) for x in scene.machines for at in range(4)]
        assert any(sign in text(signs) for sign in "~⇄") == foretold
        made = picture(scene)
        row_of_it = made.addresses.index(silent.address)
        tips = [tip(scene, made, "program", x, row_of_it) for x in (10, 100)]
        assert any("does not trap" in words for words in tips) == foretold


def test_the_track_of_kvm_follows_each_instructions_ring() -> None:
    """Where software plays ring 0, the track says of each past instruction what executed it then: by
    the exits of a trap core, at which rings change; nothing where these are no longer at hand."""

    def exit_at(n: int, reason: Reason, ring: int) -> ExitEvent:
        return ExitEvent(n, 0x100000, b"", reason, "", "", ring, 0, 0)

    events = (exit_at(1, Reason.IRET, 0), exit_at(3, Reason.IRQ, 3), exit_at(5, Reason.IRET, 0))
    kvm = replace(machine(RingZero.INTERPRETED, 3), instructions=8)
    trap = machine(RingZero.DEPRIVILEGED, 3, "trap:native")
    trap = replace(trap, instructions=8, events=events, exits_by_reason={"iret": 2, "irq": 1})
    both = SessionSnapshot(0, "", "exact", False, 0, None, (trap, kvm), ())
    scene = Scene(both, 120, 40, all_lanes(both))
    ring_levels = [levels(scene, kvm)(n) for n in range(8)]
    assert ring_levels == [KERNEL, KERNEL, GUEST, KERNEL, KERNEL, KERNEL, GUEST, GUEST]
    drawn = track(kvm, levels(scene, kvm), 20)
    assert text(drawn).split("\n") == ["  ─   ──", "┄┄ ┄┄┄  ", " " * 8]
    forgotten = replace(trap, exits_by_reason={"iret": 9, "irq": 1})
    older = replace(both, machines=(forgotten, kvm))
    assert levels(replace(scene, s=older), kvm)(0) is None
    alone = replace(both, machines=(kvm,))
    assert track(kvm, levels(replace(scene, s=alone), kvm), 20)[0] == (("·" * 8, "dim"),)
