"""Exact mode around one instruction: values noted before it runs and used after it.

    undefined results   the SDM leaves flags and a few destinations to each CPU, the platform does not
    stores              which ranges of RAM the instruction wrote, for the comparison of machines
    REP over itself     a string instruction that overwrites its own bytes
    normalizing         prefixes that a translator would obey and a CPU does not

Free mode does none of this: there each CPU gives its own results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from cores.deadline import Deadline
from cores.vmm.completion import Completion
from cores.vmm.emulate.emulator import Handler
from cores.vmm.emulate.strings import HANDLERS as STRINGS
from cores.vmm.state import GuestContext
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import accesses, overwrites_itself
from cores.x86.isa.decoder import decode
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.isa.opcodes import is_x87
from cores.x86.isa.prefixes import normalized
from cores.x86.isa.undefined_results import keeps_memory, settle
from cores.x86.mmu.paging import PAGE
from cores.x86.mmu.segmentation import code_address
from cores.x86.registers import CS, FS, MASK64, Cr0, Cr4, Flag, Vector
from cores.x86.system import x87_logarithm
from cores.x86.system.sse_denormals import reads_denormal
from cores.x86.system.x87_environment import (
    after_comparison,
    after_mmx,
    mxcsr,
    unmasked_sse,
    with_mxcsr,
)
from cores.x86.system.x87_exceptions import corrected
from cores.x86.system.x87_stack import Effect, Stack, effect
from cores.x86.virtual_cpu import Segment, VirtualCpu

_COMPARED = Flag.ZF | Flag.PF | Flag.CF


class Before:
    """Registers and flags before an instruction; also the memory operand where the platform leaves it
    unchanged, and x87's state before an MMX instruction or an x87 comparison."""

    __slots__ = ("_flags", "_fpu", "_gpr", "_guest", "_insn", "_operand")

    def __init__(self, guest: GuestContext, insn: Instruction) -> None:
        self._guest, self._insn = guest, insn
        self._gpr, self._flags = guest.cpu.gpr.copy(), guest.cpu.rflags
        self._operand: tuple[int, bytes] | None = None
        if keeps_memory(insn, self._gpr):  # SHLD and SHRD of 16 bits by more
            gva, length, _ = accesses(insn, guest.cpu)[0]
            self._operand = gva, guest.mmu.read(gva, length)
        floating = insn.undefined_rule in ("mmx", "comparison")
        self._fpu = guest.engine.read_fpu() if floating else None

    def settle(self) -> None:
        """Set results that the architecture leaves undefined to the platform's values."""
        settle(self._insn, self._gpr, self._flags, self._guest.cpu)
        if self._operand is not None:
            self._guest.mmu.write(*self._operand)
        if self._fpu is not None:
            engine = self._guest.engine
            after = engine.read_fpu()
            if self._insn.undefined_rule == "mmx":
                settled = after_mmx(self._insn, self._fpu, after)
            else:
                settled = after_comparison(self._fpu, after)
                if settled is not after and self._insn.undefined:
                    cpu = self._guest.cpu
                    cpu.rflags = cpu.rflags & ~_COMPARED | self._flags & _COMPARED
            if settled != after:
                engine.write_fpu(settled)


@contextlib.contextmanager
def normalizing(guest: GuestContext, insn: Instruction, code: bytes) -> Iterator[None]:
    """Replace ``insn`` in memory by ``code`` of the same length while an engine executes it: for a
    translator, without the prefixes that a CPU does not obey (cores/x86/isa/prefixes.py)."""
    rip, view = code_address(guest.cpu, guest.cpu.rip), guest.memory.view
    places = [guest.mmu.translate(rip + i & MASK64, execute=True) for i in range(len(code))]
    try:
        for place, byte in zip(places, code, strict=True):
            view[place] = byte
        guest.engine.memory_changed()
        yield
    finally:
        for place, byte in zip(places, insn.code, strict=True):
            view[place] = byte
        guest.engine.memory_changed()


def stores_through_code(insn: Instruction, cpu: VirtualCpu) -> bool:
    """Whether it stores through CS in real mode, where a CPU permits that. At ring 3 CS has a
    descriptor of code, which none can write."""
    if insn.bits == 64 or cpu.cr0 & Cr0.PE or insn.access in ("", "r"):
        return False
    return any(isinstance(o, MemoryOperand) and o.segment == CS for o in insn.operands)


@contextlib.contextmanager
def through_data(guest: GuestContext, insn: Instruction) -> Iterator[Instruction]:
    """Let ``insn``, which stores through CS, store through FS, which is the same segment meanwhile.
    Gives the instruction that is to be executed in its place."""
    cpu = guest.cpu
    code = bytearray(insn.code)
    code[code.rindex(_CS_OVERRIDE, 0, parse(insn.code, insn.bits).opcode_at)] = _FS_OVERRIDE
    kept, cs = cpu.segments[FS], cpu.segments[CS]
    cpu.segments[FS] = Segment(kept.selector, cs.base, cs.limit, _DATA)
    try:
        with normalizing(guest, insn, bytes(code)):
            yield decode(bytes(code), insn.bits)
    finally:
        cpu.segments[FS] = kept


_CS_OVERRIDE, _FS_OVERRIDE = 0x2E, 0x64
_DATA = 0x93
"""Attributes of writable data, present and accessed."""


def bridge(
    guest: GuestContext, completion: Completion, insn: Instruction, step: Callable[[Instruction], None]
) -> None:
    """Complete an ordinary instruction that the engine would not execute as a CPU does: by its handler,
    or, where a translator only misreads its prefixes, by the engine without them. step: enters the
    guest until the instruction is complete."""
    if handler := overwriting_itself(insn, guest.cpu):  # met by a free run
        completion.bridge(insn, handler)
        return
    by_handler = insn.varies or insn.undefined_rule == "approximation"
    respells = guest.engine.traits.translates and not by_handler
    code = normalized(insn.code, insn.bits) if respells else None
    plain = insn if code is None else decode(code, insn.bits)
    if code is not None and guest.engine.admits(plain, guest.cpu, guest.mmu):
        with normalizing(guest, insn, code):
            step(insn)
        guest.trace.bridged += 1
    elif respells and (what := _x87_effect(insn)) is not None:
        _x87(guest, completion, insn, what, step)
    elif respells and code is not None and _is_sse(plain):
        with normalizing(guest, insn, code):
            _sse(guest, plain, lambda _: step(insn))
        guest.trace.bridged += 1
    elif respells and _is_sse(insn):
        _sse(guest, insn, step)
    else:
        completion.bridge(insn)


def _x87_effect(insn: Instruction) -> Effect | None:
    """The effect of an x87 instruction on the stack; None for other instructions."""
    encoding = parse(insn.code, insn.bits) if insn.floating else None
    return effect(encoding) if encoding is not None and is_x87(encoding) else None


def _is_sse(insn: Instruction) -> bool:
    """Whether Unicorn executes it rightly but for #XM and MXCSR.DE: MMX or SSE."""
    return insn.floating and not insn.mistranslated and not is_x87(parse(insn.code, insn.bits))


def _x87(
    guest: GuestContext, completion: Completion, insn: Instruction, what: Effect,
    step: Callable[[Instruction], None],
) -> None:  # fmt: skip
    """Complete an x87 instruction for a translator: by the handler where it meets a stack fault, else
    by the engine. A translator delivers a result whatever the masks; of an unmasked invalid operation
    or division by zero a CPU delivers none (SDM vol. 1, 8.5.1 and 8.5.3), of an overflow or underflow
    another one (x87_exceptions.py)."""
    engine, before = guest.engine, guest.engine.read_fpu()
    stack = Stack(before)
    if not stack.as_a_translator_has_it(what):
        completion.bridge(insn)
        return
    flags, stored, operand = guest.cpu.rflags, _stored(guest, insn), _operand(guest, insn)
    step(insn)
    after = engine.read_fpu()
    encoding = parse(insn.code, insn.bits)
    if x87_logarithm.computes(encoding) and x87_logarithm.is_beyond(encoding, stack):
        engine.write_fpu(x87_logarithm.complete(encoding, before[:6] + after[6:24] + before[24:]))
        return
    image = stack.undelivered(what, after)
    withheld = image is not None
    if image is None and (found := corrected(encoding, what, before, after, operand)) is not None:
        image, withheld = found
    if image is not None:
        engine.write_fpu(image)
    if image is not None and withheld:
        if image[2] & 0x80:
            guest.cpu.rflags = flags
        for gva, old in stored:
            guest.mmu.write(gva, old)


def _sse(guest: GuestContext, insn: Instruction, step: Callable[[Instruction], None]) -> None:
    """Complete an SSE instruction for a translator, which sees no denormal operand and never raises
    #XM: by the engine, and undone where it has raised an exception that MXCSR does not mask (SDM vol.
    1, 11.5.2)."""
    engine, cpu = guest.engine, guest.cpu
    before, saved, stored = engine.read_fpu(), cpu.copy(), _stored(guest, insn)
    denormal = 0x02 if reads_denormal(insn, before, _operand(guest, insn)) else 0
    sticky = mxcsr(before)
    engine.write_fpu(with_mxcsr(before, sticky & ~0x3F))
    try:
        step(insn)
    except GuestFault:
        engine.write_fpu(before)
        raise
    after = engine.read_fpu()
    raised = mxcsr(after) & 0x3F
    if not raised & 0x05:  # #I and #Z come first
        raised |= denormal
    if recorded := unmasked_sse(before, raised):
        engine.write_fpu(with_mxcsr(before, sticky | recorded))
        cpu.assign(saved)
        for gva, old in stored:
            guest.mmu.write(gva, old)
        raise GuestFault(Vector.XM if cpu.cr4 & Cr4.OSXMMEXCPT else Vector.UD)
    engine.write_fpu(with_mxcsr(after, sticky | raised))


def _operand(guest: GuestContext, insn: Instruction) -> bytes:
    """The memory operand before ``insn``, b"" where there is none or it will fault."""
    for gva, length, _ in accesses(insn, guest.cpu):
        with contextlib.suppress(GuestFault):
            return guest.mmu.peek(gva, length)
    return b""


def _stored(guest: GuestContext, insn: Instruction) -> list[tuple[int, bytes]]:
    """Linear addresses and contents of the RAM to which ``insn`` will store."""
    found = []
    for gva, length, store in accesses(insn, guest.cpu):
        if store:
            with contextlib.suppress(GuestFault):  # it will fault
                found.append((gva, guest.mmu.peek(gva, length)))
    return found


def overwriting_itself(insn: Instruction, cpu: VirtualCpu) -> Handler | None:
    """The handler of a REP instruction that stores to its own bytes, None for any other."""
    return STRINGS.get(insn.mnemonic) if insn.repeat and overwrites_itself(insn, cpu) else None


def ranges_in_ram(guest: GuestContext, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(GPA, length) of those parts of (GVA, length) ranges that are RAM, page by page: adjacent pages
    may have frames that are not."""
    found = []
    deadline = Deadline()
    for gva, length in ranges:
        while length:
            deadline.check()
            here = min(length, PAGE - gva % PAGE)
            with contextlib.suppress(GuestFault):  # a REP that stored nothing there
                gpa = guest.mmu.translate(gva & MASK64, user=False)
                if guest.memory.is_ram(gpa, here):
                    found.append((gpa, here))
            gva += here
            length -= here
    return found
