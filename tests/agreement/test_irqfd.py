"""Interrupts of virtio devices by an irqfd: without an exit, and the PC is what it is without."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from agreement_lab import GUESTS, cores, free, named, program, skip_unless_assembled
from sampling import sampled
from test_guests import ASSETS, CASES, SECONDS, ends_as_told

from cores.engines.kvm import eventfds
from cores.engines.registry import availability
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.devices.virtio.net import VirtioNet
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.runs.compare import compare
from cores.vmm import free_run
from cores.x86.isa.instruction import Reason

pytestmark = skip_unless_assembled()

SOURCE = (ASSETS / "guests" / "vping.s").read_text()
ASLEEP = "        sti\n        hlt\n"
AWAKE = "        sti\n        pause\n"
"""Where vping waits for its interrupt: for the next one, or for none."""
DEAF = """        mov     ebp, 20000
deaf:   dec     ebp
        jnz     deaf
        sti
"""
"""The interrupt finds IF clear for a long time."""
BY_PICS = "        mov     al, 0x20\n        out     0xa0, al\n        out     0x20, al\n"
BY_IO_APIC = """        mov     dword ptr [TABLE + 0x1f6 * 8], 0xfec00093
        mov     dword ptr [TABLE + 0x1f7 * 8], 0xfee00093
        mov     eax, 0xfec00000
        mov     dword ptr [rax], 0x26           # input 11: vector 0x2b, by level
        mov     dword ptr [rax + 0x10], 0x802b
        mov     dword ptr [rax], 0x27
        mov     dword ptr [rax + 0x10], 0
"""
EOI = "        mov     eax, 0xfee00000\n        mov     dword ptr [rax + 0xb0], 0\n"
TASK_PRIORITY = """        mov     eax, 0xfee00000
        mov     dword ptr [rax + 0x80], 0x30    # vector 0x2b has to wait
        mov     ecx, 0x12000
        mov     cr3, rcx
        mov     rcx, cr8
        cmp     ecx, 3
        jne     no_card
        xor     ecx, ecx
        sti
        mov     cr8, rcx                        # no exit
        pause
"""


def _with(*changes: tuple[str, str]) -> str:
    """vping with other lines, each of which it has once."""
    source = SOURCE
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


MAPPED = "        mov     qword ptr [0x13018], TABLE + 3\n"
APICS = ((MAPPED, MAPPED + BY_IO_APIC), (BY_PICS, EOI), ("0xfb, 0xf7", "0xff, 0xff"))
PINGS = {
    "asleep": SOURCE,
    "awake": _with((ASLEEP, AWAKE)),
    "deaf": _with((ASLEEP, DEAF)),
    "I/O APIC": _with(*APICS),
    "I/O APIC, awake": _with(*APICS, (ASLEEP, AWAKE)),
    "task priority": _with(*APICS, (ASLEEP, TASK_PRIORITY)),
}
OPTIONS = replace(CASES["vping.s"].options, cores=("kvm",), free=True, budget=SECONDS)


def needs_irqfd() -> None:
    if reason := availability("kvm").reason:
        pytest.skip(f"kvm: {reason}")
    if not eventfds.irqfd():
        pytest.skip("this host's KVM delivers no interrupt by an irqfd")


def takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a guest sleep for as long as this host needs to answer it."""
    monkeypatch.setattr(free_run, "ASLEEP", int(SECONDS * 1e9))


@pytest.mark.parametrize("way", PINGS)
def test_pings(way: str) -> None:
    """However the guest takes its interrupts, all answers come with both checksums right."""
    needs_irqfd()
    loaded = assemble_program(PINGS[way].encode(), "vping.s")
    for report in compare(loaded, replace(OPTIONS, cores=("kvm", "interpreter"))).cores:
        ends_as_told(CASES["vping.s"], report)


@pytest.mark.parametrize("way", ["asleep", "I/O APIC"])
def test_interrupts_without_an_exit(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that waits for its card takes the interrupt where it is: the card counts them, and a note
    tells. (One that is awake may see the frame before its interrupt, and be outside by then.)"""
    needs_irqfd()
    takes_its_time(monkeypatch)
    machine = start(assemble_program(PINGS[way].encode(), "vping.s"), "kvm", OPTIONS)
    try:
        machine.run_free(SECONDS)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 0)
        card = next(device for device in machine.board.devices if isinstance(device, VirtioNet))
        assert 0 < card.by_irqfd <= card.raised
        told = dict(card.facts(0))["told"]
        assert re.search(rf"{card.raised} interrupts? \({card.by_irqfd} without an exit\)", told)
        (note,) = (note for note in machine.board.notes() if "irqfd" in note)
        assert f"took {card.by_irqfd} of its {card.raised} interrupt" in note
    finally:
        machine.close()


@pytest.mark.parametrize("has", [True, False])
def test_hlt_without_an_exit(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """HLT is an exit only where something else than the irqfd has ended it. A KVM that has none
    delivers no interrupt so, and no note speaks of it."""
    needs_irqfd()
    takes_its_time(monkeypatch)
    monkeypatch.setattr(eventfds, "irqfd", lambda: has)
    machine = start(assemble_program(SOURCE.encode(), "vping.s"), "kvm", OPTIONS)
    try:
        machine.run_free(SECONDS)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 0)
        card = next(device for device in machine.board.devices if isinstance(device, VirtioNet))
        assert any("irqfd" in note for note in machine.board.notes()) is (card.by_irqfd > 0)
        if has:
            halts = machine.vmm.trace.by_reason.get(Reason.HLT, 0)
            assert halts <= card.raised - card.by_irqfd
        else:
            assert (card.by_irqfd, machine.engine.sleeps_inside) == (0, False)
    finally:
        machine.close()


@pytest.mark.parametrize(
    ("source", "stop"),
    [("cli\nhlt", Stop.HALTED), ("sti\nhlt", Stop.HALTED), ("mov al, 7\nout 0xf4, al", Stop.EXIT)],
)
def test_halted(source: str, stop: Stop) -> None:
    """A guest that sleeps for good has halted, though its HLT is no exit."""
    needs_irqfd()
    (report,) = compare(assemble_program(source.encode(), "halts.s"), OPTIONS).cores
    assert report.stop is stop
    assert report.exits_by_reason == ({"hlt": 1} if stop is Stop.HALTED else {"io": 1})


@pytest.mark.parametrize("name", sampled(named(free=True), 6))
def test_mechanisms(name: str) -> None:
    """The other interrupts, timers, exceptions and modes are what they are without virtio devices."""
    needs_irqfd()
    guest = GUESTS[name]
    if "kvm" not in cores(guest, exact=False):
        pytest.skip("on kvm it ends otherwise in free mode, with devices or without")
    options = replace(guest.run_options, free=True, virtio=("console",))
    kvm = free(program(name), options, "kvm")
    if kvm.stop is Stop.ERROR:
        pytest.skip(kvm.reason)
    assert kvm.told == free(program(name), options, "interpreter").told


@pytest.mark.parametrize(
    ("options", "used"),
    [
        (Options(free=True, virtio=("console",)), True),
        (Options(virtio=("console",)), False),
        (Options(free=True, slow=True, virtio=("console",)), False),
        (Options(free=True), False),
    ],
)
def test_only_where_it_is_of_use(options: Options, used: bool) -> None:
    """In exact mode, with --slow and without virtio devices a guest's KVM is what it was."""
    needs_irqfd()
    machine = start(assemble_program(b"hlt", "halts.s"), "kvm", options)
    try:
        assert machine.engine.sleeps_inside is used
    finally:
        machine.close()
