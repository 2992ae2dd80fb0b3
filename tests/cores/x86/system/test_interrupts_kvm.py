"""Delivery against KVM: the same fault pushes the same frame."""

from __future__ import annotations

from functools import partial

import pytest
from guest_lab import CODE, Lab

from cores.engines import registry
from cores.engines.base import Halted, Interrupted
from cores.pc import platform
from cores.x86.faults import GuestFault
from cores.x86.registers import CS, RAX, RBX, RSP, SS, Flag, PageFault, Vector
from cores.x86.system.interrupts import Outcome, deliver_event
from cores.x86.virtual_cpu import Segment, VirtualCpu

HANDLER, IDT, STACK, KERNEL_STACK = 0x123456, 0x30000, 0x170000, 0x160008

CASES = {
    "ud2": ("0f0b", GuestFault(Vector.UD)),
    "div": ("f7f1", GuestFault(Vector.DE)),
    "load": ("488b042500500000", GuestFault(Vector.PF, 0, 0x5000)),
    "store": ("4889042500500000", GuestFault(Vector.PF, PageFault.W, 0x5000)),
    "non-canonical load": ("488b03", GuestFault(Vector.GP, 0)),
    "bad selector": ("8ed8", GuestFault(Vector.GP, 0x60)),
    "jump to nowhere": ("ffe2", GuestFault(Vector.PF, PageFault.I, 0)),
}


@pytest.fixture(scope="module")
def kvm():
    engine = pytest.importorskip("cores.engines.kvm.engine").KvmEngine
    if (reason := engine.probe()) is not None:
        pytest.skip(reason)
    return partial(registry.create, "kvm")


def prepared(code: str, user: bool) -> Lab:
    """The faulting code, readable at ring 3 too, and 32 gates to one HLT."""
    lab = Lab(bytes.fromhex(code))
    lab.memory.write(HANDLER, b"\xf4")
    for table in (0x12000, 0x13000, 0x14000):
        lab.poke(table, lab.peek(table) | 4)
    lab.poke(0x15000 + 8 * (CODE >> 12), CODE | 0x67)
    low = HANDLER & 0xFFFF | 0x10 << 16 | 0x8E << 40 | (HANDLER >> 16) << 48
    lab.poke(IDT, *(low, 0) * 32)
    lab.poke(0x11084, KERNEL_STACK)
    cpu = lab.cpu
    cpu.idtr.base, cpu.idtr.limit = IDT, 32 * 16 - 1
    cpu.gpr[RSP], cpu.gpr[RBX], cpu.gpr[RAX] = STACK, 1 << 63, 0x60
    cpu.rflags = Flag.FIXED | Flag.IF | Flag.ZF | Flag.CF
    if user:
        cpu.segments[CS] = Segment(0x33, 0, 0xFFFFFFFF, 0xA0FB)
        cpu.segments[SS] = Segment(0x2B, 0, 0xFFFFFFFF, 0xC0F3)
    return lab


def by_kvm(kvm, lab: Lab) -> VirtualCpu:
    """Let KVM run into the fault, and on to the handler's HLT."""
    cpu = lab.cpu.copy()
    engine = kvm()
    engine.load(lab.memory)
    try:
        engine.write_fpu(platform.INITIAL_FPU)
        end = engine.run(cpu)
        for _ in range(10):
            if not isinstance(end, Interrupted):
                break
            end = engine.run(cpu)
        assert isinstance(end, Halted), end
    finally:
        engine.close()
    return cpu


@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
@pytest.mark.parametrize("case", CASES)
def test_frame_is_the_hardwares(kvm, case, user):
    """RFLAGS image with RF, error code, CR2, selectors and stack are those of KVM."""
    code, fault = CASES[case]
    lab = prepared(code, user)
    theirs = by_kvm(kvm, lab)
    size = 40 if fault.error is None else 48
    their_frame = lab.memory.read(theirs.gpr[RSP], size)
    lab.memory.write(theirs.gpr[RSP], bytes(size))

    cpu = lab.cpu
    error = fault.error
    if user and fault.vector == Vector.PF:
        error = (error or 0) | PageFault.U
    if case == "jump to nowhere":
        cpu.rip = 0  # the jump itself is done when the fetch faults
    if case == "div":  # what DIV leaves in the flags is undefined
        image = int.from_bytes(their_frame[16:24], "little")
        cpu.rflags, theirs.rflags = image & ~Flag.RF, image & ~(Flag.RF | Flag.IF)
    end = deliver_event(lab.mmu, cpu, GuestFault(fault.vector, error, fault.address))
    assert end.outcome is Outcome.DELIVERED
    assert lab.memory.read(cpu.gpr[RSP], size) == their_frame
    assert (cpu.gpr[RSP], cpu.cr2) == (theirs.gpr[RSP], theirs.cr2)
    assert cpu.rflags == theirs.rflags
    for index in (CS, SS):
        assert cpu.segments[index].selector == theirs.segments[index].selector
