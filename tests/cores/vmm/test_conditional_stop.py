"""Conditional stops: a stretch that ends in the middle of a loop ends at the right pass."""

from __future__ import annotations

from contextlib import closing

import pytest
from machine_lab import DATA, RAM, needs_assembler, program, require

from cores.engines.base import BUDGET_SPENT, Exit
from cores.lockstep import follower as following
from cores.lockstep import leader as lead
from cores.lockstep.options import Options
from cores.lockstep.session import Session, start
from cores.pc.ram import MIB
from cores.pc.stop import Stop
from cores.programs.program import Program, Segment
from cores.vmm.conditional_stop import ConditionalStop
from cores.x86.registers import RCX

pytestmark = needs_assembler

START = "mov ecx, 1000000\nmov edi, 0x60000\nmov ebx, 0x50000\n"
LOOPS = {
    "two instructions, then a sensitive one": "1: dec ecx\njnz 1b\nout 0xf4, al\n",
    "flags live through the check": "1: add rax, rcx\nadc rdx, rax\nrcl rsi, 1\ndec ecx\njnz 1b\nhlt\n",
    "a far conditional branch": "1: imul rax, rcx, 3\nxor rdx, rax\ndec ecx\njz 2f\njmp 1b\n"
    + "nop\n" * 140 + "2: hlt\n",
    "an operand relative to RIP": "1: lea rax, [rip + 1b]\nadd rdx, rax\ndec ecx\njnz 1b\nhlt\n",
    "calls and returns": "1: call 2f\ndec ecx\njnz 1b\nhlt\n2: push rcx\nadd rax, rcx\npop rdx\nret\n",
    "a branch into the middle":
    "1: test cl, 7\njz 3f\nnop\n2: inc rax\n3: inc rdx\ndec ecx\njnz 1b\nhlt\n",
    "pages touched for the first time":
    "1: inc rax\nmov [rdi], rax\ntest cl, 15\njnz 2f\nadd rdi, 4096\nand rdi, 0x7f000\n"
    "or rdi, 0x60000\n2: dec ecx\njnz 1b\nhlt\n",
    "registers that come again": f"1: inc qword ptr [{DATA}]\nadd al, 64\njmp 1b\n",
    "a counter in memory":
    f"1: inc dword ptr [{DATA}]\ncmp dword ptr [{DATA}], 0x7fffffff\njne 1b\n",
    "counters on the stack, as compilers have them":
    "sub rsp, 64\n2: mov dword ptr [rsp], 0\n1: add dword ptr [rsp], 1\ncmp dword ptr [rsp], 9\n"
    "jle 1b\nadd dword ptr [rsp + 60], 1\njmp 2b\n",
    "counters in two pages":
    f"1: inc byte ptr [{DATA}]\njnz 1b\ninc qword ptr [{DATA} + 8192]\njmp 1b\n",
    "the stack pointer":
    "1: push rcx\nsub ecx, 1\njz 2f\ncmp rsp, 0x70000\nja 1b\nmov esp, 0x80000\njmp 1b\n2: hlt\n",
}  # fmt: skip


LOOPS_32 = {
    "a register": "b9ffffff7f 49 75fd",  # mov ecx, 0x7fffffff; 1: dec ecx; jnz 1b
    # 1: inc dword [0x140000]; cmp dword [0x140000], 0x7fffffff; jne 1b
    "memory": "ff0500001400 813d00001400ffffff7f 75ee",
    # mov esp, 0x200000; 1: add dword [esp], 1; add eax, ecx; cmp dword [esp], 0x7ffffff; jle 1b
    "the stack": "bc00002000 83042401 01c8 813c24ffffff07 7ef1",
    # 2: mov ecx, 9; 1: add [esp - 8], ecx; dec ecx; jnz 1b; add byte [esp - 4], 1; jmp 2b
    "two loops": "bc00002000 b909000000 014c24f8 49 75f9 804424fc01 ebed",
}


def kernel(code: str) -> Program:
    """A 32-bit kernel."""
    image = bytes.fromhex(code)
    return Program("k", "multiboot", MIB, (Segment(MIB, image, len(image)),), "", ram=8 * MIB)


def planted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The addresses at which stops are planted, after one pass; stretches begin at once."""
    monkeypatch.setattr(following, "FEW_PASSES", 1)
    monkeypatch.setattr(lead, "WARM_UP", 0)
    found: list[int] = []
    plant = ConditionalStop.plant

    def counting(stop: ConditionalStop) -> None:
        plant(stop)
        found.append(stop.rip)

    monkeypatch.setattr(ConditionalStop, "plant", counting)
    return found


@pytest.mark.parametrize("name", LOOPS)
def test_every_place_in_a_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever instruction of the loop the budget ends at, both machines end there, equal."""
    require("trap:native")
    found = planted(monkeypatch)
    loaded, led = program(START + LOOPS[name]), 0
    for budget in range(601, 613):
        options = Options(cores=("interpreter", "trap:native"), budget=budget, ram=RAM)
        with closing(Session(loaded, options)) as session:
            session.run_to_end()
            assert session.divergence is None, budget
            led += session.led > 400
            for machine in session.machines:
                assert (machine.stop, machine.vmm.instructions) == (Stop.BUDGET, budget)
            one, other = (machine.report() for machine in session.machines)
            assert one.registers == other.registers
            assert one.memory_sha256 == other.memory_sha256
    assert found
    assert led


@pytest.mark.parametrize("name", LOOPS_32)
def test_every_place_in_a_32_bit_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in 32-bit code."""
    require("trap:native")
    found = planted(monkeypatch)
    for budget in range(601, 613):
        options = Options(cores=("interpreter", "trap:native"), budget=budget)
        with closing(Session(kernel(LOOPS_32[name]), options)) as session:
            session.run_to_end()
            assert session.divergence is None, budget
            one, other = (machine.report() for machine in session.machines)
            assert (one.stop, one.instructions) == (other.stop, other.instructions)
            assert (one.stop, one.instructions) == (Stop.BUDGET, budget)
            assert one.registers == other.registers
            assert one.memory_sha256 == other.memory_sha256
    assert found


@pytest.mark.parametrize(
    "source",
    [
        "mov ecx, 90000000\n1: dec ecx\njnz 1b\nhlt\n",
        f"1: inc dword ptr [{DATA}]\ncmp dword ptr [{DATA}], 0x7fffffff\njne 1b\n",
        "sub rsp, 16\n1: add dword ptr [rsp + 12], 1\ncmp dword ptr [rsp + 12], 0x7ffffff\njle 1b\n",
        *map(kernel, LOOPS_32.values()),
    ],
    ids=["a register", "memory", "the stack", *(f"32 bits, {name}" for name in LOOPS_32)],
)
def test_a_budget_far_out_in_a_loop(source: str | Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of ten million instructions in a loop of few ends there, without a stop at each pass,
    wherever the loop counts."""
    require("trap:native")
    monkeypatch.setattr(lead, "WAIT_NS", 500 * lead.WAIT_NS)  # a busy computer takes its time
    stops = []
    enter = following.Follower._enter

    def noted(follower: following.Follower, count: int, gpr: list[int]) -> Exit:
        stops.append(count)
        return enter(follower, count, gpr)

    monkeypatch.setattr(following.Follower, "_enter", noted)
    options = Options(cores=("interpreter", "trap:native"), budget=10_000_001)
    loaded = program(source) if isinstance(source, str) else source
    with closing(Session(loaded, options)) as session:
        session.run_to_end()
        assert session.divergence is None
        assert session.stretches == 1
        assert len(stops) < 200
        assert {m.vmm.instructions for m in session.machines} == {10_000_001}
        assert len({m.cpu.state() for m in session.machines}) == 1


def test_the_twin_is_left_as_it_was() -> None:
    """After the stop is gone the twin has the patcher's bytes, and its pages are unmapped."""
    require("trap:native")
    source = "mov ecx, 5000\n1: dec ecx\njnz 1b\nmov al, 65\nout 0xe9, al\ncli\nhlt\n"
    with closing(
        Session(program(source), Options(cores=("interpreter", "trap:native"), ram=RAM, budget=9_000))
    ) as session:
        session.run_to_end()
        native = session.machines[-1]
        native.vmm.budget = 1 << 60
        native.vmm.stop = None
        native.run_free(60)
        assert (native.stop, native.console()) == (Stop.HALTED, "A")


def test_a_breakpoint_in_a_code_segment_with_a_base() -> None:
    """The first entry to 32-bit code stops at a breakpoint: where its segment lies in the process."""
    require("trap:native")
    options = Options(cores=("trap:native",))
    with closing(start(kernel(LOOPS_32["a register"]), "trap:native", options)) as machine:
        exit = machine.vmm.enter(machine.engine.reach, MIB + 5, [0] * 16, 5)
        assert (exit, machine.cpu.rip, machine.cpu.gpr[RCX]) == (BUDGET_SPENT, MIB + 5, 0x7FFF_FFFF - 5)
