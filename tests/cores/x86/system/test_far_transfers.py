"""Far transfers and returns, rule by rule; returns also against Unicorn."""

from __future__ import annotations

import random

import pytest
from guest_lab import CODE, Lab, Oracle

from cores.x86.faults import GuestFault
from cores.x86.mmu.stack import Stack
from cores.x86.mode import Mode, mode
from cores.x86.registers import (
    CS,
    DS,
    ES,
    FLAG_BITS,
    FS,
    GS,
    R11,
    RAX,
    RBX,
    RCX,
    RSP,
    SS,
    Efer,
    Flag,
    Vector,
)  # fmt: skip
from cores.x86.system import far_transfers as transfers

STACK, TARGET, NEW = 0x170000, 0x123456, 0x50
CODE64, CODE32, DATA = 0x00AF9B000000FFFF, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
CONFORMING = 0x00AF9F000000FFFF


@pytest.fixture
def lab():
    lab = Lab()
    lab.cpu.gpr[RSP] = STACK
    lab.cpu.rip = CODE
    return lab


def stack(lab: Lab, rsp: int | None = None) -> Stack:
    here = Stack.current(lab.mmu)
    here.pointer = here.pointer if rsp is None else rsp
    return here


def dpl(raw: int, level: int) -> int:
    return raw & ~(3 << 45) | level << 45


def refused(lab, call, *args):
    """A transfer that must raise, and leave the CPU unchanged."""
    before = lab.cpu.copy()
    with pytest.raises(GuestFault) as caught:
        call(*args)
    assert lab.cpu == before
    return caught.value.vector, caught.value.error


def call_gate(lab, at=NEW, *, selector=0x10, offset=TARGET, level=0, present=1, upper=0):
    low = (
        offset & 0xFFFF | selector << 16 | (0xC | level << 5 | present << 7) << 40
        | (offset >> 16 & 0xFFFF) << 48
    )  # fmt: skip
    return lab.gdt(at, low, offset >> 32 | upper << 40)


def at(cpu):
    return cpu.segments[CS].selector, cpu.rip


class TestFarJumpAndCall:
    """Far JMP and far CALL, which share their checks."""

    def test_jump(self, lab):
        """CS takes the selector with RPL = CPL, and the descriptor's accessed bit is set."""
        lab.gdt(NEW, CODE64 & ~(1 << 40))
        transfers.far_jump(lab.mmu, lab.cpu, NEW, TARGET)
        assert at(lab.cpu) == (NEW, TARGET)
        assert lab.peek(0x11000 + NEW) == CODE64

    @pytest.mark.parametrize("size", [2, 4, 8])
    def test_call_pushes_cs_and_rip(self, lab, size):
        """The return address has the operand size, with CS above RIP."""
        transfers.far_call(lab.mmu, lab.cpu, 0x10, TARGET, CODE + 7, size)
        assert at(lab.cpu) == (0x10, TARGET)
        assert lab.cpu.gpr[RSP] == STACK - 2 * size
        expected = [(CODE + 7) & ((1 << 8 * size) - 1), 0x10]
        assert stack(lab, STACK - 2 * size).pop(2, size) == expected

    @pytest.mark.parametrize(
        ("raw", "selector", "expected"),
        [
            (CODE64, 0, (Vector.GP, 0)),
            (CODE64, NEW + 8, (Vector.GP, NEW + 8)),
            (DATA, NEW, (Vector.GP, NEW)),
            (dpl(CODE64, 3), NEW, (Vector.GP, NEW)),  # no way outwards
            (CODE64, NEW | 1, (Vector.GP, NEW)),  # RPL > CPL
            (CODE64 & ~(1 << 47), NEW, (Vector.NP, NEW)),
            (CODE64 | 1 << 54, NEW, (Vector.GP, NEW)),  # L and D
            (dpl(CONFORMING, 3), NEW, (Vector.GP, NEW)),
            (0x00008B0000000067, NEW, (Vector.GP, NEW)),  # a TSS: no task switches in long mode
        ],
    )
    def test_checks(self, lab, raw, selector, expected):
        """Null, limit, type, privilege and presence of the selector's segment are checked."""
        lab.gdt(NEW, raw)
        assert refused(lab, transfers.far_jump, lab.mmu, lab.cpu, selector, 0) == expected
        args = (lab.mmu, lab.cpu, selector, 0, CODE, 8)
        assert refused(lab, transfers.far_call, *args) == expected

    def test_targets(self, lab):
        """A non-canonical target is #GP(0), in 32-bit code one beyond the limit; else that is
        compatibility mode."""
        assert refused(lab, transfers.far_jump, lab.mmu, lab.cpu, 0x10, 1 << 63) == (Vector.GP, 0)
        lab.gdt(NEW, CODE32)
        assert refused(lab, transfers.far_jump, lab.mmu, lab.cpu, NEW, 1 << 32) == (Vector.GP, 0)
        transfers.far_jump(lab.mmu, lab.cpu, NEW, TARGET)
        assert (at(lab.cpu), mode(lab.cpu)) == ((NEW, TARGET), Mode.COMPATIBILITY)

    def test_conforming_keeps_cpl(self, lab):
        """A user may jump into conforming kernel code and keeps CPL 3."""
        lab.gdt(NEW, CONFORMING)
        lab.user()
        transfers.far_jump(lab.mmu, lab.cpu, NEW, TARGET)
        assert at(lab.cpu) == (NEW | 3, TARGET)

    def test_gate_at_the_same_level(self, lab):
        """A gate has its own target; a call through it pushes 8-byte values for every operand size."""
        call_gate(lab)
        transfers.far_jump(lab.mmu, lab.cpu, NEW, 0xBAD)
        assert at(lab.cpu) == (0x10, TARGET)
        transfers.far_call(lab.mmu, lab.cpu, NEW, 0xBAD, CODE, 4)
        assert stack(lab).pop(2, 8) == [CODE, 0x10]

    def test_gate_to_the_kernel(self, lab):
        """A user's call through a gate of DPL 3 switches to RSP0 with SS null, and retf returns."""
        call_gate(lab, level=3)
        lab.poke(0x11084, 0x160000)
        lab.user()
        transfers.far_call(lab.mmu, lab.cpu, NEW | 3, 0, CODE + 7, 8)
        cpu = lab.cpu
        assert (at(cpu), cpu.cpl, cpu.segments[SS].selector) == ((0x10, TARGET), 0, 0)
        assert stack(lab).pop(4, 8) == [CODE + 7, 0x33, STACK, 0x2B]
        transfers.far_return(lab.mmu, cpu, 8)
        assert (at(cpu), cpu.gpr[RSP]) == ((0x33, CODE + 7), STACK)
        assert cpu.segments[SS].selector == 0x2B

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"level": 0}, (Vector.GP, NEW)),  # the user may not use it
            ({"level": 3, "present": 0}, (Vector.NP, NEW)),
            ({"level": 3, "upper": 1}, (Vector.GP, NEW)),
            ({"level": 3, "selector": 0}, (Vector.GP, 0)),
            ({"level": 3, "selector": 0x18}, (Vector.GP, 0x18)),
            ({"level": 3, "offset": 1 << 50}, (Vector.GP, 0)),
        ],
    )
    def test_gate_checks(self, lab, changes, expected):
        """The gate's privilege, presence and upper half are checked, then its target."""
        call_gate(lab, **changes)
        lab.poke(0x11084, 0x160000)
        lab.user()
        assert refused(lab, transfers.far_call, lab.mmu, lab.cpu, NEW | 3, 0, CODE, 8) == expected

    def test_gate_does_not_let_a_jump_change_rings(self, lab):
        """A jump through a gate cannot raise privilege."""
        call_gate(lab, level=3)
        lab.user()
        args = (lab.mmu, lab.cpu, NEW | 3, 0)
        assert refused(lab, transfers.far_jump, *args) == (Vector.GP, 0x10)


class TestFarReturn:
    def test_same_level(self, lab):
        """RET FAR n releases its own operands and n bytes more."""
        lab.poke(STACK, TARGET, 0x10)
        transfers.far_return(lab.mmu, lab.cpu, 8, 0x20)
        assert (at(lab.cpu), lab.cpu.gpr[RSP]) == ((0x10, TARGET), STACK + 0x30)

    def test_outwards(self, lab):
        """To an outer level, RSP and SS are popped from behind the released bytes."""
        lab.poke(STACK, TARGET, 0x33)
        lab.poke(STACK + 0x20, 0x150000, 0x2B)
        transfers.far_return(lab.mmu, lab.cpu, 8, 0x10)
        assert (at(lab.cpu), lab.cpu.gpr[RSP]) == ((0x33, TARGET), 0x150010)
        assert lab.cpu.segments[SS].selector == 0x2B

    def test_never_inwards(self, lab):
        """A user cannot return to a more privileged segment, and faults on a bad stack."""
        lab.user()
        for table in (0x12000, 0x13000, 0x14000):
            lab.poke(table, lab.peek(table) | 4)
        lab.poke(0x15000 + 0x170 * 8, 0x170067)
        lab.poke(STACK, TARGET, 0x10)
        assert refused(lab, transfers.far_return, lab.mmu, lab.cpu, 8) == (Vector.GP, 0x10)
        lab.cpu.gpr[RSP] = 1 << 63
        assert refused(lab, transfers.far_return, lab.mmu, lab.cpu, 8) == (Vector.SS, 0)


class TestInterruptReturn:
    def test_always_pops_the_stack(self, lab):
        """In 64-bit mode IRET pops SS:RSP even without a change of level, and ends the shadow."""
        lab.poke(STACK, TARGET, 0x10, 0x246, 0x150000, 0x18)
        lab.cpu.interrupt_shadow = True
        transfers.interrupt_return(lab.mmu, lab.cpu, 8)
        assert (at(lab.cpu), lab.cpu.gpr[RSP]) == ((0x10, TARGET), 0x150000)
        assert (lab.cpu.rflags, lab.cpu.interrupt_shadow) == (0x246, False)

    def test_nested_task_flag(self, lab):
        """IRET with NT is #GP(0), since there are no tasks in 64-bit mode."""
        lab.cpu.rflags |= Flag.NT
        assert refused(lab, transfers.interrupt_return, lab.mmu, lab.cpu, 8) == (Vector.GP, 0)

    def test_privileged_data_segments_do_not_leave(self, lab):
        """The kernel's DS and FS become null at ring 3 but keep their bases; the user's are
        unchanged."""
        lab.cpu.segments[FS].base = 0x5555
        lab.cpu.segments[ES] = lab.cpu.segments[DS].copy()
        lab.cpu.segments[ES].selector, lab.cpu.segments[ES].attributes = 0x2B, 0xC0F3
        lab.cpu.segments[GS].selector, lab.cpu.segments[GS].base = 0, 0x7777
        lab.poke(STACK, TARGET, 0x33, 2, 0x150000, 0x2B)
        transfers.interrupt_return(lab.mmu, lab.cpu, 8)
        selectors = {index: lab.cpu.segments[index].selector for index in (ES, DS, FS, GS)}
        assert selectors == {ES: 0x2B, DS: 0, FS: 0, GS: 0}
        assert (lab.cpu.segments[FS].base, lab.cpu.segments[GS].base) == (0x5555, 0x7777)
        assert (lab.cpu.segments[FS].present, lab.cpu.cpl) == (False, 3)

    @pytest.mark.parametrize(
        ("cpl", "iopl", "changed"),
        [(0, 0, "IOPL IF VIF VIP"), (3, 3, "IF"), (3, 0, "")],
    )
    def test_flags_by_privilege(self, lab, cpl, iopl, changed):
        """IOPL changes at CPL 0 only, IF up to IOPL; VM and reserved bits never."""
        if cpl:
            lab.user()
            for table in (0x12000, 0x13000, 0x14000):
                lab.poke(table, lab.peek(table) | 4)
            lab.poke(0x15000 + 0x170 * 8, 0x170067)
        lab.cpu.rflags = 2 | iopl << 12
        cs, ss = (0x33, 0x2B) if cpl else (0x10, 0x18)
        image = (1 << 64) - 1 & ~(Flag.IOPL if iopl else 0)
        lab.poke(STACK, TARGET, cs, image, 0x150000, ss)
        transfers.interrupt_return(lab.mmu, lab.cpu, 8)
        always = "CF PF AF ZF SF TF DF OF NT RF AC ID FIXED"
        expected = sum(FLAG_BITS[name] for name in f"{always} {changed}".split())
        assert lab.cpu.rflags == expected | iopl << 12

    @pytest.mark.parametrize("size", [2, 4])
    def test_smaller_sizes(self, lab, size):
        """IRETD and 16-bit IRET pop smaller values; IRET keeps the upper flags."""
        lab.cpu.rflags = Flag.FIXED | Flag.AC
        values = [0x3456, 0x10, 0x202, 0x8000, 0x18]
        lab.memory.write(STACK, b"".join(v.to_bytes(size, "little") for v in values))
        transfers.interrupt_return(lab.mmu, lab.cpu, size)
        assert (at(lab.cpu), lab.cpu.gpr[RSP]) == ((0x10, 0x3456), 0x8000)
        assert lab.cpu.rflags == 0x202 | (Flag.AC if size == 2 else 0)

    @pytest.mark.parametrize(
        ("cs", "ss", "rip", "expected"),
        [
            (0, 0x18, TARGET, (Vector.GP, 0)),
            (0x18, 0x18, TARGET, (Vector.GP, 0x18)),
            (0x13, 0x18, TARGET, (Vector.GP, 0x10)),  # DPL is not RPL
            (0x10, 0x2B, TARGET, (Vector.GP, 0x28)),
            (0x33, 0, TARGET, (Vector.GP, 0)),  # null SS at ring 3
            (0x10, 0x18, 1 << 47, (Vector.GP, 0)),
            (0x60, 0x18, TARGET, (Vector.NP, 0x60)),
            (0x10, 0x58, TARGET, (Vector.SS, 0x58)),
        ],
    )
    def test_checks(self, lab, cs, ss, rip, expected):
        """The returned-to code and stack segment are checked like any other."""
        lab.gdt(0x58, DATA & ~(1 << 47), CODE64 & ~(1 << 47))
        lab.poke(STACK, rip, cs, 2, 0x150000, ss)
        assert refused(lab, transfers.interrupt_return, lab.mmu, lab.cpu, 8) == expected

    def test_null_stack_below_ring_3(self, lab):
        """A return to a kernel with a null SS is valid."""
        lab.poke(STACK, TARGET, 0x10, 2, 0x150000, 0)
        transfers.interrupt_return(lab.mmu, lab.cpu, 8)
        assert (lab.cpu.segments[SS].selector, lab.cpu.segments[SS].dpl) == (0, 0)

    def test_to_32_bit_code_and_back(self, lab):
        """64-bit code pops SS:RSP on the way to compatibility mode, too; IRET there three words."""
        lab.gdt(NEW, CODE32)
        lab.poke(STACK, TARGET, NEW, 2, 0x150000, 0x18)
        transfers.interrupt_return(lab.mmu, lab.cpu, 8)
        assert (at(lab.cpu), lab.cpu.gpr[RSP]) == ((NEW, TARGET), 0x150000)
        assert mode(lab.cpu) is Mode.COMPATIBILITY
        stack(lab, 0x150000).push([2, 0x10, CODE], 4)
        lab.cpu.gpr[RSP] = 0x150000 - 12
        transfers.interrupt_return(lab.mmu, lab.cpu, 4)
        assert (at(lab.cpu), lab.cpu.gpr[RSP]) == ((0x10, CODE), 0x150000)
        assert mode(lab.cpu) is Mode.LONG


class TestSystemCalls:
    def test_there_and_back(self, lab):
        """SYSCALL saves RIP and RFLAGS and masks flags; SYSRET restores them with user selectors."""
        cpu = lab.cpu
        lab.user()
        cpu.star, cpu.lstar, cpu.fmask = 0x0020_0010_0000_0000, TARGET, (Flag.IF | Flag.DF)
        cpu.rflags = Flag.FIXED | Flag.IF | Flag.DF | Flag.CF
        before = cpu.rflags
        transfers.syscall(cpu, CODE + 2)
        assert (cpu.gpr[RCX], cpu.gpr[R11], cpu.rip) == (CODE + 2, before, TARGET)
        assert (cpu.cpl, cpu.segments[CS].selector, cpu.segments[SS].selector) == (0, 0x10, 0x18)
        assert (cpu.rflags, cpu.gpr[RSP]) == (3, STACK)
        transfers.sysret(cpu, 8)
        assert (cpu.rip, cpu.rflags, cpu.cpl) == (CODE + 2, before, 3)
        assert (cpu.segments[CS].selector, cpu.segments[SS].selector) == (0x33, 0x2B)
        assert (cpu.segments[CS].attributes, cpu.segments[SS].attributes) == (0xA0FB, 0xC0F3)

    def test_without_sce(self, lab):
        """With EFER.SCE = 0 both are #UD."""
        lab.cpu.efer &= ~Efer.SCE
        assert refused(lab, transfers.syscall, lab.cpu, 0) == (Vector.UD, None)
        assert refused(lab, transfers.sysret, lab.cpu, 8) == (Vector.UD, None)

    def test_sysret_checks(self, lab):
        """SYSRET is #GP in ring 3 and for a non-canonical RCX, and never restores RF and VM."""
        cpu = lab.cpu
        cpu.gpr[RCX] = 1 << 47
        assert refused(lab, transfers.sysret, cpu, 8) == (Vector.GP, 0)
        cpu.gpr[RCX], cpu.gpr[R11] = TARGET, (1 << 64) - 1
        transfers.sysret(cpu, 8)
        assert cpu.rflags == 0x3C7FD7
        assert refused(lab, transfers.sysret, cpu, 8) == (Vector.GP, 0)

    def test_sysret_to_32_bit_code(self, lab):
        """Without REX.W it returns to the 32-bit code segment of STAR, at ECX."""
        lab.cpu.star, lab.cpu.gpr[RCX] = 0x0020_0010_0000_0000, 0xFFFF_0000_0000_0000 | TARGET
        transfers.sysret(lab.cpu, 4)
        assert (at(lab.cpu), lab.cpu.cpl, mode(lab.cpu)) == ((0x23, TARGET), 3, Mode.COMPATIBILITY)
        assert refused(lab, transfers.syscall, lab.cpu, CODE) == (Vector.UD, None)

    def test_swapgs(self, lab):
        """SWAPGS exchanges the two bases at ring 0, and is #GP elsewhere."""
        lab.cpu.segments[GS].base, lab.cpu.kernel_gs_base = 1, 2
        transfers.swapgs(lab.cpu)
        assert (lab.cpu.segments[GS].base, lab.cpu.kernel_gs_base) == (2, 1)
        lab.user()
        assert refused(lab, transfers.swapgs, lab.cpu) == (Vector.GP, 0)


# iretq / retfq / iretd / retfd / jmp far [rbx] / mov fs, ax / mov ss, ax
STUBS = ["48cf", "48cb", "cf", "cb", "ff2b", "8ee0", "8ed0"]
IRETQ, RETFQ, IRETD, RETFD, JMP_FAR, MOV_FS, MOV_SS = (CODE + 4 * i for i in range(7))
RETURNS = {IRETQ: (5, 8), RETFQ: (4, 8), IRETD: (5, 4), RETFD: (4, 4), JMP_FAR: (2, 4)}


@pytest.fixture(scope="module")
def oracle():
    lab = Lab(b"".join(bytes.fromhex(stub).ljust(4, b"\x90") for stub in STUBS))
    for table in (0x12000, 0x13000, 0x14000):  # the user may fetch what is returned to
        lab.poke(table, lab.peek(table) | 4)
    lab.poke(0x15000 + 0x123 * 8, 0x123067)
    lab.memory.write(TARGET, b"\x90" * 16)
    return Oracle(lab)


def after(result, lab_or_oracle) -> tuple:
    """The values by which both sides are compared."""
    if result is not None:
        return (result,)
    if isinstance(lab_or_oracle, Oracle):
        o = lab_or_oracle
        selectors = tuple(o.selector(index) for index in (CS, SS, DS, ES, FS, GS))
        return (o.rip, o.gpr(RSP), o.rflags, o.fs_base, *selectors)
    cpu = lab_or_oracle.cpu
    selectors = tuple(cpu.segments[index].selector for index in (CS, SS, DS, ES, FS, GS))
    return (cpu.rip, cpu.gpr[RSP], cpu.rflags, cpu.segments[FS].base, *selectors)


@pytest.mark.parametrize("stub", RETURNS, ids=["iretq", "retfq", "iretd", "retfd", "jmp far"])
def test_random_returns_as_unicorn(oracle, stub):
    """200 random frames: faults, registers, flags and nulled segments as in Unicorn.

    Left out where Unicorn differs from the SDM: non-canonical targets (it faults after the return),
    VIF and VIP, which it never loads, L and D both set, which it enters, 32-bit returns on a null
    SS, which it makes with a 16-bit stack pointer, and the bases of nulled segments, which it zeroes.
    """
    chance, lab = random.Random(stub), oracle.lab
    count, size = RETURNS[stub]
    for _ in range(200):
        raws = [CODE64, dpl(CODE64, 3), dpl(CONFORMING, chance.choice([0, 3])), DATA]
        lab.gdt(NEW, chance.choice(raws) & ~((chance.random() < 0.15) << 47))
        cs = chance.choice([0x10, 0x10, 0x33, 0x33, NEW, NEW | 3, 0, 0x18, 0x78])
        ss = chance.choice([0x18, 0x18, 0x2B, 0x2B, 0, NEW, 0x78])
        flags = chance.getrandbits(22) & ~(Flag.VIF | Flag.VIP | Flag.VM | Flag.TF | Flag.RF)
        frame = [TARGET, cs, flags, 0x150000 + chance.randrange(64), ss]
        if count == 4:
            del frame[2]
        lab.memory.write(STACK, b"".join(v.to_bytes(size, "little") for v in frame))
        fs = chance.choice([0, 0x18, 0x2B])
        start = lab.cpu.copy()
        table = lab.peek(0x11000 + NEW)

        oracle.reset()
        for index in (DS, ES, GS):  # Unicorn starts with nothing loaded
            lab.cpu.segments[index].selector = 0
        assert oracle.step(MOV_SS, {RAX: 0x18}) is None
        assert oracle.step(MOV_FS, {RAX: fs}) is None
        vector = oracle.step(stub, {RSP: STACK, RBX: STACK})
        theirs = after(None if vector is None else (vector, oracle.error), oracle)

        lab.gdt(NEW, table)
        lab.cpu.gpr[RSP] = STACK
        transfers_result = ours(lab, stub, fs, size, (cs, TARGET))
        case = (hex(stub), hex(table), [hex(v) for v in frame], hex(fs))
        assert after(transfers_result, lab) == theirs, case
        lab.cpu.assign(start)


def ours(lab: Lab, stub: int, fs: int, size: int, target: tuple[int, int]):
    """The same by Ringscope: (vector, error), or None without a fault."""
    from cores.x86.system.descriptors import load_segment

    load_segment(lab.mmu, lab.cpu, FS, fs)
    try:
        if stub in (IRETQ, IRETD):
            transfers.interrupt_return(lab.mmu, lab.cpu, size)
        elif stub == JMP_FAR:
            transfers.far_jump(lab.mmu, lab.cpu, *target)
        else:
            transfers.far_return(lab.mmu, lab.cpu, size)
    except GuestFault as fault:
        return fault.vector, fault.error
    return None
