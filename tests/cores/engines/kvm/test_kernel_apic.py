"""The local APIC in the kernel: it interrupts the guest by an eventfd, and is not seen otherwise."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from struct import pack

import pytest
from kvm_lab import Guest, start

from cores.engines.base import Exit, Halted, Interrupted, MmioWrite, PortWrite
from cores.engines.kvm import KvmEngine, eventfds
from cores.engines.kvm.kernel_apic import PLACE
from cores.pc.platform import PDPT, PML4
from cores.x86.registers import RAX, RBX, ApicBase, Flag, Vector

VECTOR, OTHER = 0x2B, 0x31
IDT, TABLE = 0x20000, 0x21000
HANDLER = "handler: inc ebx; iretq"
TAKES_ITS_TIME = "mov ecx, 1000; takes: dec ecx; jnz takes"
"""A KVM that interprets ring 0 does not notice IF that is set for a few instructions only."""
MAPS_THE_APIC = (PDPT + 3 * 8, TABLE | 3), (TABLE + 0x1F7 * 8, ApicBase.ADDRESS | 0x93)


class Line:
    """A line that is raised in the entries named by ``entries``, or later, by ``rise``. opened: set
    where it may be. taken: what became of each interrupt."""

    def __init__(self, *entries: int) -> None:
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.entries, self.entered = entries, 0
        self.is_raised = False
        self.opened = threading.Event()
        self.taken: list[bool] = []

    def vector(self) -> int | None:
        return VECTOR

    def open(self) -> None:
        if self.entered in self.entries:
            self.rise()
        self.entered += 1
        self.opened.set()

    def rise(self) -> None:
        self.is_raised = True
        os.eventfd_write(self.eventfd, 1)

    def close(self) -> bool:
        raised, self.is_raised = self.is_raised, False
        return raised

    def raised(self, *, taken: bool) -> None:
        self.taken.append(taken)


class Wired(Guest):
    """A guest whose code begins with ``HANDLER``, for its interrupts; ``line`` is its engine's."""

    line: Line

    def connect(self, line: Line) -> Guest:
        self.line = line
        assert self.engine.irqfd(line)
        return self


MakeWired = Callable[..., Wired]


@pytest.fixture
def wired() -> Iterator[MakeWired]:
    if (reason := KvmEngine.probe()) is not None:
        pytest.skip(reason)
    if not eventfds.irqfd():
        pytest.skip("this host's KVM delivers no interrupt by an irqfd")
    made: list[Wired] = []

    def make(source: str, *entries: int) -> Wired:
        guest = start(f"jmp begin; {HANDLER}; begin: {source}", irqfd=True)
        one = Wired(guest.engine, guest.memory, guest.cpu)
        made.append(one)
        gate = one.cpu.rip + 2
        for vector in (Vector.NMI, VECTOR, OTHER):
            one.memory.write(
                IDT + vector * 16, pack("<HHBBHQ", gate & 0xFFFF, 0x10, 0, 0x8E, gate >> 16, 0)
            )
        one.cpu.idtr.base, one.cpu.idtr.limit = IDT, 0xFFF
        for at, entry in MAPS_THE_APIC:
            one.memory.write(at, pack("<Q", entry))
        one.connect(Line(*entries))
        return one

    yield make
    for one in made:
        one.close()
        os.close(one.line.eventfd)


def called(guest: Wired, run: Callable[[], Exit]) -> Exit:
    """What ``run`` returns while another thread calls the guest again and again."""
    over = threading.Event()

    def call() -> None:
        while not over.wait(0.005):
            guest.engine.interrupt()

    thread = threading.Thread(target=call)
    thread.start()
    try:
        return run()
    finally:
        over.set()
        thread.join()


def test_a_running_guest_is_interrupted(wired: MakeWired) -> None:
    """A guest that leaves a loop only by an interrupt leaves it, without an exit in between, each time
    that the line is raised."""
    g = wired(
        "sti; xor ecx, ecx; wait: cmp ecx, ebx; je wait; inc ecx; out 0xe9, al; jmp wait", 0, 1, 2
    )
    assert [g.run() for _ in range(3)] == [PortWrite(0xE9, 1, b"\0")] * 3
    assert g.line.taken == [True] * 3


def test_a_sleeping_guest_is_woken(wired: MakeWired) -> None:
    """HLT is no exit: the interrupt ends it."""
    g = wired("sti; hlt; out 0xe9, al")
    opened = g.line.opened

    def rise() -> None:
        opened.wait()
        g.line.rise()

    thread = threading.Thread(target=rise)
    thread.start()
    assert g.run_on() == PortWrite(0xE9, 1, b"\0")
    thread.join()
    assert (g.cpu.gpr[RBX], g.line.taken) == (1, [True])


def test_a_closed_guest_is_not_interrupted(wired: MakeWired) -> None:
    """With IF clear the interrupt waits in the kernel; after an exit it does so no more, and comes only
    if it is injected."""
    g = wired(f"cli; out 0xe9, al; sti; {TAKES_ITS_TIME}; out 0xe9, al; hlt", 0)
    assert g.run() == PortWrite(0xE9, 1, b"\0")
    assert g.line.taken == [False]
    assert g.run() == PortWrite(0xE9, 1, b"\0")
    assert g.cpu.gpr[RBX] == 0
    assert g.engine.inject(g.cpu, lambda: VECTOR)
    assert called(g, g.run_on) == Halted()
    assert g.cpu.gpr[RBX] == 1


def test_a_guest_opens_itself(wired: MakeWired) -> None:
    """With IF clear for a while it takes the interrupt when it sets IF, without an exit."""
    g = wired(
        f"cli; {TAKES_ITS_TIME}; mov eax, ebx; sti; wait: test ebx, ebx; jz wait; out 0xe9, al", 0
    )
    assert g.run_on() == PortWrite(0xE9, 1, b"\0")
    assert (g.cpu.gpr[RBX], g.line.taken) == (1, [True])


def test_halted(wired: MakeWired) -> None:
    """A guest that is called while it sleeps is Halted, behind its HLT, and goes on there."""
    g = wired("cli; hlt; out 0xe9, al")
    assert called(g, g.run_on) == Halted()
    assert not g.cpu.rflags & Flag.IF
    assert g.run_on() == PortWrite(0xE9, 1, b"\0")


def test_an_interrupt_of_the_guests_own_controllers(wired: MakeWired) -> None:
    """``inject`` interrupts the guest whatever its CR8 is, as INTR does, also in the middle of a
    device's access, and together with an NMI."""
    g = wired(f"mov eax, 15; mov cr8, rax; sti; nop; out 0xe9, al; {TAKES_ITS_TIME}; out 0xe9, al; hlt")
    assert isinstance(g.run_on(), PortWrite)
    g.engine.inject_nmi()
    assert g.engine.inject(g.cpu, lambda: OTHER)
    assert isinstance(g.run_on(), PortWrite)
    assert (g.cpu.gpr[RBX], g.cpu.cr8) == (2, 15)


def test_a_window_is_noticed(wired: MakeWired) -> None:
    """Where ``inject`` was refused, the guest comes back as soon as it can take the interrupt."""
    g = wired("cli; out 0xe9, al; sti; wait: test ebx, ebx; jz wait; out 0xe9, al; hlt")
    assert isinstance(g.run(), PortWrite)
    assert not g.engine.inject(g.cpu, lambda: OTHER)
    while not (g.run() == Interrupted() and g.engine.inject(g.cpu, lambda: OTHER)):
        assert not g.cpu.gpr[RBX]
    assert isinstance(g.run_on(), PortWrite)
    assert g.cpu.gpr[RBX] == 1


def test_a_window_at_hlt(wired: MakeWired) -> None:
    """An interrupt that the guest can take only when it sleeps wakes it."""
    g = wired("cli; out 0xe9, al; sti; hlt; out 0xe9, al; hlt")
    assert isinstance(g.run(), PortWrite)
    assert not g.engine.inject(g.cpu, lambda: OTHER)
    while not g.engine.inject(g.cpu, lambda: OTHER):
        assert called(g, g.run) in (Interrupted(), Halted())
    assert called(g, g.run_on) == PortWrite(0xE9, 1, b"\0")
    assert g.cpu.gpr[RBX] == 1


def test_it_is_not_seen(wired: MakeWired) -> None:
    """Its registers lie under RAM, the guest's IA32_APIC_BASE is its own, and its own local APIC's page
    exits."""
    g = wired(
        f"mov ecx, 0x1b; rdmsr; mov edi, eax; mov esi, {PLACE + 0x30}; mov ebp, [rsi];"
        f"mov dword ptr [rsi], 0x12345678; mov eax, {ApicBase.ADDRESS + 0x80};"
        "mov dword ptr [rax], 0x50; hlt"
    )
    before = g.memory.read(PLACE + 0x30, 4)
    assert g.run_on() == MmioWrite(ApicBase.ADDRESS + 0x80, pack("<I", 0x50))
    assert g.cpu.gpr[7] == g.cpu.apic_base == ApicBase.INITIAL
    assert g.cpu.gpr[5].to_bytes(4, "little") == before
    assert g.memory.read(PLACE + 0x30, 4) == pack("<I", 0x12345678)


def test_task_priority_by_memory(wired: MakeWired) -> None:
    """CR8 that the VMM sets for a store to TPR holds although the instruction is not complete yet and
    the guest then changes CR3, and holds the line's interrupt back."""
    g = wired(
        f"mov eax, {ApicBase.ADDRESS + 0x80}; mov dword ptr [rax], 0x50;"
        f"mov ecx, {PML4}; mov cr3, rcx; sti;"
        f"{TAKES_ITS_TIME}; mov rdx, cr8; out 0xe9, al; xor eax, eax; mov cr8, rax;"
        "wait: test ebx, ebx; jz wait; out 0xe9, al; hlt", 1,
    )  # fmt: skip
    assert isinstance(g.run_on(), MmioWrite)
    g.cpu.cr8 = 5
    g.engine.prioritized(5)
    assert isinstance(g.run_on(), PortWrite)
    assert (g.cpu.gpr[2], g.cpu.cr8, g.cpu.gpr[RBX]) == (5, 5, 0)
    assert g.line.taken == [False]
    g.line.entries = (g.line.entered,)
    assert isinstance(g.run_on(), PortWrite)
    assert (g.cpu.cr8, g.cpu.gpr[RBX], g.line.taken) == (0, 1, [False, True])


def test_a_disabled_apic(wired: MakeWired) -> None:
    """CPUID tells that the guest has disabled its local APIC, as it does without one in the kernel."""
    g = wired(
        "mov ecx, 0x1b; xor edx, edx; mov eax, 0xfee00100; wrmsr; mov eax, 1; cpuid; mov edi, edx;"
        "mov ecx, 0x1b; xor edx, edx; mov eax, 0xfee00900; wrmsr; mov eax, 1; cpuid; out 0xe9, al; hlt"
    )
    g.engine.irqfd(None)
    assert isinstance(g.run_on(), PortWrite)
    assert not g.cpu.gpr[7] >> 9 & 1
    assert g.cpu.gpr[2] >> 9 & 1
    assert g.cpu.apic_base == ApicBase.INITIAL


def test_a_line_is_disconnected(wired: MakeWired) -> None:
    """After ``irqfd(None)`` a write to the eventfd interrupts nothing."""
    g = wired(f"sti; out 0xe9, al; {TAKES_ITS_TIME}; out 0xe9, al; hlt")
    assert isinstance(g.run(), PortWrite)
    g.engine.irqfd(None)
    g.line.rise()
    assert isinstance(g.run_on(), PortWrite)
    assert (g.cpu.gpr[RBX], g.line.taken) == (0, [])
    g.line.close()
    g.engine.irqfd(g.line)


def test_without_it() -> None:
    """An engine that was not asked for it delivers no line, and HLT exits."""
    if (reason := KvmEngine.probe()) is not None:
        pytest.skip(reason)
    g = start("hlt")
    try:
        line = Line()
        assert not g.engine.irqfd(line)
        assert not g.engine.sleeps_inside
        assert g.run_on() == Halted()
        assert g.cpu.gpr[RAX] == 0
        os.close(line.eventfd)
    finally:
        g.close()
