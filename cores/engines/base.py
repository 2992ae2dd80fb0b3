"""What every engine promises: enter the guest, come back, say why.

An engine is a mechanism. It owns no device, knows no lesson and decides nothing: it runs the
guest's instructions until one of them cannot go on without the host, and returns one ``Exit``.
The policy, what to do about it, is the VMM's (cores/vmm/vmm.py), and is the same for every engine;
so what differs between two panes on the screen differs by mechanism alone.

    cpu in, cpu out     ``step`` and ``run`` take the guest's ``VirtualCpu``: the engine enters the
                        guest in exactly that state, and on return the object holds the state at
                        the exit. Whoever changes it in between (the VMM, a restored checkpoint,
                        a user poking a register) need not tell the engine.
    restartable         At every exit but Stepped, RIP is *at* the instruction that did not
                        complete, and nothing of that instruction has happened. PortRead ...
                        MmioWrite are the exception: see ``complete``.
    one thread          Every call comes from the thread that called ``load`` (ptrace demands it);
                        only ``interrupt`` may come from another.
    spurious returns    ``Interrupted`` may come back without anybody having asked.

Where the guest's registers live is the whole subject: for the interpreter they are data in
Unicorn's memory; for the trap cores the general ones are the real CPU's and the privileged ones
exist only in ``VirtualCpu``; for KVM all are the CPU's own.

The frequent exits that carry something are NamedTuples: a frozen dataclass takes a microsecond to
make, and those without content are made once.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from cores.pc.physical_memory import PhysicalMemory
from cores.x86.isa.instruction import Instruction, Reason
from cores.x86.mmu.paging import Mmu
from cores.x86.virtual_cpu import VirtualCpu


@dataclass(frozen=True, slots=True)
class Stepped:
    """``step``: one instruction was completed (a REP instruction entirely)."""


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """``run``: the number of instructions asked for has been completed."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Back without a reason of the guest's: ``interrupt`` was called, or nothing at all happened."""


@dataclass(frozen=True, slots=True)
class PortRead:
    """Hardware stopped inside an IN or INS (KVM): answer with ``complete``.

    count: iterations of a repeated instruction that are asked for at once, ``size`` bytes each.
    """

    port: int
    size: int
    count: int


class PortWrite(NamedTuple):
    """Hardware stopped inside an OUT or OUTS (KVM). data: count * size bytes, little endian."""

    port: int
    size: int
    data: bytes


class MmioRead(NamedTuple):
    """Hardware stopped at a load where there is no RAM (KVM): answer with ``complete``."""

    gpa: int
    size: int


class MmioWrite(NamedTuple):
    """Hardware stopped at a store to a physical address without RAM (KVM). data: the bytes stored."""

    gpa: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Halted:
    """A HLT was completed by the engine itself (KVM in free mode); RIP is after it."""


class Fault(NamedTuple):
    """The executing CPU raised an exception at RIP, and did not deliver it to the guest.

    vector: x86 exception number. Traps (#BP by int3, #DB) are reported as faults too: RIP at the
        instruction.
    error: the error code, None where the vector has none or the engine cannot know it.
    address: the linear address (#PF, else None).
    On a deprivileged engine this is what the *real* CPU said to ring 3: whether it is the guest's
    own doing, a privileged instruction to emulate or a page that the VMM has not mapped yet, only
    the VMM can tell.
    """

    vector: int
    error: int | None = None
    address: int | None = None


@dataclass(frozen=True, slots=True)
class SystemCall:
    """A deprivileged guest executed SYSCALL, SYSENTER or INT 0x80 on the real CPU. It was stopped
    before the host's kernel did anything; all registers are as before the instruction."""


@dataclass(frozen=True, slots=True)
class Intercept:
    """The engine does not execute the instruction at RIP: the VMM must complete it.

    lacking: the CPU should have executed it, and this host's does not (counted as bridged)."""

    lacking: bool = False


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The engine delivered exceptions itself and they ended in a triple fault (KVM).

    lost: the CPU has left nothing of the guest's registers (AMD-V resets a vCPU that shuts down), and
    ``cpu`` is as at the last exit before."""

    lost: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The host cannot go on, through no fault of the guest's. reason: a sentence for the user.
    limit: the ability whose lack on this host is the cause, by its name in `doctor`; "" for none."""

    reason: str
    limit: str = ""


Exit = (
    Stepped | BudgetSpent | Interrupted | PortRead | PortWrite | MmioRead | MmioWrite | Halted
    | Fault | SystemCall | Intercept | Shutdown | Failed
)  # fmt: skip
"""Why the guest was left: a closed union; the VMM matches it exhaustively."""

STEPPED = Stepped()
BUDGET_SPENT = BudgetSpent()
INTERRUPTED = Interrupted()
HALTED = Halted()
SYSTEM_CALL = SystemCall()
INTERCEPT = Intercept()
LACKING = Intercept(lacking=True)
SHUTDOWN, SHUTDOWN_LOST = Shutdown(), Shutdown(lost=True)


class RingZero(StrEnum):
    """How the guest's ring 0 is brought about; what the interface says of rings follows from it."""

    SIMULATED = "simulated"
    """Software executes every ring; the ring is a number in a data structure."""
    DEPRIVILEGED = "deprivileged"
    """The guest's kernel executes at ring 3; the VMM keeps the ring that the guest believes in."""
    GUEST_MODE = "guest mode"
    """The CPU executes it: VMX non-root operation (SDM vol. 3, 24), SVM guest mode (APM vol. 2, 15)."""
    INTERPRETED = "interpreted"
    """KVM without hardware support: the host's kernel interprets ring 0, the CPU executes ring 3."""
    UNKNOWN = "unknown"
    """KVM on a host that does not say which of the two it does."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What an engine is and can do.

    core: the resolved core name, "trap:native". label: one line for people.
    engine: what executes, "Unicorn 2.1.4", "ptrace", "KVM".
    deprivileged: the guest's kernel runs at real ring 3 and the VMM keeps its privileged state.
    exact: steps one instruction at a time with correct state (KVM: where probed good).
    counts: ``run`` honours an instruction budget.
    native: the guest's instructions are executed by this host's CPU.
    leads, follows: it has ``lead``, it has ``reach`` or counts (cores/lockstep/leader.py).
    delivers: exceptions go to the guest's handlers without the VMM (KVM).
    intercepts: mnemonics that the engine does not execute as the platform demands; in exact mode
        the VMM completes them instead of stepping.
    translates: a binary translator, which forgets some of a CPU's checks: ``admits`` is to be asked
        before each step, and ``corrected`` after each fault.
    exits_for: the reasons for which the guest leaves this engine, and which count as exits.
    registers: where the guest's registers live, for the pane's headline.
    ring_zero: see ``RingZero``.
    nested_paging: the CPU walks the guest's own page tables, then the host's; None: not known.
    """

    core: str
    label: str
    engine: str
    deprivileged: bool = False
    exact: bool = True
    counts: bool = True
    native: bool = False
    leads: bool = False
    follows: bool = False
    delivers: bool = False
    intercepts: frozenset[str] = frozenset()
    translates: bool = False
    exits_for: frozenset[Reason] = frozenset()
    registers: str = ""
    ring_zero: RingZero = RingZero.SIMULATED
    nested_paging: bool | None = False


class Engine(ABC):
    """Enters the guest and comes back. See the module's text for what holds at every exit."""

    traits: Traits

    @abstractmethod
    def load(self, memory: PhysicalMemory) -> None:
        """Take the guest's physical address space. RAM is shared, not copied: what the guest
        stores is seen in ``memory.ram`` at once. Physical addresses that are not RAM come back as
        MmioRead and MmioWrite, or, where the engine cannot leave in the middle of an instruction
        (Unicorn), are asked of ``memory.device_read`` and ``device_write``.

        Raises UnavailableError when this host cannot run the engine after all."""

    @abstractmethod
    def step(self, cpu: VirtualCpu) -> Exit:
        """Execute one instruction: Stepped, or why not."""

    @abstractmethod
    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        """Execute freely until something must leave, or ``budget`` instructions are completed
        (None: no limit; engines whose ``traits.counts`` is false ignore it).

        ``executed`` says afterwards how many were completed."""

    def lead(self, cpu: VirtualCpu, budget: int) -> Exit:
        """``run``, but come back with Intercept before every instruction that is sensitive."""
        raise TypeError(f"{type(self).__name__} cannot lead")

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        """``run``, but come back with Stepped when the guest, having gone on, comes to ``rip`` with
        these general registers; with BudgetSpent when it has come by so often with others. Where the
        engine cannot execute at ``rip`` it comes back with the fault of the fetch, as ``run`` does."""
        raise TypeError(f"{type(self).__name__} has no breakpoints")

    def admits(self, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> bool:
        """Would ``step`` execute this ordinary instruction as the platform's CPU does? False: the VMM
        completes it. Raises the GuestFault that the engine would forget. mmu: the guest's own."""
        return True

    def corrected(self, fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault:
        """The fault that a CPU would have raised at ``insn`` where this engine reports ``fault``.
        Raises Unsupported where the platform holds no such code."""
        return fault

    window_wanted: bool = False
    """An interrupt waits for the guest to set IF: ``run`` comes back with Intercept before each
    instruction that may do so. Set by the VMM before ``run``. Engines that leave the guest at all of
    these, or that deliver by themselves, need not look."""

    executed: int | None = 0
    """Instructions completed by the last ``run``; None where nobody counted (real CPUs)."""

    def complete(self, data: bytes) -> None:
        """Answer a pending PortRead or MmioRead, and finish the instruction that asked. After any
        pending port or MMIO exit the cpu's state is that of a half-done instruction: the engine
        finishes it at the next ``step`` or ``run``; ``settle`` does so at once."""
        raise TypeError(f"{type(self).__name__} never has a pending access")

    def settle(self, cpu: VirtualCpu) -> Exit | None:
        """Finish a half-done instruction, so that ``cpu`` may be shown or saved. Usually nothing to do.

        None: done. An exit: the same instruction wants one access more; answer it and settle again."""
        return None

    def inject(self, cpu: VirtualCpu, acknowledge: Callable[[], int]) -> bool:
        """Hand a device's interrupt to an engine that ``delivers``, before the next ``run``.
        acknowledge: asks the interrupt controller for the vector; called only if it is taken.

        True: the guest takes it before its next instruction. False: it cannot take one now (IF clear,
        an interrupt shadow): ``run`` returns Interrupted as soon as it can; then ask again."""
        raise TypeError(f"{type(self).__name__} delivers nothing by itself")

    @abstractmethod
    def read_fpu(self) -> bytes:
        """x87, MMX, XMM and MXCSR as a 512-byte FXSAVE64 image (SDM vol. 1, 10.5.1)."""

    @abstractmethod
    def write_fpu(self, image: bytes) -> None:
        """Set what ``read_fpu`` reads."""

    def memory_changed(self) -> None:  # noqa: B027 - most engines translate nothing
        """RAM was replaced behind the engine's back (a restored checkpoint, a poked byte): forget
        translated code and cached page walks."""

    def flush(self, gva: int | None = None) -> None:  # noqa: B027
        """The VMM changed or emulated what the TLB depends on (CR0, CR3, CR4, EFER, or INVLPG of
        ``gva``): forget those translations. None: all."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make a running ``run`` return Interrupted soon. The one call allowed from another thread;
        when nothing runs, the next ``run`` may return Interrupted at once."""

    def escapes(self) -> tuple[str, ...] | None:
        """What the guest has got hold of beyond its own, in words: () when the host was asked and
        there is nothing. None: no part of this engine can be asked (the guest is data, or the CPU
        itself holds it). Between entries only; less than a tenth of a millisecond."""
        return None

    def leaves_behind(self, exit: PortRead | PortWrite | MmioRead | MmioWrite) -> bool:
        """Does RIP stand behind the instruction that made this device access, and not at it?"""
        return False

    def caveat(self) -> str:
        """What is to be said beside this engine's results here, in a sentence; "" for nothing."""
        return ""

    def kernel_exits(self) -> dict[str, int] | None:
        """Counts that the host's kernel keeps for this guest ("exits", "pf_fixed", ...); None where
        it keeps none."""
        return None

    @abstractmethod
    def where(self) -> str:
        """Where the guest's registers live, in a few words: "process 4711, CPU 1"."""

    @abstractmethod
    def close(self) -> None:
        """Release everything: processes, descriptors, mappings. Twice does no harm."""


ALL_REASONS = frozenset(Reason)
"""``exits_for`` of a trap core: whatever is sensitive leaves the guest."""

KERNEL_SPACE, USER_SPACE = 0, 1
"""The two address spaces of a deprivileged guest: one for each virtual privilege level, since at
real ring 3 the page tables' U/S bit can tell nothing apart."""


_OUT_OF_LINE = 0x5000_0000_0000 + 4096 * secrets.randbelow(1 << 31)
OUT_OF_LINE = range(_OUT_OF_LINE, _OUT_OF_LINE + 3 * 4096)
"""Addresses in both spaces that the VMM keeps for itself (cores/vmm/faults/out_of_line.py), drawn anew
in each run: the guest's pages are never mapped there."""


class DeprivilegedEngine(Engine):
    """An engine that executes guest kernel and guest user alike at ring 3 (trap-and-emulate).

    It has no page tables of the guest's: its address spaces are empty until the VMM maps into
    them, and an access to anything unmapped comes back as Fault(#PF). That makes the host's own
    mappings a virtual TLB, which the VMM fills and drops (cores/vmm/shadow_tlb.py).

    Before entering, the engine loads general registers, RIP, FS and GS base, and of RFLAGS only
    ``native_flags(cpu)``; after, it copies back the same. The rest of ``cpu`` it never touches.
    """

    space: int = KERNEL_SPACE
    """The address space that ``step`` and ``run`` execute in. The VMM sets it before entering."""

    pure: bool = False
    """Textbook trap-and-emulate: ``run`` lets pass whatever does not trap. The VMM sets it."""

    def patched_twin(self) -> memoryview | None:
        """A second memory as large as RAM, which free mode executes patched code from
        (cores/vmm/patching/patcher.py); None: this engine finds sensitive instructions by itself, and
        returns Intercept at them."""
        return None

    hides_code: bool = False
    """Does ``map`` with readable=False really make pages that cannot be read?"""

    @abstractmethod
    def reaches(self, gva: int, length: int) -> bool:
        """Can the host map there (not below mmap_min_addr, in the upper half, at its own stub)?"""

    @abstractmethod
    def map(
        self,
        space: int,
        gva: int,
        gpa: int,
        length: int,
        *,
        writable: bool,
        executable: bool,
        twin: bool = False,
        readable: bool = True,
    ) -> bool:
        """Map RAM at ``gpa`` (page aligned, may be in ``Ram.scratch``) to ``gva`` in ``space``,
        replacing what was there. twin: map ``patched_twin`` at that offset instead. readable: False
        asks for an execute-only page, which hosts without protection keys make readable.

        False where ``reaches`` is false."""

    @abstractmethod
    def unmap(self, space: int, gva: int, length: int) -> None:
        """Remove whatever of the range is mapped."""

    @abstractmethod
    def drop_all(self) -> None:
        """Empty both address spaces."""

    @abstractmethod
    def fault_was_write(self, cpu: VirtualCpu) -> bool:
        """Was the access of the last Fault(#PF) a store? Costs something on a host that does not
        say so by itself; asked only when the guest's page tables make the answer matter."""
