"""Far control transfers: far CALL, JMP and RET, IRET, SYSCALL, SYSRET, SWAPGS, in every mode.

Each makes all its checks first and changes ``cpu`` last, so that a fault leaves the state unchanged.
Hardware task switches and virtual-8086 mode are refused by ``Refused``.
"""

from __future__ import annotations

from cores.x86.faults import Refused, general_protection, segment_not_present, undefined_opcode
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.stack import Stack
from cores.x86.mode import DEFAULT_32, is_long
from cores.x86.registers import (
    CS,
    DS,
    ES,
    FS,
    GS,
    MASK32,
    R11,
    RCX,
    RSP,
    SS,
    USER_FLAGS,
    Cr0,
    Efer,
    Flag,
    canonical,
)
from cores.x86.system.descriptors import (
    CALL_GATE,
    CALL_GATE_16,
    TASK_GATE,
    TSS_16_AVAILABLE,
    TSS_AVAILABLE,
    Descriptor,
    is_null,
    load_real,
    load_stack_segment,
    mark_accessed,
    null_segment,
    read_descriptor,
    to_segment,
)
from cores.x86.system.task_state import inner_stack
from cores.x86.virtual_cpu import Segment, VirtualCpu

_TASKS = frozenset({TSS_16_AVAILABLE, TSS_AVAILABLE, TASK_GATE})
_ANY_LEVEL = USER_FLAGS | Flag.TF | Flag.NT | Flag.RF | Flag.AC | Flag.ID
_RING0_ONLY = Flag.IOPL | Flag.VIF | Flag.VIP
_SYSRET_FLAGS = 0x3C7FD7

_FLAT = 0xFFFFFFFF
_KERNEL_CODE, _KERNEL_DATA = 0xA09B, 0xC093
_USER_CODE, _USER_CODE_32, _USER_DATA = 0xA0FB, 0xC0FB, 0xC0F3


def far_jump(mmu: Mmu, cpu: VirtualCpu, selector: int, offset: int) -> None:
    """JMP FAR to a code segment or through a call gate, at the same privilege (SDM vol. 2, JMP).

    offset: zero-extended from the operand; a gate has its own.
    """
    if not cpu.cr0 & Cr0.PE:
        _enter_in_real_mode(cpu, selector, offset)
        return
    descriptor = _far_target(mmu, cpu, selector)
    if descriptor.system:
        gate = _call_gate(mmu, cpu, selector, descriptor)
        selector, offset = gate.gate_selector, gate.gate_offset
        descriptor = _gate_segment(mmu, cpu, selector)
        if not descriptor.conforming and descriptor.dpl != cpu.cpl:
            raise general_protection(selector & 0xFFFC)
    else:
        _check_direct(cpu, selector, descriptor)
    _check_entry(mmu, cpu, descriptor, offset)
    _enter(cpu, selector & 0xFFFC | cpu.cpl, descriptor, offset)


def far_call(
    mmu: Mmu, cpu: VirtualCpu, selector: int, offset: int, return_rip: int, operand_size: int
) -> None:
    """CALL FAR; a call gate may lead to a more privileged level, on that level's stack.

    operand_size: of the return address on the stack, 2, 4 or 8 bytes; through a gate the gate's.
    """
    stack = Stack.current(mmu)
    frame = [cpu.segments[CS].selector, return_rip]
    if not cpu.cr0 & Cr0.PE:
        _check_in_real_mode(cpu, offset)
        stack.push(frame, operand_size)
        _enter_in_real_mode(cpu, selector, offset)
        stack.commit()
        return
    descriptor = _far_target(mmu, cpu, selector)
    if not descriptor.system:
        _check_direct(cpu, selector, descriptor)
        _check_entry(mmu, cpu, descriptor, offset)
        stack.push(frame, operand_size)
        _enter(cpu, selector & 0xFFFC | cpu.cpl, descriptor, offset)
        stack.commit()
        return
    gate = _call_gate(mmu, cpu, selector, descriptor)
    selector = gate.gate_selector
    descriptor = _gate_segment(mmu, cpu, selector)
    cpl = cpu.cpl if descriptor.conforming else descriptor.dpl
    long = cpu.efer & Efer.LMA
    size = 8 if long else gate.gate_size
    if cpl != cpu.cpl:
        parameters = 0 if long else gate.low >> 32 & 0x1F
        copied = stack.peek(parameters, size)
        frame = [cpu.segments[SS].selector, cpu.gpr[RSP], *reversed(copied), *frame]
        stack = inner_stack(mmu, cpu, cpl)
    elif long:
        stack = Stack(mmu, cpu.gpr[RSP], cpu.segments[SS], 64)
    _check_entry(mmu, cpu, descriptor, gate.gate_offset)
    stack.push(frame, size)
    _enter(cpu, selector & 0xFFFC | cpl, descriptor, gate.gate_offset)
    stack.commit()


def far_return(mmu: Mmu, cpu: VirtualCpu, operand_size: int, pop_bytes: int = 0) -> None:
    """RET FAR, to the same or to an outer privilege level. pop_bytes: RET imm16 (SDM vol. 2, RET)."""
    stack = Stack.current(mmu)
    rip, selector = stack.pop(2, operand_size)
    selector &= 0xFFFF
    stack.release(pop_bytes)
    if not cpu.cr0 & Cr0.PE:
        _enter_in_real_mode(cpu, selector, rip)
        stack.commit()
        return
    descriptor = _return_segment(mmu, cpu, selector)
    cpl = selector & 3
    if cpl == cpu.cpl:
        _check_entry(mmu, cpu, descriptor, rip)
        _enter(cpu, selector, descriptor, rip)
        stack.commit()
        return
    rsp, stack_selector = stack.pop(2, operand_size)
    outer = _return_stack(mmu, cpu, descriptor, stack_selector & 0xFFFF, cpl, rsp)
    outer.release(pop_bytes)
    _check_entry(mmu, cpu, descriptor, rip)
    _enter(cpu, selector, descriptor, rip)
    outer.commit()
    _drop_privileged_segments(cpu)


def interrupt_return(mmu: Mmu, cpu: VirtualCpu, operand_size: int) -> None:
    """IRET, IRETD, IRETQ (SDM vol. 2, IRET): 64-bit code pops SS:RSP at every size, other code where it
    returns to an outer ring.

    operand_size: 2, 4 or 8 bytes. The interrupt shadow ends.
    """
    protected, long = cpu.cr0 & Cr0.PE, cpu.efer & Efer.LMA
    if protected and cpu.rflags & Flag.NT:
        if long:
            raise general_protection()  # there are no task returns in long mode
        raise _no_task_switch("returned to another task (iret with NT set)")
    stack = Stack.current(mmu)
    rip, selector, popped = stack.pop(3, operand_size)
    selector &= 0xFFFF
    loadable = loadable_flags(cpu, operand_size)
    flags = cpu.rflags & ~loadable | popped & loadable | Flag.FIXED
    if not protected:
        _enter_in_real_mode(cpu, selector, rip)
        stack.commit()
    else:
        if not long and operand_size == 4 and popped & Flag.VM and cpu.cpl == 0:
            raise Refused(
                "the guest entered virtual-8086 mode (iret with VM set): this platform does not have it"
            )
        descriptor = _return_segment(mmu, cpu, selector)
        cpl = selector & 3
        same_ring = cpl == cpu.cpl
        if not same_ring or is_long(cpu):
            rsp, stack_selector = stack.pop(2, operand_size)
            stack = _return_stack(mmu, cpu, descriptor, stack_selector & 0xFFFF, cpl, rsp)
        _check_entry(mmu, cpu, descriptor, rip)
        _enter(cpu, selector, descriptor, rip)
        stack.commit()
        if not same_ring:
            _drop_privileged_segments(cpu)
    cpu.rflags = flags
    cpu.interrupt_shadow = False


def _no_task_switch(what: str) -> Refused:
    return Refused(f"the guest {what}: this platform does not switch tasks in hardware")


def loadable_flags(cpu: VirtualCpu, operand_size: int) -> int:
    """The flags that IRET may change at this CPL and IOPL."""
    loadable = _ANY_LEVEL
    if cpu.cpl == 0:
        loadable |= _RING0_ONLY if cpu.cr0 & Cr0.PE else Flag.IOPL
    if cpu.cpl <= (cpu.rflags >> 12 & 3):
        loadable |= Flag.IF
    return loadable & 0xFFFF if operand_size == 2 else loadable


def _far_target(mmu: Mmu, cpu: VirtualCpu, selector: int) -> Descriptor:
    """The target of a far CALL or JMP: a code segment or a call gate."""
    if is_null(selector):
        raise general_protection()
    descriptor = read_descriptor(mmu, cpu, selector)
    if descriptor.code:
        return descriptor
    long = cpu.efer & Efer.LMA
    if descriptor.system:
        if descriptor.type == CALL_GATE or (descriptor.type == CALL_GATE_16 and not long):
            return descriptor
        if descriptor.type in _TASKS and not long and descriptor.dpl >= max(cpu.cpl, selector & 3):
            raise _no_task_switch(f"jumped to a task (selector {selector:#x})")
    raise general_protection(selector & 0xFFFC)


def _check_direct(cpu: VirtualCpu, selector: int, descriptor: Descriptor) -> None:
    """Check that CALL or JMP may enter this code segment without a gate."""
    error = selector & 0xFFFC
    if cpu.efer & Efer.LMA and descriptor.long and descriptor.big:
        raise general_protection(error)
    if descriptor.conforming:
        if descriptor.dpl > cpu.cpl:
            raise general_protection(error)
    elif selector & 3 > cpu.cpl or descriptor.dpl != cpu.cpl:
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)


def _call_gate(mmu: Mmu, cpu: VirtualCpu, selector: int, seen: Descriptor) -> Descriptor:
    """The call gate, checked; of 16 bytes in long mode (SDM vol. 3, 5.8.3.1 and 5.8.4)."""
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
    """The code segment that a call gate leads to; in long mode a 64-bit one."""
    if is_null(selector):
        raise general_protection()
    error = selector & 0xFFFC
    descriptor = read_descriptor(mmu, cpu, selector)
    if not descriptor.code or descriptor.dpl > cpu.cpl:
        raise general_protection(error)
    if cpu.efer & Efer.LMA and (not descriptor.long or descriptor.big):
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
    if not descriptor.code or rpl < cpu.cpl:
        raise general_protection(error)
    if cpu.efer & Efer.LMA and descriptor.long and descriptor.big:
        raise general_protection(error)
    if descriptor.dpl > rpl or (not descriptor.conforming and descriptor.dpl != rpl):
        raise general_protection(error)
    if not descriptor.present:
        raise segment_not_present(error)
    return descriptor


def _return_stack(
    mmu: Mmu, cpu: VirtualCpu, code: Descriptor, selector: int, cpl: int, rsp: int
) -> Stack:
    """The stack at ``cpl``, where a return to ``code`` finds it; SS may be null on a return to 64-bit
    code below CPL 3."""
    to_long = bool(cpu.efer & Efer.LMA and code.long)
    if is_null(selector):
        if not to_long or cpl == 3 or selector & 3 == 3:
            raise general_protection()
        return Stack(mmu, rsp, null_segment(selector, cpl), 64)
    segment = load_stack_segment(mmu, cpu, selector, cpl)
    if to_long:
        return Stack(mmu, rsp, segment, 64)
    big = segment.attributes & DEFAULT_32
    pointer = rsp & MASK32 if big else cpu.gpr[RSP] & 0xFFFF_0000 | rsp & 0xFFFF
    return Stack(mmu, pointer, segment, 32 if big else 16)


def _check_entry(mmu: Mmu, cpu: VirtualCpu, descriptor: Descriptor, rip: int) -> None:
    """The last checks before a code segment is entered at ``rip``."""
    if cpu.efer & Efer.LMA and descriptor.long:
        if not canonical(rip):
            raise general_protection()
    elif rip > descriptor.limit:
        raise general_protection()
    mark_accessed(mmu, descriptor)


def _check_in_real_mode(cpu: VirtualCpu, offset: int) -> None:
    """The limit of CS is what protected mode left, 64 KiB after a reset."""
    if offset > cpu.segments[CS].limit:
        raise general_protection()


def _enter_in_real_mode(cpu: VirtualCpu, selector: int, offset: int) -> None:
    """Load CS:IP in real mode."""
    _check_in_real_mode(cpu, offset)
    load_real(cpu, CS, selector)
    cpu.rip = offset


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
    """SYSCALL (SDM vol. 2): RIP to RCX, RFLAGS to R11, then to LSTAR at CPL 0. No stack switch. #UD
    outside 64-bit mode (contract.md, Modes)."""
    if not cpu.efer & Efer.SCE or not is_long(cpu):
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
    """SYSRET (SDM vol. 2): back to CPL 3 at RCX, RFLAGS from R11. operand_size: 8 (SYSRETQ), or 4 to
    return to 32-bit code."""
    if not cpu.efer & Efer.SCE or not is_long(cpu):
        raise undefined_opcode()
    if cpu.cpl:
        raise general_protection()
    wide = operand_size == 8
    if wide and not canonical(cpu.gpr[RCX]):
        raise general_protection()
    base = cpu.star >> 48
    code = base + 16 if wide else base
    cpu.rip = cpu.gpr[RCX] if wide else cpu.gpr[RCX] & MASK32
    cpu.rflags = cpu.gpr[R11] & _SYSRET_FLAGS | Flag.FIXED
    cpu.segments[CS] = Segment(code & 0xFFFF | 3, 0, _FLAT, _USER_CODE if wide else _USER_CODE_32)
    cpu.segments[SS] = Segment(base + 8 & 0xFFFF | 3, 0, _FLAT, _USER_DATA)
    cpu.interrupt_shadow = False


def swapgs(cpu: VirtualCpu) -> None:
    """SWAPGS (SDM vol. 2): exchange GS_BASE and KERNEL_GS_BASE."""
    if not is_long(cpu):
        raise undefined_opcode()
    if cpu.cpl:
        raise general_protection()
    gs = cpu.segments[GS]
    gs.base, cpu.kernel_gs_base = cpu.kernel_gs_base, gs.base
