"""Handlers of known exits at instructions that access memory, on a trap core.

A page that is not mapped in the vCPU process stops the guest for one of two reasons, and both come
again at the same instruction: a copying loop meets one new page after another (a hidden fault), and a
driver reads one device register at one place. The long way is ``PageFaults``: the kernel's siginfo
gives the address. Here it follows from the registers, as the CPU computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from time import perf_counter_ns

from cores.engines.base import Handler
from cores.vmm.device_move import device_move
from cores.vmm.faults.page_faults import FILLED, MOVED
from cores.vmm.known_site import Site
from cores.vmm.shadow_tlb import Filled
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import Access, next_accesses
from cores.x86.isa.instruction import MemoryOperand, Reason, Sensitivity
from cores.x86.mmu.paging import PAGE, walk
from cores.x86.registers import DS, ES, FS, MASK32, RDI, RSP, SS, USER_FLAGS
from cores.x86.virtual_cpu import VirtualCpu

MEMORY = frozenset({Reason.SHADOW, Reason.MMIO})
"""The exits that these handlers are for."""
_CERTAIN = frozenset({"", "string", "push", "pop", "call", "ret", "leave"})
"""``Instruction.implicit`` of instructions that make every access which ``next_accesses`` names."""
_LENT = int(USER_FLAGS)
_KIND, _WRITABLE_DATA = 0x9E, 0x92
"""Bits of a segment's attributes: present, S and type without A; their value in a writable data segment
that does not expand down (SDM vol. 3, 3.4.5.1)."""
Touched = Callable[[], tuple[Access, ...]]
"""Gives the accesses that the instruction is about to make."""
Device = Callable[[int, int], None]
"""Makes the access that an instruction makes to a device, at this GPA of this many bytes."""


def memory_access(site: Site) -> Handler | None:
    """The handler of an instruction that has met a page which was not mapped."""
    guest, insn, window, known = site.guest, site.insn, site.window, site.known
    cpu, shadow, patched = guest.cpu, guest.shadow, site.patched
    if shadow is None or insn.sensitivity is not Sensitivity.ORDINARY or insn.implicit not in _CERTAIN:
        return None
    if insn.floating or insn.varies or any(_in_fs_or_gs(operand) for operand in insn.operands):
        return None
    words, block, rip, rflags = window.words, window.words.cast("B"), window.rip, window.rflags
    general, here, legacy = itemgetter(*window.general), site.record.rip, insn.bits != 64
    memory, is_ram, device = guest.memory, guest.memory.is_ram, _device(site)
    filled = site.record._replace(reason=Reason.SHADOW, handled=FILLED)
    accessed = site.record._replace(reason=Reason.MMIO, handled=MOVED)
    following, is_store = site.following, insn.access == "w"

    def all_accesses() -> tuple[Access, ...]:
        gpr, top = cpu.gpr, cpu.gpr[RSP] & ~MASK32
        gpr[:] = general(words)
        if legacy:  # the upper half is the host's
            gpr[RSP] = top | gpr[RSP] & MASK32
        cpu.rip = here
        cpu.rflags = cpu.rflags & ~_LENT | words[rflags] & _LENT
        return next_accesses(insn, cpu)

    touched = _explicit_access(site) or _implicit_store(site) or all_accesses

    def handle() -> bool | None:
        began = perf_counter_ns()
        if began >= known.due or patched.patcher is None or (legacy and not _has_flat_data(cpu)):
            return None
        missing = [a for a in touched() if not shadow.holds(a[0], write=a[2])]
        if len(missing) != 1:
            return None
        ((gva, length, store),) = missing
        if gva >> 47 or gva % PAGE + length > PAGE:
            return None
        if store:
            saved = bytes(block)  # mapping a page is a system call in the guest's process
            if site.stores.fill(gva):
                block[:] = saved
                known.log((filled, f"page {gva & -PAGE:#x}", perf_counter_ns() - began))
                return known.went_on()
        try:
            page = walk(memory, cpu, gva, write=store)
            gpa = page.gpa
            if is_ram(gpa & -PAGE, PAGE):
                if gpa & -PAGE in patched.patcher.pages:
                    return None
                saved = bytes(block)  # mapping a page is a system call in the guest's process
                met = shadow.enter(page, gva, write=store, execute=False)
                block[:] = saved
                if met is not Filled.MAPPED:
                    return None
                known.log((filled, f"page {gva & -PAGE:#x}", perf_counter_ns() - began))
                return known.went_on()
        except GuestFault:
            return None
        if shadow.given is not None and gpa & -PAGE == shadow.given[0]:
            return None
        if device is None or (not store and guest.lent is not None and guest.lent.wanted(insn, gpa)):
            return None
        device(gpa, length)
        words[rip] = following
        guest.instructions += 1
        detail = memory.describe(gpa, length, is_write=is_store)
        known.log((accessed, detail, perf_counter_ns() - began))
        return known.went_on()

    return handle


def _explicit_access(site: Site) -> Touched | None:
    """Tells the one access of an instruction that makes no other than to its memory operand."""
    window, insn = site.window, site.insn
    operands = [operand for operand in insn.operands if isinstance(operand, MemoryOperand)]
    if insn.implicit or not insn.access or len(operands) != 1 or operands[0].relative:
        return None
    words, (operand,), store = window.words, operands, insn.access != "r"
    size, scale, displacement = operand.size, operand.scale, operand.displacement
    mask = (1 << 8 * operand.address_size) - 1
    base = None if operand.base is None else window.general[operand.base]
    index = None if operand.index is None else window.general[operand.index]

    def touched() -> tuple[Access, ...]:
        at = displacement
        if base is not None:
            at += words[base]
        if index is not None:
            at += words[index] * scale
        return ((at & mask, size, store),)

    return touched


def _implicit_store(site: Site) -> Touched | None:
    """Tells the one access of STOS, and of a PUSH or CALL without a memory operand, in flat
    segments."""
    window, insn = site.window, site.insn
    words, size = window.words, insn.operand_size
    if insn.mnemonic == "stos" and insn.address_size * 8 == insn.bits:
        place, mask, below = window.general[RDI], (1 << insn.bits) - 1, 0
    elif insn.implicit in ("push", "call") and not insn.access and site.insn.bits != 16:
        place, mask, below = window.general[RSP], (1 << insn.bits) - 1, size
    else:
        return None
    return lambda: (((words[place] - below) & mask, size, True),)


def _device(site: Site) -> Device | None:
    """What a MOV does where its memory operand is a device's; None for other instructions."""
    memory, words, move = site.guest.memory, site.window.words, device_move(site.insn)
    if move is None:
        return None
    place = 0 if move.register is None else site.window.general[move.register]

    def load(gpa: int, length: int) -> None:
        words[place] = move.loaded(words[place], memory.device_read(gpa, length))

    def store(gpa: int, length: int) -> None:
        memory.device_write(gpa, move.stored(words[place], length))

    return load if move.loads else store


def _in_fs_or_gs(operand: object) -> bool:
    return isinstance(operand, MemoryOperand) and operand.segment >= FS


def _has_flat_data(cpu: VirtualCpu) -> bool:
    """Are DS, ES and SS writable, from 0 to 4 GiB? Then no access of 32-bit code meets a limit."""
    for number in (DS, ES, SS):
        segment = cpu.segments[number]
        if segment.base or segment.limit != MASK32 or segment.attributes & _KIND != _WRITABLE_DATA:
            return False
    return True
