"""Delivery through the IDT: gates, stacks, flags, error codes, and failed deliveries."""

from __future__ import annotations

import pytest
from guest_lab import CODE, Lab

from cores.x86.faults import GuestFault
from cores.x86.registers import CS, RSP, SS, Flag, Vector
from cores.x86.system.interrupts import Outcome, deliver, deliver_event, describe, shutdown_in_words

IDT, HANDLER, STACK = 0x30000, 0x123456, 0x170000
INTERRUPT, TRAP = 0xE, 0xF


def gate(lab, vector, *, kind=INTERRUPT, selector=0x10, dpl=0, ist=0, present=1, offset=HANDLER):
    """Write an IDT entry; the IDT grows to hold 256."""
    low = (
        offset & 0xFFFF | selector << 16 | ist << 32 | (kind | dpl << 5 | present << 7) << 40
        | (offset >> 16 & 0xFFFF) << 48
    )  # fmt: skip
    lab.poke(IDT + 16 * vector, low, offset >> 32)
    lab.cpu.idtr.base, lab.cpu.idtr.limit = IDT, 0xFFF


def tss_stack(lab, *, rsp0=0, rsp1=0, ist1=0):
    lab.poke(0x11084, rsp0, rsp1)
    lab.poke(0x110A4, ist1)


def frame(lab, count=5):
    """The values on the handler's stack, from RSP up."""
    return [lab.peek(lab.cpu.gpr[RSP] + 8 * i) for i in range(count)]


def refused(lab, *args, **kwargs):
    """A delivery that must fault and leave the CPU unchanged."""
    before = lab.cpu.copy()
    with pytest.raises(GuestFault) as caught:
        deliver(lab.mmu, lab.cpu, *args, **kwargs)
    lab.cpu.cr2 = before.cr2
    assert lab.cpu == before
    return caught.value.vector, caught.value.error


@pytest.fixture
def lab():
    lab = Lab()
    lab.cpu.gpr[RSP] = STACK
    lab.cpu.rip = CODE
    lab.cpu.rflags = Flag.FIXED | Flag.IF | Flag.ZF
    return lab


def test_frame_at_the_same_level(lab):
    """RSP is aligned to 16, SS, RSP, RFLAGS, CS and RIP are pushed, and SS keeps its value."""
    gate(lab, 0x20)
    lab.cpu.gpr[RSP] = STACK + 5
    deliver(lab.mmu, lab.cpu, 0x20, external=True)
    assert lab.cpu.gpr[RSP] == STACK - 40
    assert frame(lab) == [CODE, 0x10, 0x242, STACK + 5, 0x18]
    assert (lab.cpu.rip, lab.cpu.segments[CS].selector, lab.cpu.segments[SS].selector) == (
        HANDLER, 0x10, 0x18,
    )  # fmt: skip


def test_error_code_is_pushed_last(lab):
    """Exceptions with an error code push it, 0 if none is given; others push none."""
    for vector in (Vector.GP, Vector.DE):
        gate(lab, vector)
    deliver(lab.mmu, lab.cpu, Vector.GP, 0x18)
    assert frame(lab, 2) == [0x18, CODE]
    deliver(lab.mmu, lab.cpu, Vector.GP, None)
    assert frame(lab, 2) == [0, HANDLER]
    deliver(lab.mmu, lab.cpu, Vector.DE, None)
    assert frame(lab, 1) == [HANDLER]


def test_software_vector_never_pushes_an_error_code(lab):
    """int 13 enters the #GP handler without an error code."""
    gate(lab, 13)
    deliver(lab.mmu, lab.cpu, 13, software=True, return_rip=CODE + 2)
    assert frame(lab, 2) == [CODE + 2, 0x10]


def test_flags(lab):
    """An interrupt gate clears IF, a trap gate does not; both clear TF, NT and RF and keep AC and
    IOPL."""
    gate(lab, 0x20)
    gate(lab, 0x21, kind=TRAP)
    start = Flag.FIXED | Flag.IF | Flag.TF | Flag.NT | Flag.RF | Flag.AC | Flag.IOPL | Flag.DF
    kept = Flag.FIXED | Flag.AC | Flag.IOPL | Flag.DF
    lab.cpu.rflags = start
    deliver(lab.mmu, lab.cpu, 0x20, external=True)
    assert lab.cpu.rflags == kept
    lab.cpu.rflags = start
    deliver(lab.mmu, lab.cpu, 0x21, external=True)
    assert lab.cpu.rflags == kept | Flag.IF
    assert frame(lab)[2] == start


@pytest.mark.parametrize(
    ("vector", "how", "set_"),
    [
        (Vector.UD, {}, True), (Vector.PF, {"address": 0}, True), (Vector.DE, {}, True),
        (Vector.DB, {}, False), (Vector.DF, {}, False), (Vector.BP, {"software": True}, False),
        (0x80, {"software": True}, False), (0x20, {"external": True}, False),
        (6, {"software": True}, False),
    ],
)  # fmt: skip
def test_rf_in_the_image_marks_faults(lab, vector, how, set_):
    """RF is 1 in the pushed RFLAGS of faults, and unchanged for traps, aborts and interrupts."""
    gate(lab, vector, dpl=3)
    deliver(lab.mmu, lab.cpu, vector, **how)
    image = frame(lab, 6)[3 if vector in (Vector.PF, Vector.DF) else 2]
    assert bool(image & Flag.RF) is set_
    assert not lab.cpu.rflags & Flag.RF


def test_from_user_to_kernel(lab):
    """The stack is RSP0, SS is null with the new CPL, and CS loses its RPL."""
    gate(lab, 0x80, dpl=3)
    tss_stack(lab, rsp0=0x160008)
    lab.user()
    deliver(lab.mmu, lab.cpu, 0x80, software=True, return_rip=CODE + 2)
    assert lab.cpu.gpr[RSP] == 0x160000 - 40
    assert frame(lab) == [CODE + 2, 0x33, 0x242, STACK, 0x2B]
    assert (lab.cpu.cpl, lab.cpu.segments[SS].selector, lab.cpu.segments[SS].present) == (0, 0, False)


def test_to_ring_1(lab):
    """A handler segment of DPL 1 takes RSP1, and SS becomes null with RPL 1."""
    selector = lab.gdt(0x50, 0x00AFBB000000FFFF)
    for page in (0x30, 0x11, 0x16F):  # ring 1 is a supervisor too: the pages need no U bit
        assert not lab.peek(0x15000 + page * 8) & 4
    gate(lab, 0x20, selector=selector)
    tss_stack(lab, rsp1=STACK)
    lab.user()
    deliver(lab.mmu, lab.cpu, 0x20, external=True)
    assert (lab.cpu.cpl, lab.cpu.segments[SS].selector) == (1, 1)
    assert lab.cpu.segments[CS].selector == 0x51


def test_ist(lab):
    """IST switches the stack also without a change of privilege, and keeps SS."""
    gate(lab, 8, ist=1)
    tss_stack(lab, ist1=0x150000)
    deliver(lab.mmu, lab.cpu, 8, 0)
    assert lab.cpu.gpr[RSP] == 0x150000 - 48
    assert frame(lab, 6)[4:] == [STACK, 0x18]
    assert lab.cpu.segments[SS].selector == 0x18


def test_conforming_handler_keeps_the_level(lab):
    """A conforming code segment runs at CPL 3, on the user's own stack."""
    selector = lab.gdt(0x50, 0x00AF9F000000FFFF)
    for table in (0x12000, 0x13000, 0x14000):
        lab.poke(table, lab.peek(table) | 4)
    lab.poke(0x15000 + 0x16F * 8, 0x16F067)
    lab.mmu.flush()
    gate(lab, 0x80, dpl=3, selector=selector)
    lab.user()
    deliver(lab.mmu, lab.cpu, 0x80, software=True)
    assert (lab.cpu.cpl, lab.cpu.gpr[RSP], lab.cpu.segments[SS].selector) == (3, STACK - 40, 0x2B)


def test_interrupt_shadow_and_accessed_bit(lab):
    """Delivery ends the interrupt shadow and marks the handler's descriptor accessed."""
    selector = lab.gdt(0x50, 0x00AF9A000000FFFF)
    gate(lab, 0x20, selector=selector)
    lab.cpu.interrupt_shadow = True
    deliver(lab.mmu, lab.cpu, 0x20, external=True)
    assert lab.cpu.interrupt_shadow is False
    assert lab.peek(0x11050) == 0x00AF9B000000FFFF


EXTERNAL, SOFTWARE = {"external": True}, {"software": True}


@pytest.mark.parametrize(
    ("how", "ext"), [(EXTERNAL, 1), (SOFTWARE, 0), ({}, 1)], ids=["external", "software", "fault"]
)
class TestGateChecks:
    """Each check of the gate and its segment; EXT is clear for software interrupts."""

    def test_beyond_the_limit(self, lab, how, ext):
        """A limit without 16 bytes for the gate is #GP with the IDT's index."""
        gate(lab, 0x20)
        lab.cpu.idtr.limit = 0x20 * 16 + 14
        assert refused(lab, 0x20, **how) == (Vector.GP, 0x102 + ext)

    def test_wrong_type(self, lab, how, ext):
        """A call gate, or no gate, is #GP."""
        gate(lab, 0x20, kind=0xC)
        assert refused(lab, 0x20, **how) == (Vector.GP, 0x102 + ext)
        lab.poke(IDT + 0x200, 0, 0)
        assert refused(lab, 0x20, **how) == (Vector.GP, 0x102 + ext)

    def test_absent_gate(self, lab, how, ext):
        """A gate with P = 0 is #NP."""
        gate(lab, 0x20, present=0)
        assert refused(lab, 0x20, **how) == (Vector.NP, 0x102 + ext)

    def test_gate_dpl_binds_software_only(self, lab, how, ext):
        """INT n needs a gate of its privilege; hardware interrupts and exceptions do not."""
        gate(lab, 0x20)
        tss_stack(lab, rsp0=0x160000)
        lab.user()
        if how is SOFTWARE:
            assert refused(lab, 0x20, **how) == (Vector.GP, 0x102)
        else:
            deliver(lab.mmu, lab.cpu, 0x20, **how)
            assert lab.cpu.cpl == 0

    @pytest.mark.parametrize(
        ("raw", "vector"),
        [
            (0x00CF93000000FFFF, Vector.GP),  # data
            (0x00CF9B000000FFFF, Vector.GP),  # 32-bit code
            (0x00EF9B000000FFFF, Vector.GP),  # L and D
            (0x00AFFB000000FFFF, Vector.GP),  # less privileged
            (0x00AF1B000000FFFF, Vector.NP),
        ],
    )
    def test_bad_handler_segment(self, lab, how, ext, raw, vector):
        """The handler's segment must be present 64-bit code that is no less privileged."""
        gate(lab, 0x20, selector=lab.gdt(0x50, raw))
        assert refused(lab, 0x20, **how) == (vector, 0x50 + ext)

    def test_selectors(self, lab, how, ext):
        """A null selector is #GP(EXT), one beyond the GDT #GP(selector)."""
        gate(lab, 0x20, selector=3)
        assert refused(lab, 0x20, **how) == (Vector.GP, ext)
        gate(lab, 0x20, selector=0x100)
        assert refused(lab, 0x20, **how) == (Vector.GP, 0x100 + ext)

    def test_non_canonical_handler_and_stack(self, lab, how, ext):
        """A non-canonical handler is #GP(EXT), a non-canonical stack #SS(EXT)."""
        gate(lab, 0x20, offset=1 << 47)
        assert refused(lab, 0x20, **how) == (Vector.GP, ext)
        gate(lab, 0x20)
        lab.cpu.gpr[RSP] = 1 << 63
        assert refused(lab, 0x20, **how) == (Vector.SS, ext)

    def test_tss_too_short(self, lab, how, ext):
        """A TSS without room for the stack pointer is #TS with its selector."""
        gate(lab, 0x20, ist=7)
        lab.cpu.tr.limit = 0x5A
        assert refused(lab, 0x20, **how) == (Vector.TS, 0x40 + ext)


def test_page_fault_sets_cr2_even_when_it_cannot_be_delivered(lab):
    """CR2 is written before the delivery begins."""
    with pytest.raises(GuestFault):
        deliver(lab.mmu, lab.cpu, Vector.PF, 2, address=0x1234)
    assert lab.cpu.cr2 == 0x1234


def test_no_idt_is_a_shutdown_with_a_story(lab):
    """Without an IDT any exception is a triple fault, described step by step."""
    lab.cpu.rip = 0
    end = deliver_event(lab.mmu, lab.cpu, GuestFault(Vector.PF, 16, 0))
    assert end.outcome is Outcome.SHUTDOWN
    assert end.story == "#PF at 0x0 -> #GP(0x73) -> #DF(0x0) -> #GP(0x43) -> shutdown"
    words = shutdown_in_words(lab.cpu, end)
    assert "returned to address 0x0" in words
    assert "no IDT" in words


@pytest.mark.parametrize(
    ("first", "broken", "arrives"),
    [
        (Vector.GP, {"present": 0}, Vector.DF),  # contributory, then #NP
        (Vector.PF, {"present": 0}, Vector.DF),  # page fault, then contributory
        (Vector.UD, {"present": 0}, Vector.NP),  # benign, then contributory: one after the other
        (Vector.AC, {"kind": 0}, Vector.GP),
    ],
)
def test_double_fault_table(lab, first, broken, arrives):
    """The pairs of exceptions that make a double fault are those of SDM vol. 3, table 6-5."""
    for vector in (Vector.DF, Vector.NP, Vector.GP):
        gate(lab, vector, offset=HANDLER + 0x100 * vector)
    gate(lab, first, **broken)
    address = 0x99 if first == Vector.PF else None
    end = deliver_event(lab.mmu, lab.cpu, GuestFault(first, 0, address))
    assert end.outcome is Outcome.DELIVERED
    assert lab.cpu.rip == HANDLER + 0x100 * arrives
    assert end.chain[-1].vector == arrives


def bad_stack(lab, vector):
    """An exception of the user's whose kernel stack is not mapped."""
    gate(lab, vector)
    tss_stack(lab, rsp0=0x9000)
    lab.user()


def test_page_fault_while_delivering_a_contributory_one_is_served_alone(lab):
    """#PF during #GP is no double fault, and is delivered with its own address in CR2."""
    bad_stack(lab, Vector.GP)
    gate(lab, Vector.PF, ist=1)
    tss_stack(lab, rsp0=0x9000, ist1=STACK)
    end = deliver_event(lab.mmu, lab.cpu, GuestFault(Vector.GP, 0))
    assert [fault.vector for fault in end.chain] == [Vector.GP, Vector.PF]
    assert (end.outcome, lab.cpu.cr2) == (Outcome.DELIVERED, 0x8FF8)
    assert frame(lab, 1) == [2]  # a supervisor's write, though the user was interrupted


def test_page_fault_while_delivering_a_page_fault_is_a_double_fault(lab):
    """#PF during #PF is #DF, and CR2 has the second address."""
    bad_stack(lab, Vector.PF)
    gate(lab, Vector.DF, ist=1)
    tss_stack(lab, rsp0=0x9000, ist1=STACK)
    end = deliver_event(lab.mmu, lab.cpu, GuestFault(Vector.PF, 4, 0x55))
    assert [fault.vector for fault in end.chain] == [Vector.PF, Vector.PF, Vector.DF]
    assert (end.outcome, lab.cpu.cr2) == (Outcome.DELIVERED, 0x8FF8)
    assert frame(lab, 1) == [0]


def test_failed_interrupts_are_benign(lab):
    """A fault during a device's or a software interrupt is delivered alone."""
    gate(lab, Vector.GP)
    for how in (EXTERNAL, SOFTWARE):
        lab.cpu.rip = CODE
        end = deliver_event(lab.mmu, lab.cpu, GuestFault(0x77), return_rip=CODE + 2, **how)
        assert [fault.vector for fault in end.chain] == [0x77, Vector.GP]
        assert frame(lab, 2)[1] == CODE  # restartable: RIP at the instruction, not behind it


def test_names():
    """Exceptions are written in the SDM's notation."""
    assert describe(GuestFault(Vector.GP, 0x18)) == "#GP(0x18)"
    assert describe(GuestFault(Vector.UD)) == "#UD"
    assert describe(GuestFault(0x20)) == "interrupt 0x20"
