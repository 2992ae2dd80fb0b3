"""The engine contract: an engine enters the guest, and returns with the reason of the exit.

An engine is a mechanism. It owns no device, knows no lesson and holds no policy: it executes the
guest's instructions until one of them cannot continue without the host, and returns one ``Exit``.
The policy, how an exit is handled, is the VMM's (cores/vmm/vmm.py) and the same for every engine, so
that all differences between two panes on the screen are differences of mechanism.

    cpu in, cpu out     ``step`` and ``run`` take the guest's ``VirtualCpu``: the engine enters the
                        guest in exactly that state, and on return the object holds the state at
                        the exit. In between it may be changed (by the VMM, a restored checkpoint,
                        an edited register) without a call of the engine.
    restartable         At every exit but Stepped, RIP is *at* the instruction that did not
                        complete, and that instruction has had no effect. PortRead ... MmioWrite
                        are the exception: see ``complete``.
    one thread          Every call comes from the thread that called ``load`` (ptrace demands it);
                        only ``interrupt`` may come from another.
    spurious returns    ``Interrupted`` may be returned without a call of ``interrupt``.

Engines differ in the place of the guest's registers: for the interpreter they are data in Unicorn's
memory; for the trap cores the general ones are the real CPU's and the privileged ones exist only in
``VirtualCpu``; for KVM all are the CPU's own.

The frequent exits with fields are NamedTuples, since a frozen dataclass takes a microsecond to make;
those without fields are made once.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

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
    """An exit that the guest did not cause: ``interrupt`` was called, or the return is spurious."""


@dataclass(frozen=True, slots=True)
class PortRead:
    """Hardware stopped inside an IN or INS (KVM): answer with ``complete``.

    count: iterations of a repeated instruction that are read at once, ``size`` bytes each.
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
    On a deprivileged engine this is the exception that the *real* CPU raised in ring 3. The VMM decides
    whether it is the guest's own fault, a privileged instruction to emulate, or a page that the VMM has
    not mapped yet.
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

    lacking: hardware support would have executed it, and this host lacks that (counted as bridged)."""

    lacking: bool = False


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The engine delivered exceptions itself and they ended in a triple fault (KVM).

    lost: the guest's registers are gone (AMD-V resets a vCPU that shuts down), and ``cpu`` holds the
    state of the exit before."""

    lost: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The host cannot continue, and the guest is not the cause. reason: a sentence for the user.
    limit: the ability that this host lacks, by its name in `doctor`; "" where that is not the cause."""

    reason: str
    limit: str = ""


Exit = (
    Stepped | BudgetSpent | Interrupted | PortRead | PortWrite | MmioRead | MmioWrite | Halted
    | Fault | SystemCall | Intercept | Shutdown | Failed
)  # fmt: skip
"""The reason of an exit: a closed union, which the VMM matches exhaustively."""

STEPPED = Stepped()
BUDGET_SPENT = BudgetSpent()
INTERRUPTED = Interrupted()
HALTED = Halted()
SYSTEM_CALL = SystemCall()
INTERCEPT = Intercept()
LACKING = Intercept(lacking=True)
SHUTDOWN, SHUTDOWN_LOST = Shutdown(), Shutdown(lost=True)


Handler = Callable[[], bool | None]
"""Handles the exit at one known site, where the guest has just left, instead of the VMM.

True: it is done, enter again. False: it is done, and ``run_known`` is to return Interrupted. None: it
declines and has changed nothing: return the exit."""
Handlers = dict[int, Handler]
"""By the engine's key for an exit site. May be emptied while ``run_known`` runs."""


@dataclass(frozen=True, slots=True)
class RegisterWindow:
    """The registers of a guest that has been left, where its engine has them.

    words: 64 bits each; what is written there is entered with. general: the places of the general
    registers, in encoding order. rip, rflags: theirs; of the flags only what the engine loads."""

    words: memoryview
    general: tuple[int, ...]
    rip: int
    rflags: int


class RingZero(StrEnum):
    """The implementation of the guest's ring 0; the interface describes rings accordingly."""

    SIMULATED = "simulated"
    """Software executes every ring; the ring is a number in a data structure."""
    DEPRIVILEGED = "deprivileged"
    """The guest's kernel executes at ring 3; the VMM keeps the guest's virtual privilege level."""
    GUEST_MODE = "guest mode"
    """The CPU executes it: VMX non-root operation (SDM vol. 3, 24), SVM guest mode (APM vol. 2, 15)."""
    INTERPRETED = "interpreted"
    """KVM without hardware support: the host's kernel interprets ring 0, the CPU executes ring 3."""
    UNKNOWN = "unknown"
    """KVM on a host that does not report which of the two it is."""


@dataclass(frozen=True, slots=True)
class Traits:
    """The properties and abilities of an engine.

    core: the resolved core name, "trap:native". label: one line for people.
    engine: the executing software or interface, "Unicorn 2.1.4", "ptrace", "KVM".
    deprivileged: the guest's kernel runs at real ring 3 and the VMM keeps its privileged state.
    exact: steps one instruction at a time with correct state (KVM: where the probe succeeds).
    counts: ``run`` honours an instruction budget.
    native: the guest's instructions are executed by this host's CPU.
    leads, follows: it has ``lead``, it has ``reach`` or counts (cores/lockstep/leader.py).
    delivers: exceptions go to the guest's handlers without the VMM (KVM).
    intercepts: mnemonics that the engine does not execute as the platform defines them; in exact mode
        the VMM completes them instead of stepping.
    translates: a binary translator, which omits some of a CPU's checks: the VMM calls ``admits`` before
        each step, and ``corrected`` after each fault.
    exits_for: the reasons for which the guest leaves this engine, and which count as exits.
    registers: the place of the guest's registers, for the pane's headline.
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


class EventfdLine(Protocol):
    """An interrupt line that another thread raises by an eventfd while the guest runs
    (``Engine.irqfd``). eventfd: written to by that thread, at most once an entry."""

    eventfd: int

    def vector(self) -> int | None:
        """Before an entry: the vector that the guest will take if the line rises before anything else
        happens. None: it is not to be raised in this entry."""

    def open(self) -> None:
        """The guest is entered: the thread may write to ``eventfd`` now."""

    def close(self) -> bool:
        """The guest has been left, and the thread may not any more. Has it?"""

    def raised(self, *, taken: bool) -> None:
        """It has. taken: the guest takes the interrupt, or has done so. Else it could not, and the
        interrupt is not on its way any more."""


class Engine(ABC):
    """Enters the guest and returns at an exit. The module's docstring says what holds at every exit."""

    traits: Traits

    @abstractmethod
    def load(self, memory: PhysicalMemory) -> None:
        """Attach the guest's physical address space. RAM is shared, not copied: the guest's stores are
        visible in ``memory.ram`` at once. Accesses to physical addresses that are not RAM exit as
        MmioRead and MmioWrite, or, where the engine cannot exit in the middle of an instruction
        (Unicorn), are passed to ``memory.device_read`` and ``device_write``.

        Raises UnavailableError when this host cannot run the engine after all."""

    @abstractmethod
    def step(self, cpu: VirtualCpu) -> Exit:
        """Execute one instruction. Returns Stepped, or the exit that prevented it."""

    @abstractmethod
    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        """Execute freely until an exit, or until ``budget`` instructions are completed (None: no limit;
        engines whose ``traits.counts`` is false ignore it).

        Sets ``executed`` to the number of completed instructions."""

    def run_known(self, cpu: VirtualCpu, handlers: Handlers) -> Exit:
        """``run``, but at exits that have a handler call it, and go on by what it returns."""
        raise TypeError(f"{type(self).__name__} knows no exit sites")

    def lead(self, cpu: VirtualCpu, budget: int) -> Exit:
        """``run``, but return Intercept before every sensitive instruction, before ``stops``, and where
        a step is known to have accessed a device in memory."""
        raise TypeError(f"{type(self).__name__} cannot lead")

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        """``run``, but return Stepped when the guest, after at least one instruction, reaches ``rip``
        with the general registers ``gpr``, and BudgetSpent when it has reached ``rip`` ``passes`` times
        with others. Where ``rip`` cannot be executed, the fetch faults, as in ``run``."""
        raise TypeError(f"{type(self).__name__} has no breakpoints")

    def admits(self, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> bool:
        """Would ``step`` execute this ordinary instruction as the platform's CPU does? False: the VMM
        completes it. Raises the GuestFault that the engine would omit. mmu: the guest's own."""
        return True

    def corrected(self, fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault:
        """The fault that a CPU would have raised at ``insn`` where this engine reports ``fault``.
        Raises Unsupported where the platform holds no such code."""
        return fault

    window_wanted: bool = False
    """An interrupt waits for the guest to set IF: ``run`` returns Intercept before each instruction
    that may do so. Set by the VMM before ``run``. Engines that exit at all of these instructions, or
    that deliver interrupts by themselves, ignore it."""

    stops: frozenset[int] = frozenset()
    """Breakpoints: linear addresses before whose instructions ``lead`` returns Intercept, too."""

    overlooks_x87: bool = False
    """``run`` has executed x87 instructions, and does not raise their stack faults."""

    executed: int | None = 0
    """Instructions completed by the last ``run``; None where they are not counted (real CPUs)."""

    def complete(self, data: bytes) -> None:
        """Supply the data of a pending PortRead or MmioRead. After any port or MMIO exit the
        instruction is incomplete: the engine finishes it at the next ``step`` or ``run``; ``settle``
        does so at once."""
        raise TypeError(f"{type(self).__name__} never has a pending access")

    def settle(self, cpu: VirtualCpu) -> Exit | None:
        """Finish an incomplete instruction, so that ``cpu`` may be shown or saved.

        None: it is finished. An exit: the same instruction makes one more access; complete it and call
        ``settle`` again."""
        return None

    def inject(self, cpu: VirtualCpu, acknowledge: Callable[[], int]) -> bool:
        """Inject a device's interrupt, before the next ``run``, into an engine that ``delivers``.
        acknowledge: returns the vector from the interrupt controller; called only if it is taken.

        True: the guest takes it before its next instruction. False: it cannot take one now (IF clear,
        an interrupt shadow): ``run`` returns Interrupted as soon as it can; then call ``inject``
        again."""
        raise TypeError(f"{type(self).__name__} delivers nothing by itself")

    def inject_nmi(self) -> None:
        """The same for an NMI; the CPU takes it before its next instruction, or after the IRET of the
        last one's handler."""
        raise TypeError(f"{type(self).__name__} delivers nothing by itself")

    def prioritized(self, cr8: int) -> None:  # noqa: B027 - most engines keep no CR8 of their own
        """The guest has changed CR8 by a store to the local APIC, perhaps by an instruction that is not
        complete yet; ``cpu`` has the new value."""

    @abstractmethod
    def read_fpu(self) -> bytes:
        """x87, MMX, XMM and MXCSR as a 512-byte FXSAVE64 image (SDM vol. 1, 10.5.1)."""

    @abstractmethod
    def write_fpu(self, image: bytes) -> None:
        """Set what ``read_fpu`` reads."""

    def memory_changed(self) -> None:  # noqa: B027 - most engines translate nothing
        """RAM was changed by neither guest nor VMM emulation (a restored checkpoint, an edited byte):
        discard translated code and cached page walks."""

    def flush(self, gva: int | None = None) -> None:  # noqa: B027
        """The VMM changed or emulated state that the TLB depends on (CR0, CR3, CR4, EFER, or INVLPG of
        ``gva``): discard those translations. None: all."""

    def give(self, gpa: int, place: int | None) -> None:  # noqa: B027 - the VMM maps it by itself
        """Let the guest access the page of the VMM's memory at ``place`` (as ``Ram.scratch`` counts) as
        physical page ``gpa``, without an exit; None: no more. An engine for whose guest the VMM maps
        each page (``DeprivilegedEngine``) has nothing to do."""

    def doorbell(self, gpa: int, value: int, eventfd: int, *, on: bool) -> bool:
        """From now on, or no more: a 32-bit store of ``value`` to the physical address ``gpa`` adds one
        to ``eventfd`` (eventfd(2)) in place of an exit. False: this engine cannot do that."""
        return False

    wants_irqfd: bool = False
    """Set before ``load``: ``irqfd`` will be called. An engine that can do it then lets the guest sleep
    inside ``run`` at HLT (``sleeps_inside``)."""

    sleeps_inside: bool = False
    """``run`` returns Halted not at HLT, but when it is interrupted while the guest sleeps."""

    def irqfd(self, line: EventfdLine | None) -> bool:
        """From now on let the thread of this line interrupt the guest without an exit; None: no more.
        False: this engine cannot do that."""
        return False

    @abstractmethod
    def interrupt(self) -> None:
        """Make a running ``run`` return Interrupted soon. The one call allowed from another thread;
        when nothing runs, the next ``run`` may return Interrupted at once."""

    def escapes(self) -> tuple[str, ...] | None:
        """Isolation audit: the host resources that the guest holds beyond its own, in words; () when
        the host reports none. None: this engine has no process to audit (the guest is data, or the CPU
        itself isolates it). Between entries only; takes less than a tenth of a millisecond."""
        return None

    def leaves_behind(self, exit: PortRead | PortWrite | MmioRead | MmioWrite) -> bool:
        """Does RIP stand behind the instruction that made this device access, and not at it?"""
        return False

    def caveat(self) -> str:
        """A remark that is shown beside this engine's results on this host; "" for none."""
        return ""

    def kernel_exits(self) -> dict[str, int] | None:
        """The host kernel's counters for this guest ("exits", "pf_fixed", ...); None where it has
        none."""
        return None

    def cpu_seconds(self) -> float | None:
        """CPU time that the host's scheduler has given to this guest's own processes so far, in
        seconds; None where the guest has none."""
        return None

    def real_registers(self) -> dict[str, int] | None:
        """What the CPU really holds of the guest between two entries, where the engine can look:
        the selectors, "rflags", and "rip", "rax" and "rsp" while the guest's are loaded. None: software
        executes the guest, or the host does not say."""
        return None

    @abstractmethod
    def where(self) -> str:
        """The place of the guest's registers in a few words: "process 4711, CPU 1"."""

    @abstractmethod
    def close(self) -> None:
        """Release all processes, descriptors and mappings. A second call has no effect."""


class PortEngine(Engine):
    """An engine at whose exits the hardware has taken port accesses apart, for handlers of
    ``run_known``. The key of a site is its own."""

    @abstractmethod
    def port_access(self) -> tuple[int, int, int, bool] | None:
        """The access that the guest has been left for last: (key, port, size, is it an OUT); None where
        it was another exit, or a string of accesses."""

    @abstractmethod
    def port_data(self, size: int) -> int:
        """The value of an OUT that the guest has been left for."""


ALL_REASONS = frozenset(Reason)
"""``exits_for`` of a trap core: every sensitive instruction exits."""

KERNEL_SPACE, USER_SPACE, DISPLACED_SPACE = 0, 1, 2
"""The two address spaces of a deprivileged guest, one for each virtual privilege level: both run at
real ring 3, where the page tables' U/S bit cannot separate them. And a third, for the kernel's code in
the upper half: what it reaches lies displaced there (cores/vmm/upper_half.py)."""


_OUT_OF_LINE = 0x5000_0000_0000 + 4096 * secrets.randbelow(1 << 31)
OUT_OF_LINE = range(_OUT_OF_LINE, _OUT_OF_LINE + 3 * 4096)
"""Addresses in both spaces that are reserved for the VMM (cores/vmm/faults/out_of_line.py), drawn anew
in each run: the guest's pages are never mapped there."""

CODE_SIZE, DATA_SIZE = 4 << 20, (1 << 20) + 4096
_TRANSLATED = 0x4000_0000_0000 + 4096 * secrets.randbelow(1 << 31)
TRANSLATED = range(_TRANSLATED, _TRANSLATED + CODE_SIZE + DATA_SIZE)
"""Likewise in ``DISPLACED_SPACE``: translated code, and its data (cores/vmm/translated_code.py)."""

CALLOUT_CODE = 4 << 20
"""Bytes of guest code in which callouts can be planted (cores/vmm/callouts.py)."""
CALLOUT_REGION = CALLOUT_CODE + 18 * 4096
"""Bytes for the routines that their jumps lead to: in the twin behind translated code and its data."""


class DeprivilegedEngine(Engine):
    """An engine that executes guest kernel and guest user alike at ring 3 (trap-and-emulate).

    It does not walk the guest's page tables: its address spaces are empty until the VMM maps into
    them, and an access to an unmapped page exits as Fault(#PF). The host's own mappings thus form a
    virtual TLB, which the VMM fills and drops (cores/vmm/shadow_tlb.py).

    Before entering, the engine loads general registers, RIP, FS and GS base, and of RFLAGS only
    ``native_flags(cpu)``; after the exit it copies the same back. It never changes the rest of ``cpu``.
    """

    space: int = KERNEL_SPACE
    """The address space that ``step`` and ``run`` execute in. The VMM sets it before entering."""

    executes_legacy_code: bool = False
    """Whether it can enter 16- and 32-bit code."""

    pure: bool = False
    """Textbook trap-and-emulate: ``run`` executes every instruction that does not trap. Set by the
    VMM."""

    def patched_twin(self) -> memoryview | None:
        """A second memory as large as RAM, from which free mode executes patched code
        (cores/vmm/patching/twin.py), with room for code of the VMM's behind it; None: this engine
        detects sensitive instructions by itself, and returns Intercept at them."""
        return None

    def window(self) -> RegisterWindow | None:
        """The registers in ``space`` after an exit, for handlers whose key is RIP; None: this engine
        has no ``run_known``."""
        return None

    hides_code: bool = False
    """Does ``map`` with readable=False make pages that cannot be read?"""

    def origin(self, cpu: VirtualCpu) -> int:
        """The host's address of the guest's linear address 0, which the VMM adds to addresses that it
        maps, modulo 2**32 outside long mode. There it may be above the lowest pages, which Linux maps
        for no one."""
        return 0

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
        populate: bool = False,
    ) -> bool:
        """Map RAM at ``gpa`` (page aligned, may be in ``Ram.scratch``) to ``gva`` in ``space``,
        replacing earlier mappings. twin: map ``patched_twin`` at that offset instead. readable: False
        requests an execute-only page, which hosts without protection keys make readable. populate: the
        host may enter the pages into its own tables at once: each is RAM that the guest has stored to.

        False where ``reaches`` is false."""

    @abstractmethod
    def unmap(self, space: int, gva: int, length: int) -> None:
        """Remove all mappings in the range."""

    def map_copies(self, space: int, gva: int, gpa: int, length: int) -> bool:
        """Map RAM as ``map`` does, for loads and stores, but let the guest's first store to each page
        make a copy of it. False: this engine, or this host, cannot tell which pages have one."""
        return False

    def take_copies(self, space: int, gva: int, gpa: int, length: int) -> list[int]:
        """Bring the copies that the guest has made in this mapping, of ``map_copies``, to RAM: the
        numbers of these pages. It is to be replaced before the guest is entered again."""
        return []

    @abstractmethod
    def drop_all(self) -> None:
        """Empty all address spaces."""

    def drop_all_but(self, space: int, pages: Sequence[int]) -> bool:
        """``drop_space``, but keep the mappings of these pages (their addresses, in order; at least
        one). False: they could not be kept."""
        self.drop_space(space)
        return False

    def drop_space(self, space: int) -> None:
        """Empty one address space; an engine may empty all."""
        self.drop_all()

    most_spaces: int = 3
    """How many address spaces there may be. Those behind the three are for other values of CR3
    (cores/vmm/shadow_space.py)."""

    plants: bool = False
    """Whether ``step_to`` is faster than ``step``."""

    def step_to(self, cpu: VirtualCpu, plants: tuple[int, int], ends: tuple[int, int]) -> Exit:
        """``step`` of an instruction of 64-bit code that leads to one of the addresses ``ends``, and
        accesses neither byte of RAM at ``plants``: they may be another instruction meanwhile."""
        return self.step(cpu)

    @abstractmethod
    def fault_was_write(self, cpu: VirtualCpu) -> bool:
        """Was the access of the last Fault(#PF) a store? The VMM calls it only when the guest's page
        tables make the answer matter, since it is costly on a host that does not report it."""
