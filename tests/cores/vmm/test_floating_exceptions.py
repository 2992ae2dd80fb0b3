"""x87 and SSE instructions that raise an exception have a CPU's results on every engine."""

from __future__ import annotations

import pytest
from machine_lab import CORES, DATA, EXIT, booted, needs_assembler, run

from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.x86.registers import RAX, RBX, Flag

pytestmark = needs_assembler

FPU = tuple(core for core in CORES if core != "kvm")  # a host that interprets ring 0 has no x87
_UNMASK = f"mov word ptr [{DATA}], {{}}\nfldcw [{DATA}]\n"
IE, ZE = "0x37e", "0x37b"
"""FCW with all exceptions masked but #IA, or #Z."""
_REPORT = f"\nfnclex\nfstp qword ptr [{DATA + 16}]\nmov rbx, [{DATA + 16}]\n"
ONE, MINUS_ONE = 0x3FF0 << 48, 0xBFF0 << 48
SUMMARY, ZERO_DIVIDE, INVALID = 0x8080, 4, 1
LARGE = f"mov dword ptr [{DATA + 8}], 0x77777777\nfild dword ptr [{DATA + 8}]\nfmul st(0), st(0)\n"

UNDELIVERED = {
    "1 / 0": ("fldz\nfld1\n" + _UNMASK.format(ZE) + "fdiv st(0), st(1)", ZERO_DIVIDE, ONE),
    "1 / 0, popped": ("fld1\nfldz\n" + _UNMASK.format(ZE) + "fdivp st(1), st(0)", ZERO_DIVIDE, 0),
    "root of -1": ("fld1\nfchs\n" + _UNMASK.format(IE) + "fsqrt", INVALID, MINUS_ONE),
}


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("case", UNDELIVERED)
def test_an_unmasked_exception_has_no_result(case: str, core: str) -> None:
    """After an unmasked #IA or #Z the operands are as before, nothing is popped, and the exception is
    pending (SDM vol. 1, 8.5.1.2 and 8.5.3)."""
    source, flag, value = UNDELIVERED[case]
    with booted(core, source + _REPORT + EXIT) as machine:
        run(machine)
        assert machine.cpu.gpr[RBX] == value
    with booted(core, source + "\nfnstsw ax\nmov ebx, eax\n" + EXIT) as machine:
        run(machine)
        assert machine.cpu.gpr[RBX] & (SUMMARY | flag) == SUMMARY | flag


NO_DIVISION = {
    "0 / 0": ("fldz\nfldz\n", INVALID),
    "infinity / 0": ("fld1\nfldz\nfdivp st(1), st(0)\nfnclex\nfldz\n", 0),
}


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("case", NO_DIVISION)
def test_no_division_by_zero(case: str, core: str) -> None:
    """0 / 0 is an invalid operation, and infinity / 0 is infinity: neither raises an unmasked #Z."""
    operands, flags = NO_DIVISION[case]
    source = operands + _UNMASK.format(ZE) + "fdivp st(1), st(0)\nfnstsw ax\nmov ebx, eax\n"
    with booted(core, source + EXIT) as machine:
        run(machine)
        assert machine.cpu.gpr[RBX] & (SUMMARY | 0x3F) == flags


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("after", ["fchs", "fldcw [0x50000]", "fincstp", "fwait", "fld st(0)"])
def test_the_next_waiting_instruction_raises_mf(after: str, core: str) -> None:
    """An exception that is pending (here #P of a root) is #MF at the next waiting instruction, and
    FNCLEX, FNSTSW and their kin do not wait."""
    pending = f"fldpi\n{_UNMASK.format('0x35f')}fsqrt\nfnstsw ax\nfnstcw [{DATA}]\n"
    for source, stop in ((pending, Stop.SHUTDOWN), (pending + "fnclex\n", Stop.EXIT)):
        with booted(core, f"{source}{after}\n" + EXIT) as machine:
            run(machine)
            assert machine.stop is stop


@pytest.mark.parametrize("core", FPU)
def test_a_store_that_raises_stores_nothing(core: str) -> None:
    """FISTP of a number too large, with #IA unmasked, leaves memory and stack."""
    source = LARGE + _UNMASK.format(IE) + f"fistp dword ptr [{DATA + 8}]\nmov ebx, [{DATA + 8}]\n"
    with booted(core, source + EXIT) as machine:
        run(machine)
        assert machine.cpu.gpr[RBX] == 0x77777777
        assert machine.fpu()[4] == 0x80  # one register in use


MAX, MIN, TINY = "7ffeffffffffffffffff", "00018000000000000000", "00000000000000000001"
"""The largest number, the smallest normal and the smallest denormal one, as numbers of 80 bits."""
OE, UE, DE = "0x377", "0x36f", "0x37d"
FLAG = {OE: 0x08, UE: 0x10, DE: 0x02}


def loaded(number: str) -> str:
    """Source that pushes a number of 80 bits."""
    value = int(number, 16)
    words = "".join(
        f"mov dword ptr [{DATA + 32 + 4 * i}], {value >> 32 * i & 0xFFFFFFFF:#x}\n" for i in range(3)
    )
    return words + f"fld tbyte ptr [{DATA + 32}]\n"


MOVED = {
    "max * max": (loaded(MAX), "fmul st(0), st(0)", OE, "5ffefffffffffffffffe", 0x20),
    "max + max": (loaded(MAX), "fadd st(0), st(0)", OE, "1fffffffffffffffffff", 0),
    "1 / min, popped": ("fld1\n" + loaded(MIN), "fdiv st(0), st(1)\nfxch\nfstp st(0)", UE,
                        "00018000000000000000", 0),
    "min * min": (loaded(MIN), "fmul st(0), st(0)", UE, "20038000000000000000", 0),
    "tiny, exact": (loaded(MIN) + f"mov dword ptr [{DATA + 8}], 2\n", f"fidiv dword ptr [{DATA + 8}]",
                    UE, "60008000000000000000", 0),
    "max, scaled": ("fld1\n" + loaded(MAX), "fscale", OE, "1fffffffffffffffffff", 0),
}  # fmt: skip


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("case", MOVED)
def test_an_unmasked_overflow_moves_the_exponent(case: str, core: str) -> None:
    """After an unmasked #O or #U a register holds the result with an exponent moved by 24,576, and the
    exception is pending; after neither it is as ever (SDM vol. 1, 8.5.4 and 8.5.5)."""
    ready, operation, control, expected, more = MOVED[case]
    with booted(core, ready + _UNMASK.format(control) + operation + "\n" + EXIT) as machine:
        run(machine)
        image = machine.fpu()
        assert image[32:42] == int(expected, 16).to_bytes(10, "little")
        status = int.from_bytes(image[2:4], "little")
        raised = 0 if case == "1 / min, popped" else SUMMARY | FLAG[control] | more
        assert status & (SUMMARY | 0x3F) == raised


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize(
    ("number", "operation", "control"),
    [
        (MAX, "fstp dword ptr", OE), (MAX, "fst qword ptr", OE), (MIN, "fst dword ptr", UE),
        (MIN, "fstp qword ptr", UE), (TINY, "fadd st(0), st(0)", DE), (TINY, "ftst", DE),
        (TINY, "fmul dword ptr", DE),
    ],
)  # fmt: skip
def test_what_is_withheld(number: str, operation: str, control: str, core: str) -> None:
    """A number too large or too small for its place in memory is not stored while #O or #U is not
    masked, and nothing is computed from a denormal number while #D is not: memory, stack and condition
    codes are as before."""
    place = f" [{DATA + 8}]" if operation.endswith("ptr") else ""
    source = loaded(number) + f"mov dword ptr [{DATA + 8}], 0x3f800000\n" + _UNMASK.format(control)
    with booted(core, source + operation + place + "\nmov ebx, [0x50008]\n" + EXIT) as machine:
        assert DATA == 0x50000
        run(machine)
        image = machine.fpu()
        assert image[4] == 0x80
        assert image[32:42] == int(number, 16).to_bytes(10, "little")
        assert machine.cpu.gpr[RBX] == 0x3F800000
        status = int.from_bytes(image[2:4], "little")
        assert status & (SUMMARY | 0x453F) == SUMMARY | FLAG[control]


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize(
    ("source", "flags"),
    [
        (loaded(TINY) + "fadd st(0), st(0)", 0x02),
        (loaded(TINY) + "fchs\nfst st(1)\nfxch", 0),
        (f"mov dword ptr [{DATA + 8}], 1\nfld dword ptr [{DATA + 8}]", 0x02),
        (f"fldz\nmov dword ptr [{DATA + 8}], 1\nfcom dword ptr [{DATA + 8}]", 0x02),
        ("fldz\nfldz\nfdivp st(1), st(0)", 0x01),
        (f"fldz\nmov dword ptr [{DATA + 8}], 0\nfidiv dword ptr [{DATA + 8}]", 0x01),
        ("fld1\nfldz\nfdivp st(1), st(0)", 0x04),
    ],
    ids=["sum", "moves", "load", "comparison", "0 / 0", "0 / integer 0", "1 / 0"],
)
def test_masked_exceptions_are_recorded(source: str, flags: int, core: str) -> None:
    """Step by step, DE is set by a denormal operand, but not by moving one; ZE only where a finite
    number is divided by 0."""
    with booted(core, source + "\n" + EXIT) as machine:
        run(machine)
        assert machine.fpu()[2] & 0x3F == flags


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("operation", ["fcom st(1)", "ftst", "fucompp", "fcomi st(0), st(1)"])
def test_a_comparison_that_stops_compares_nothing(operation: str, core: str) -> None:
    """After an unmasked #IA the condition codes, and RFLAGS, are as before the comparison, as Intel's
    CPUs have it, in exact mode."""
    source = "fldz\nfldz\nfdivp st(1), st(0)\nfld st(0)\nfnclex\n"  # two indefinite NaNs: #IA
    source += _UNMASK.format(IE) + "test esp, esp\n" + operation + "\npushfq\npop rbx\n"
    signalling = source if "u" not in operation else source.replace(
        "fnclex\n", f"fnclex\nfstp st(0)\nfstp st(0)\n{loaded('7fff8000000000000001')}fld st(0)\n"
    )  # fmt: skip
    with booted(core, signalling + EXIT) as machine:
        run(machine)
        status = int.from_bytes(machine.fpu()[2:4], "little")
        assert status & (SUMMARY | INVALID | 0x4500) == SUMMARY | INVALID
        assert flags_of(machine) & (Flag.ZF | Flag.CF) == 0
        assert machine.fpu()[4] == 0xC0


INFINITY, INDEFINITE = "7fff8000000000000000", "ffffc000000000000000"
LOGARITHMS = {
    "of 0": ("fld1\nfldz\n", "ffff8000000000000000", ZERO_DIVIDE),
    "of -0, times -1": ("fld1\nfchs\nfldz\nfchs\n", INFINITY, ZERO_DIVIDE),
    "of 0, times 0": ("fldz\nfldz\n", INDEFINITE, INVALID),
    "of -1": ("fld1\nfld1\nfchs\n", INDEFINITE, INVALID),
    "of infinity, times -1": ("fld1\nfchs\n" + loaded(INFINITY), "ffff8000000000000000", 0),
    "of a NaN": ("fld1\n" + loaded("7fffc000000000000001"), "7fffc000000000000001", 0),
    "of the smallest": ("fld1\n" + loaded(MIN), "c00cfff8000000000000", 0),
    "of 2, times the largest": (loaded(MAX) + "fld1\nfadd st(0), st(0)\n", MAX, 0),
}


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("case", LOGARITHMS)
def test_logarithms_of_special_numbers(case: str, core: str) -> None:
    """FYL2X of zeros, negative numbers, infinities, NaNs, and of numbers beyond 64 bits pops, with the
    results of the SDM's table (SDM vol. 2, FYL2X)."""
    operands, expected, flags = LOGARITHMS[case]
    with booted(core, operands + "fyl2x\n" + EXIT) as machine:
        run(machine)
        image = machine.fpu()
        assert (image[32:42], image[4]) == (int(expected, 16).to_bytes(10, "little"), 0x80)
        assert image[2] & 0x1F == flags
    with booted(core, operands + _UNMASK.format("0x37a") + "fyl2x\n" + EXIT) as machine:
        run(machine)
        assert machine.fpu()[4] == (0xC0 if flags else 0x80)


def flags_of(machine: Machine) -> int:
    return machine.cpu.gpr[RBX] & (Flag.ZF | Flag.PF | Flag.CF)


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("compare", ["fcomi", "fcompi", "fucomi", "fucompi"])
def test_empty_registers_compare_unordered(compare: str, core: str, free: bool) -> None:
    """FCOMI and its kin say "unordered" of empty registers, and "less" of 0 and 1, in either mode."""
    for source, expected in (
        ("fninit", Flag.ZF | Flag.PF | Flag.CF), ("fld1\nfldz", Flag.CF),
    ):  # fmt: skip
        source += f"\n{compare} st(0), st(1)\npushfq\npop rbx\n"
        with booted(core, source + EXIT) as machine:
            if free:
                machine.run_free(30)
            else:
                run(machine)
            assert flags_of(machine) == expected


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("source", [f"fxsave [{DATA}]", f"fnstenv [{DATA}]", "fcomi st(0), st(1)"])
def test_what_the_vmm_completes_faults_while_ts_is_set(source: str, core: str, free: bool) -> None:
    """With CR0.TS set, x87 instructions that the VMM completes raise #NM, in either mode."""
    with booted(core, f"mov rax, cr0\nor eax, 8\nmov cr0, rax\n{source}\n" + EXIT) as machine:
        if free:
            machine.run_free(30)
        else:
            run(machine)
        assert machine.stop is Stop.SHUTDOWN  # there is no IDT


SSE = {
    "1 / 0": ("divss xmm0, xmm1", 0x200, 0x04),
    "0 / 0, then stored": ("divss xmm1, xmm1", 0x080, 0x01),
    "root of -1": ("sqrtss xmm2, xmm3", 0x080, 0x01),
    "1 / 3, inexact": ("divss xmm0, xmm4", 0x1000, 0x20),
    "too large for an integer": ("cvttss2si eax, xmm5", 0x080, 0x01),
}


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize("case", SSE)
def test_an_unmasked_sse_exception_is_xm(case: str, core: str) -> None:
    """An exception that MXCSR does not mask is #XM, with registers as before and its flag set; masked,
    the instruction completes."""
    operation, mask, flag = SSE[case]
    ready = "".join(
        f"mov dword ptr [{DATA}], {bits:#x}\nmovss xmm{n}, dword ptr [{DATA}]\n"
        for n, bits in ((0, 0x3F800000), (3, 0xBF800000), (4, 0x40400000), (5, 0x7F000000))
    )
    for masks in (0x1F80, 0x1F80 & ~mask):
        load = f"mov dword ptr [{DATA}], {masks:#x}\nldmxcsr [{DATA}]\nmov eax, 7\n"
        with booted(core, ready + load + operation + "\nnop\n" + EXIT) as machine:
            last = ""
            while machine.stop is None and last != "nop":
                before = machine.fpu(), machine.cpu.gpr[RAX]
                machine.step()
                last = machine.vmm.last.mnemonic if machine.vmm.last else ""
            assert (machine.stop is Stop.SHUTDOWN) is (masks != 0x1F80)
            after = machine.fpu()
            assert after[24] & 0x3F == flag
            if machine.stop:
                assert (after[160:288], machine.cpu.gpr[RAX]) == (before[0][160:288], before[1])


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize(
    ("operation", "faults"),
    [
        ("addss xmm0, xmm1", True), (f"mulss xmm2, dword ptr [{DATA}]", True),
        ("sqrtsd xmm2, xmm1", True), ("ucomiss xmm0, xmm1", True), ("cmpltps xmm0, xmm1", True),
        ("cvtss2sd xmm0, xmm1", True), ("addps xmm1, xmm4", True), ("addss xmm1, xmm4", False),
        ("cvtss2si eax, xmm1", False), ("mulss xmm2, xmm0", False),
    ],
)  # fmt: skip
def test_an_unmasked_denormal_operand_is_xm(operation: str, faults: bool, core: str) -> None:
    """Arithmetic with a denormal number is #XM where MXCSR.DM is clear, with DE alone set; not beside a
    NaN in the same element, nor where the number is converted to an integer."""
    ready = "".join(
        f"mov dword ptr [{DATA}], {low:#x}\nmov dword ptr [{DATA + 4}], {high:#x}\n"
        f"movsd xmm{n}, qword ptr [{DATA}]\n"
        for n, low, high in ((0, 0x3F800000, 0), (2, 0, 0), (4, 0x7FC00000, 0), (1, 3, 3))
    )
    load = f"mov dword ptr [{DATA + 8}], 0x1e80\nldmxcsr [{DATA + 8}]\n"
    with booted(core, ready + load + operation + "\n" + EXIT) as machine:
        run(machine)
        assert (machine.stop is Stop.SHUTDOWN) is faults  # there is no IDT
        assert machine.fpu()[24] & 0x3F == 0x02 or not faults


@pytest.mark.parametrize("core", FPU)
@pytest.mark.parametrize(
    ("operation", "flag"),
    [
        ("addss xmm0, xmm1", 2), ("cmpps xmm0, [{DATA}], 3", 2), ("sqrtss xmm0, xmm1", 2),
        ("cvtss2si ecx, xmm1", 0), ("rcpss xmm0, xmm1", 0),
    ],
)  # fmt: skip
def test_a_masked_denormal_operand(operation: str, flag: int, core: str) -> None:
    """Arithmetic with a denormal operand sets MXCSR.DE, whatever is masked; conversions to integers and
    approximations do not (SDM vol. 1, 11.5.2.2)."""
    source = f"""
        mov     rax, cr4
        or      eax, 0x600
        mov     cr4, rax
        mov     rax, 0x3f80000000000001
        mov     [{DATA}], rax
        mov     qword ptr [{DATA + 8}], 0
        movups  xmm1, [{DATA}]
        {operation.format(DATA=DATA)}
        stmxcsr [{DATA + 16}]
        mov     ebx, [{DATA + 16}]
    """
    with booted(core, source + EXIT) as machine:
        run(machine)
        assert machine.cpu.gpr[RBX] & 2 == flag


@pytest.mark.parametrize("core", FPU)
def test_a_reserved_bit_of_fcw(core: str) -> None:
    """FLDCW sets FCW's bit 6, whatever is loaded (SDM vol. 1, 8.1.5)."""
    source = f"mov word ptr [{DATA}], 0\nfldcw [{DATA}]\nfnstcw [{DATA + 2}]\n"
    with booted(core, source + f"movzx ebx, word ptr [{DATA + 2}]\n" + EXIT) as machine:
        run(machine)
        assert machine.cpu.gpr[RBX] == 0x40
