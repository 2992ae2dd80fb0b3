"""Handlers of known exits on a trap core, where the engine has the guest's registers as plain words.

Each maker takes a site, looks at its instruction once, and returns the function that completes it. What
it does is what the emulation handler of the same name does (cores/vmm/emulate/), without the questions
whose answers the site has settled; ``_any`` calls that very handler.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from time import perf_counter_ns

from cores.engines.base import DeprivilegedEngine, Handler
from cores.pc import cpuid as platform_cpuid
from cores.vmm.completion import Completion
from cores.vmm.emulate.table import HANDLERS
from cores.vmm.first_stores import FirstStores
from cores.vmm.known_accesses import MEMORY, memory_access
from cores.vmm.known_exits import KnownExits
from cores.vmm.known_site import Site
from cores.vmm.patched_code import PatchedCode
from cores.vmm.state import GuestContext
from cores.vmm.trace import ExitEvent
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Immediate, Instruction, Reason, Register
from cores.x86.mmu.paging import PAGE
from cores.x86.mode import DEFAULT_32
from cores.x86.registers import (
    CS,
    MASK32,
    MASK64,
    RAX,
    RBX,
    RCX,
    RDX,
    REGISTER_FILE,
    RSP,
    SEGMENT_NAMES,
    SS,
    USER_FLAGS,
    Cr4,
    Flag,
    canonical,
)
from cores.x86.system.control_registers import read_control, read_tsc
from cores.x86.virtual_cpu import DPL, Segment, VirtualCpu

_IF, _LENT = int(Flag.IF), int(USER_FLAGS)
"""_LENT: the flags that the real CPU has, while the others are virtual (SDM vol. 1, 3.4.3)."""
_UNPUSHED = ~int(Flag.RF | Flag.VM)
_POPPED = _IF | _LENT
"""The flags that the short way of POPF changes; a change of any other takes the long way."""
_SMAP = int(Cr4.SMAP)


class SiteMaker:
    """Makes the handlers of one deprivileged guest. known: set when it exists."""

    def __init__(
        self,
        guest: GuestContext,
        engine: DeprivilegedEngine,
        completion: Completion,
        patched: PatchedCode,
        stores: FirstStores,
    ) -> None:
        self._guest, self._engine = guest, engine
        self._completion, self._patched, self._stores = completion, patched, stores
        self.known: KnownExits | None = None

    def __call__(self, record: ExitEvent) -> tuple[int, Handler] | None:
        """See ``Maker``: the key is RIP."""
        guest, cpu, rip = self._guest, self._guest.cpu, record.rip
        window = self._engine.window()
        insn = decode(record.code, record.place.bits) if record.code else None
        if insn is None or window is None or self.known is None:
            return None
        if insn.bits != 64 and not _is_flat(cpu):
            return None
        make: Callable[[Site], Handler | None] | None = None
        if record.reason in MEMORY:
            make = memory_access
        elif insn.reason is record.reason and (insn.bits == 64 or insn.mnemonic in IN_32_BITS):
            make = MAKERS.get(insn.mnemonic)
        if make is None:
            return None
        site = Site(
            guest, self.known, self._completion, self._stores, self._patched, window, insn, record,
            rip + insn.length, cpu.cpl,
        )  # fmt: skip
        handler = make(site)
        return None if handler is None else (rip, handler)


def _out(site: Site) -> Handler | None:
    words, rip, rax, rdx = _places(site)
    guest, known, record, following = site.guest, site.known, site.record, site.following
    board, went_on = guest.board, known.went_on
    destination, source = site.insn.operands
    if site.ring or not isinstance(source, Register):
        return None
    size, mask = source.size, (1 << 8 * source.size) - 1
    fixed = destination.value & 0xFF if isinstance(destination, Immediate) else None
    ways: dict[int, tuple[Callable[[int], None], Callable[[int, int, bool], str]]] = {}

    def handle() -> bool | None:
        began = perf_counter_ns()
        if began >= known.due:
            return None
        guest.ticks = board.now = (began - known.origin) // 1000
        port = words[rdx] & 0xFFFF if fixed is None else fixed
        value = words[rax] & mask
        way = ways.get(port)
        if way is None:
            way = ways[port] = board.writer(port, size), board.describer(port)
        write, describe = way
        try:
            write(value)
        except Unsupported:
            return None
        words[rip] = following
        guest.instructions += 1
        known.log((record, describe(port, value, True), perf_counter_ns() - began))
        return went_on()

    return handle


def _in(site: Site) -> Handler | None:
    words, rip, rax, rdx = _places(site)
    guest, known, record, following = site.guest, site.known, site.record, site.following
    board, went_on = guest.board, known.went_on
    read = board.read
    destination, source = site.insn.operands
    if site.ring or not isinstance(destination, Register):
        return None
    size = destination.size
    kept = 0 if size == 4 else ~((1 << 8 * size) - 1)
    fixed = source.value & 0xFF if isinstance(source, Immediate) else None
    ways: dict[int, Callable[[int, int, bool], str]] = {}

    def handle() -> bool | None:
        began = perf_counter_ns()
        if began >= known.due:
            return None
        guest.ticks = board.now = (began - known.origin) // 1000
        port = words[rdx] & 0xFFFF if fixed is None else fixed
        value = read(port, size)
        describe = ways.get(port)
        if describe is None:
            describe = ways[port] = board.describer(port)
        words[rax] = words[rax] & kept | value
        words[rip] = following
        guest.instructions += 1
        known.log((record, describe(port, value, False), perf_counter_ns() - began))
        return went_on()

    return handle


def _cli(site: Site) -> Handler | None:
    words, rip, _, _ = _places(site)
    guest, known, record, following = site.guest, site.known, site.record, site.following
    cpu = guest.cpu
    if site.ring:
        return None

    def handle() -> bool | None:
        began = perf_counter_ns()
        cpu.rflags &= ~_IF
        words[rip] = following
        guest.instructions += 1
        known.log((record, "virtual IF = 0", (now := perf_counter_ns()) - began))
        return now < known.due

    return handle


def _sti(site: Site) -> Handler | None:
    words, rip, _, _ = _places(site)
    guest, known, record, following = site.guest, site.known, site.record, site.following
    cpu, board = guest.cpu, guest.board
    if site.ring:
        return None

    def handle() -> bool | None:
        if board.interrupt_pending:
            return None
        began = perf_counter_ns()
        cpu.interrupt_shadow = not cpu.rflags & _IF
        known.shadow_at = following
        cpu.rflags |= _IF
        words[rip] = following
        guest.instructions += 1
        known.log((record, "virtual IF = 1", (now := perf_counter_ns()) - began))
        return now < known.due

    return handle


def _pushf(site: Site) -> Handler | None:
    cpu, words, rflags = site.guest.cpu, site.window.words, site.window.rflags
    details: dict[int, str] = {}

    def pushed() -> tuple[int, str]:
        image = (cpu.rflags & ~_LENT | words[rflags] & _LENT) & _UNPUSHED
        detail = details.get(image)
        if detail is None:
            detail = details[image] = f"pushed the virtual flags {image:#x}"
        return image, detail

    return _pushing(site, pushed)


def _push(site: Site) -> Handler | None:
    """PUSH of a segment register."""
    segments, (operand,) = site.guest.cpu.segments, site.insn.operands
    if not isinstance(operand, Register) or operand.name not in SEGMENT_NAMES:
        return None
    number, detail = SEGMENT_NAMES.index(operand.name), f"pushed the virtual {operand.name}"
    return _pushing(site, lambda: (segments[number].selector, detail))


def _pushing(site: Site, pushed: Callable[[], tuple[int, str]]) -> Handler | None:
    """Push a number. pushed: gives it, and tells of it."""
    words, rip, _, _ = _places(site)
    rsp = site.window.general[RSP]
    guest, known, record, following = site.guest, site.known, site.record, site.following
    cpu, translate, memory, patched = guest.cpu, guest.mmu.translate, guest.memory, site.patched
    view, is_ram = memory.view, memory.is_ram
    size, mask = site.insn.operand_size, _stack_mask(site.insn)
    if size == 2:
        return None
    page = frame = flushes = -1  # the page of the stack that the last push was to

    def handle() -> bool | None:
        nonlocal page, frame, flushes
        began = perf_counter_ns()
        at = (words[rsp] & mask) - size
        if at < 0 or not canonical(at) or at & size - 1 or patched.patcher is None:
            return None
        if at & -PAGE != page or guest.flushes != flushes or cpu.cr4 & _SMAP:
            try:
                gpa = translate(at, write=True)
            except GuestFault:
                return None
            if gpa & -PAGE in patched.patcher.pages or not is_ram(gpa, size):
                return None
            page, frame, flushes = at & -PAGE, gpa & -PAGE, guest.flushes
        value, detail = pushed()
        here = frame | at & PAGE - 1
        view[here : here + size] = value.to_bytes(size, "little")
        words[rsp], words[rip] = at, following
        guest.instructions += 1
        known.log((record, detail, (now := perf_counter_ns()) - began))
        return now < known.due and not memory.writes

    return handle


def _popf(site: Site) -> Handler | None:
    words, rip, _, _ = _places(site)
    rsp, rflags = site.window.general[RSP], site.window.rflags
    guest, known, record, following = site.guest, site.known, site.record, site.following
    cpu, translate, memory, board = guest.cpu, guest.mmu.translate, guest.memory, guest.board
    view, is_ram = memory.view, memory.is_ram
    size, mask = site.insn.operand_size, _stack_mask(site.insn)
    if size == 2 or site.ring:
        return None

    def handle() -> bool | None:
        began = perf_counter_ns()
        at = words[rsp] & mask
        if not canonical(at) or at & size - 1:
            return None
        try:
            gpa = translate(at)
        except GuestFault:
            return None
        if not is_ram(gpa, size):
            return None
        image, old = int.from_bytes(view[gpa : gpa + size], "little"), cpu.rflags
        if (image ^ old) & ~_POPPED or (image & ~old & _IF and board.interrupt_pending):
            return None
        cpu.rflags = flags = old & ~_POPPED | image & _POPPED
        words[rflags] = words[rflags] & ~_LENT | image & _LENT
        words[rsp], words[rip] = at + size & mask, following
        guest.instructions += 1
        known.log((record, f"virtual flags = {flags:#x}", (now := perf_counter_ns()) - began))
        return now < known.due and not memory.writes

    return handle


def _cpuid(site: Site) -> Handler | None:
    words, rip, rax, rdx = _places(site)
    rbx, rcx = site.window.general[RBX], site.window.general[RCX]
    guest, known, record, following = site.guest, site.known, site.record, site.following
    answer = platform_cpuid.cpuid

    def handle() -> bool | None:
        began = perf_counter_ns()
        leaf = words[rax] & 0xFFFFFFFF
        words[rax], words[rbx], words[rcx], words[rdx] = answer(leaf, words[rcx] & 0xFFFFFFFF)
        words[rip] = following
        guest.instructions += 1
        detail = f"leaf {leaf:#x} of the platform's CPU"
        known.log((record, detail, (now := perf_counter_ns()) - began))
        return now < known.due

    return handle


def _rdtsc(site: Site) -> Handler | None:
    words, rip, rax, rdx = _places(site)
    guest, known, record, following = site.guest, site.known, site.record, site.following
    cpu = guest.cpu
    if site.ring:
        return None

    def handle() -> bool | None:
        began = perf_counter_ns()
        guest.ticks = (began - known.origin) // 1000
        value = read_tsc(cpu, guest.ticks)
        words[rax], words[rdx] = value & 0xFFFFFFFF, value >> 32
        words[rip] = following
        guest.instructions += 1
        detail = f"gave virtual time {value}"
        known.log((record, detail, (now := perf_counter_ns()) - began))
        return now < known.due

    return handle


def _any(site: Site) -> Handler | None:
    """Whatever else changes general registers, or drops translations: by its emulation handler."""
    window, words, rip, rflags = site.window, site.window.words, site.window.rip, site.window.rflags
    guest, known, record, insn = site.guest, site.known, site.record, site.insn
    cpu, went_on, complete = guest.cpu, known.went_on, site.completion.complete
    handler, general, here = HANDLERS[insn.mnemonic], itemgetter(*window.general), record.rip
    legacy, block = insn.bits != 64, words.cast("B")

    def handle() -> bool | None:
        began = perf_counter_ns()
        if began >= known.due:
            return None
        guest.ticks = (began - known.origin) // 1000
        top = cpu.gpr[RSP] & ~MASK32
        cpu.gpr[:] = general(words)
        if legacy:  # the upper half is the host's
            cpu.gpr[RSP] = top | cpu.gpr[RSP] & MASK32
        cpu.rip = here
        cpu.rflags = cpu.rflags & ~_LENT | words[rflags] & _LENT
        saved = bytes(block)  # dropping mappings is a system call in the guest's process
        try:
            detail = complete(insn, handler)
        except (GuestFault, Unsupported):
            return None
        finally:
            block[:] = saved
        for place, value in zip(window.general, cpu.gpr, strict=True):
            words[place] = value
        words[rflags] = words[rflags] & ~_LENT | cpu.rflags & _LENT
        words[rip] = cpu.rip
        guest.instructions += 1
        known.log((record, detail, perf_counter_ns() - began))
        return went_on()

    return handle


def _segment(site: Site) -> Handler | None:
    """A load or store of a segment register. Another segment than before has to be loaded into the real
    register, which only an entry by the engine does."""
    cpu, named = site.guest.cpu, [o.name for o in site.insn.operands if isinstance(o, Register)]
    numbers = [SEGMENT_NAMES.index(name) for name in named if name in SEGMENT_NAMES]
    complete = _any(site)
    if len(numbers) != 1 or numbers[0] == SS or complete is None:  # SS makes an interrupt shadow
        return None
    (number,) = numbers

    def handle() -> bool | None:
        before = _hidden(cpu.segments[number])
        went_on = complete()
        return went_on and _hidden(cpu.segments[number]) == before

    return handle


def _hidden(segment: Segment) -> tuple[int, int, int]:
    """What the real segment register has of a virtual one: not its selector, nor its DPL."""
    return segment.base, segment.limit, segment.attributes & ~DPL


def _mov(site: Site) -> Handler | None:
    """MOV from a control register, to CR3, and from and to segment registers."""
    if site.insn.reason is Reason.SEGMENT:
        return _segment(site)
    words, rip, _, _ = _places(site)
    guest, known, record, following = site.guest, site.known, site.record, site.following
    cpu, (destination, source) = guest.cpu, site.insn.operands
    if site.ring or not isinstance(destination, Register) or not isinstance(source, Register):
        return None
    if destination.name == "cr3":
        return _any(site)
    if not source.name.startswith("cr"):
        return None
    place = site.window.general[REGISTER_FILE[destination.name][0]]
    name, number = source.name, int(source.name[2:])

    def handle() -> bool | None:
        began = perf_counter_ns()
        words[place] = value = read_control(cpu, number)
        words[rip] = following
        guest.instructions += 1
        detail = f"gave the virtual {name} {value:#x}"
        known.log((record, detail, (now := perf_counter_ns()) - began))
        return now < known.due

    return handle


def _places(site: Site) -> tuple[memoryview, int, int, int]:
    """The words of the window, and the places of RIP, RAX and RDX in them."""
    window = site.window
    return window.words, window.rip, window.general[RAX], window.general[RDX]


def _is_flat(cpu: VirtualCpu) -> bool:
    """Are code and stack segments of 32 bits, from 0 to 4 GiB?"""
    segments = cpu.segments[CS], cpu.segments[SS]
    return all(s.base == 0 and s.limit == MASK32 and s.attributes & DEFAULT_32 for s in segments)


def _stack_mask(insn: Instruction) -> int:
    """The bits of the stack pointer. In 32-bit code the engine's word may have more."""
    return MASK64 if insn.bits == 64 else MASK32


IN_32_BITS = frozenset({"out", "in", "cli", "sti", "pushf", "popf", "cpuid", "mov", "push", "pop"})
"""Instructions with a handler in 32-bit code, too, where that is flat."""
MAKERS: dict[str, Callable[[Site], Handler | None]] = {
    "out": _out, "in": _in, "cli": _cli, "sti": _sti, "pushf": _pushf, "popf": _popf, "cpuid": _cpuid,
    "mov": _mov, "rdtsc": _rdtsc, "push": _push, "pop": _segment,
    **dict.fromkeys(("rdtscp", "rdmsr", "lar", "lsl", "verr", "verw"), _any),
}  # fmt: skip
"""By mnemonic. Instructions without a maker always take the long way."""
