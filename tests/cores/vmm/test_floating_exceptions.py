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
