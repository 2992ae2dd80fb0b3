"""Far control transfers in 64-bit mode: far CALL, JMP and RET, IRET, SYSCALL, SYSRET, SWAPGS.

Each makes all its checks first and changes ``cpu`` last, so that a fault leaves the state unchanged.
Transfers that end in 32-bit code raise ``Unsupported`` after the CPU's checks: the platform does not
support compatibility mode.
"""

from __future__ import annotations

from cores.x86.faults import Unsupported, general_protection, segment_not_present, undefined_opcode
from cores.x86.mmu.paging import Mmu
from cores.x86.registers import (
    CS,
    DS,
    ES,
    FS,
    GS,
    MASK64,
    R11,
    RCX,
    RSP,
    SS,
    USER_FLAGS,
    Efer,
    Flag,
    canonical,
)
from cores.x86.system.descriptors import (
    CALL_GATE,
    Descriptor,
    is_null,
    load_stack_segment,
    mark_accessed,
    null_segment,
    read_descriptor,
    to_segment,
)
from cores.x86.system.interrupts import inner_stack
from cores.x86.virtual_cpu import Segment, VirtualCpu

_ANY_LEVEL = USER_FLAGS | Flag.TF | Flag.NT | Flag.RF | Flag.AC | Flag.ID
_RING0_ONLY = Flag.IOPL | Flag.VIF | Flag.VIP
_SYSRET_FLAGS = 0x3C7FD7

_FLAT = 0xFFFFFFFF
_KERNEL_CODE, _KERNEL_DATA = 0xA09B, 0xC093
_USER_CODE, _USER_DATA = 0xA0FB, 0xC0F3


def far_jump(mmu: Mmu, cpu: VirtualCpu, selector: int, offset: int) -> None:
    """JMP FAR to a code segment or through a call gate, at the same privilege (SDM vol. 2, JMP).

    offset: zero-extended from the operand; a gate has its own.
    """
    descriptor = _far_target(mmu, cpu, selector)
    if descriptor.system:
        gate = _call_gate(mmu, cpu, selector, descriptor)
        selector, offset = gate.gate_selector, gate.gate_offset
        descriptor = _gate_segment(mmu, cpu, selector)
        if not descriptor.conforming and descriptor.dpl != cpu.cpl:
            raise general_protection(selector & 0xFFFC)
    else:
        _check_direct(cpu, selector, descriptor)
    _check_entry(mmu, descriptor, offset)
    _enter(cpu, selector & 0xFFFC | cpu.cpl, descriptor, offset)


def far_call(
    mmu: Mmu, cpu: VirtualCpu, selector: int, offset: int, return_rip: int, operand_size: int
) -> None:
    """CALL FAR; a call gate may lead to a more privileged level, on that level's stack.

    operand_size: of the return address on the stack, 2, 4 or 8 bytes; through a gate always 8.
    """
    descriptor = _far_target(mmu, cpu, selector)
    if not descriptor.system:
        _check_direct(cpu, selector, descriptor)
        _check_entry(mmu, descriptor, offset)
        frame = [cpu.segments[CS].selector, return_rip]
        rsp = mmu.push(cpu.gpr[RSP], frame, size=operand_size)
        _enter(cpu, selector & 0xFFFC | cpu.cpl, descriptor, offset)
        cpu.gpr[RSP] = rsp
        return
    gate = _call_gate(mmu, cpu, selector, descriptor)
    selector = gate.gate_selector
    descriptor = _gate_segment(mmu, cpu, selector)
    cpl = cpu.cpl if descriptor.conforming else descriptor.dpl
    frame = [cpu.segments[CS].selector, return_rip]
    rsp = cpu.gpr[RSP]
    if cpl != cpu.cpl:
        frame = [cpu.segments[SS].selector, rsp, *frame]
        rsp = inner_stack(mmu, cpu, cpl)
    _check_entry(mmu, descriptor, gate.gate_offset)
    rsp = mmu.push(rsp, frame, user=cpl == 3)
    outer = cpu.cpl
    _enter(cpu, selector & 0xFFFC | cpl, descriptor, gate.gate_offset)
    cpu.gpr[RSP] = rsp
    if cpl != outer:
        cpu.segments[SS] = null_segment(cpl, cpl)


def far_return(mmu: Mmu, cpu: VirtualCpu, operand_size: int, pop_bytes: int = 0) -> None:
    """RET FAR, to the same or to an outer privilege level. pop_bytes: RET imm16 (SDM vol. 2, RET)."""
    rsp = cpu.gpr[RSP]
    rip, selector = mmu.pop(rsp, 2, size=operand_size)
    selector &= 0xFFFF
    descriptor = _return_segment(mmu, cpu, selector)
    cpl = selector & 3
    rsp = (rsp + 2 * operand_size + pop_bytes) & MASK64
    if cpl == cpu.cpl:
        _check_entry(mmu, descriptor, rip)
        _enter(cpu, selector, descriptor, rip)
        cpu.gpr[RSP] = rsp
        return
    rsp, stack_selector = mmu.pop(rsp, 2, size=operand_size)
    stack = _return_stack(mmu, cpu, stack_selector & 0xFFFF, cpl)
    _check_entry(mmu, descriptor, rip)
    _enter(cpu, selector, descriptor, rip)
    cpu.segments[SS] = stack
    cpu.gpr[RSP] = (rsp + pop_bytes) & MASK64
    _drop_privileged_segments(cpu)


def interrupt_return(mmu: Mmu, cpu: VirtualCpu, operand_size: int) -> None:
    """IRET, IRETD, IRETQ (SDM vol. 2, IRET): in 64-bit mode SS:RSP is popped at every size.

    operand_size: 2, 4 or 8 bytes. The interrupt shadow ends.
    """
    if cpu.rflags & Flag.NT:
        raise general_protection()  # there are no task returns in long mode
    rip, selector, flags, rsp, stack_selector = mmu.pop(cpu.gpr[RSP], 5, size=operand_size)
    selector &= 0xFFFF
    descriptor = _return_segment(mmu, cpu, selector)
    cpl = selector & 3
    stack = _return_stack(mmu, cpu, stack_selector & 0xFFFF, cpl)
    _check_entry(mmu, descriptor, rip)
    loadable = loadable_flags(cpu, operand_size)
    _enter(cpu, selector, descriptor, rip)
    cpu.segments[SS] = stack
    cpu.gpr[RSP] = rsp
    cpu.rflags = cpu.rflags & ~loadable | flags & loadable | Flag.FIXED
    cpu.interrupt_shadow = False
    _drop_privileged_segments(cpu)


def loadable_flags(cpu: VirtualCpu, operand_size: int) -> int:
    """The flags that IRET may change at this CPL and IOPL."""
    loadable = _ANY_LEVEL
    if cpu.cpl == 0:
        loadable |= _RING0_ONLY
    if cpu.cpl <= (cpu.rflags >> 12 & 3):
        loadable |= Flag.IF
    return loadable & 0xFFFF if operand_size == 2 else loadable


def _far_target(mmu: Mmu, cpu: VirtualCpu, selector: int) -> Descriptor:
    """The target of a far CALL or JMP: a code segment or a call gate; nothing else in long mode."""
    if is_null(selector):
        raise general_protection()
    descriptor = read_descriptor(mmu, cpu, selector)
    if descriptor.code or (descriptor.system and descriptor.type == CALL_GATE):
        return descriptor
    raise general_protection(selector & 0xFFFC)


def _check_direct(cpu: VirtualCpu, selector: int, descriptor: Descriptor) -> None:
    """Check that CALL or JMP may enter this code segment without a gate."""
    error = selector & 0xFFFC
    if descriptor.long and descriptor.big:
        raise general_protection(error)
    if descriptor.conforming:
        if descriptor.dpl > cpu.cpl:
            raise general_protection(error)
    elif selector & 3 > cpu.cpl or descriptor.dpl != cpu.cpl:
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)


def _call_gate(mmu: Mmu, cpu: VirtualCpu, selector: int, seen: Descriptor) -> Descriptor:
    """The 16-byte call gate, checked (SDM vol. 3, 5.8.3.1 and 5.8.4)."""
    error = selector & 0xFFFC
    if seen.dpl < max(cpu.cpl, selector & 3):
        raise general_protection(error)
    gate = read_descriptor(mmu, cpu, selector, wide=True)
    if gate.upper_type:
        raise general_protection(error)
    if not gate.present:
        raise segment_not_present(error)
    return gate


def _gate_segment(mmu: Mmu, cpu: VirtualCpu, selector: int) -> Descriptor:
    """The 64-bit code segment that a call gate leads to."""
    if is_null(selector):
        raise general_protection()
    error = selector & 0xFFFC
    descriptor = read_descriptor(mmu, cpu, selector)
    if not descriptor.code or descriptor.dpl > cpu.cpl:
        raise general_protection(error)
    if not descriptor.long or descriptor.big:
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)
    return descriptor


def _return_segment(mmu: Mmu, cpu: VirtualCpu, selector: int) -> Descriptor:
    """The code segment to which a far RET or IRET returns."""
    if is_null(selector):
        raise general_protection()
    error = selector & 0xFFFC
    descriptor = read_descriptor(mmu, cpu, selector)
    rpl = selector & 3
    if not descriptor.code or rpl < cpu.cpl or (descriptor.long and descriptor.big):
        raise general_protection(error)
    if descriptor.dpl > rpl or (not descriptor.conforming and descriptor.dpl != rpl):
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)
    return descriptor


def _return_stack(mmu: Mmu, cpu: VirtualCpu, selector: int, cpl: int) -> Segment:
    """The new contents of SS at ``cpl``; null is allowed on a return to 64-bit code below CPL 3."""
    if is_null(selector):
        if cpl == 3 or selector & 3 == 3:
            raise general_protection()
        return null_segment(selector, cpl)
    return load_stack_segment(mmu, cpu, selector, cpl)


def _check_entry(mmu: Mmu, descriptor: Descriptor, rip: int) -> None:
    """The last checks before a code segment is entered at ``rip``."""
    if not descriptor.long:
        if rip > descriptor.limit:
            raise general_protection()
        raise Unsupported(
            "the guest entered 32-bit code (a code segment with L = 0): "
            "compatibility mode is not part of this platform"
        )
    if not canonical(rip):
        raise general_protection()
    mark_accessed(mmu, descriptor)


def _enter(cpu: VirtualCpu, selector: int, descriptor: Descriptor, rip: int) -> None:
    """Load CS:RIP; the RPL of ``selector`` becomes CPL."""
    cpu.segments[CS] = to_segment(selector, descriptor)
    cpu.rip = rip


def _drop_privileged_segments(cpu: VirtualCpu) -> None:
    """On a return outwards, data segments that the new CPL may not use become null.

    Unlike a load of a null selector this leaves the base, as Intel CPUs and QEMU do: FS_BASE and
    GS_BASE survive. Unicorn (QEMU 5) zeroes them. Conforming code stays.
    """
    for index in (ES, DS, FS, GS):
        segment = cpu.segments[index]
        conforming = segment.attributes & 0x1C == 0x1C
        if not is_null(segment.selector) and not conforming and segment.dpl < cpu.cpl:
            segment.selector = 0
            segment.attributes &= ~0x80


def syscall(cpu: VirtualCpu, return_rip: int) -> None:
    """SYSCALL (SDM vol. 2): RIP to RCX, RFLAGS to R11, then to LSTAR at CPL 0. No stack switch."""
    if not cpu.efer & Efer.SCE:
        raise undefined_opcode()
    selector = cpu.star >> 32 & 0xFFFC
    cpu.gpr[RCX] = return_rip
    cpu.gpr[R11] = cpu.rflags
    cpu.rip = cpu.lstar
    cpu.rflags = cpu.rflags & ~(cpu.fmask | Flag.RF) | Flag.FIXED
    cpu.segments[CS] = Segment(selector, 0, _FLAT, _KERNEL_CODE)
    cpu.segments[SS] = Segment(selector + 8 & 0xFFFF, 0, _FLAT, _KERNEL_DATA)
    cpu.interrupt_shadow = False


def sysret(cpu: VirtualCpu, operand_size: int) -> None:
    """SYSRET (SDM vol. 2): back to CPL 3 at RCX, RFLAGS from R11. operand_size: 8 (SYSRETQ) or 4."""
    if not cpu.efer & Efer.SCE:
        raise undefined_opcode()
    if cpu.cpl:
        raise general_protection()
    if operand_size != 8:
        raise Unsupported(
            "the guest returned to 32-bit code (sysret without REX.W): "
            "compatibility mode is not part of this platform"
        )
    if not canonical(cpu.gpr[RCX]):
        raise general_protection()
    base = cpu.star >> 48
    cpu.rip = cpu.gpr[RCX]
    cpu.rflags = cpu.gpr[R11] & _SYSRET_FLAGS | Flag.FIXED
    cpu.segments[CS] = Segment(base + 16 & 0xFFFF | 3, 0, _FLAT, _USER_CODE)
    cpu.segments[SS] = Segment(base + 8 & 0xFFFF | 3, 0, _FLAT, _USER_DATA)
    cpu.interrupt_shadow = False


def swapgs(cpu: VirtualCpu) -> None:
    """SWAPGS (SDM vol. 2): exchange GS_BASE and KERNEL_GS_BASE."""
    if cpu.cpl:
        raise general_protection()
    gs = cpu.segments[GS]
    gs.base, cpu.kernel_gs_base = cpu.kernel_gs_base, gs.base
