"""Steps that end at a planted HLT: the guest never sees it, and goes where it would."""

from __future__ import annotations

import pytest
from machine_lab import booted, needs_assembler, run

from cores.engines.ptrace import linux
from cores.engines.ptrace.engine import PtraceEngine
from cores.pc.stop import Stop

pytestmark = needs_assembler

ALIAS = """
        mov     rax, cr3
        and     rax, -4096
        mov     rax, [rax]
        and     rax, -4096
        mov     rbx, [rax]
        mov     [rax + 8], rbx          # all RAM once more, 1 GiB higher
        mov     rax, cr3
        mov     cr3, rax
"""
GUESTS = {
    "reads the byte behind it": ("mov al, [rip]\nnop\nout 0xe9, al\n", b"\x90"),
    "compares it": ("cmp byte ptr [rip], 0x90\nnop\nsete al\nout 0xe9, al\n", b"\x01"),
    "pops it": ("lea rsp, [rip + 1f]\npop rax\n1: nop\nout 0xe9, al\n", b"\x90"),
    "stores there": ("mov al, 1\nmov byte ptr [rip], 0x90\n.byte 0xf4\nout 0xe9, al\n", b"\x01"),
    "pushes over it": (
        "mov rax, 0x9090909090909090\nlea rsp, [rip + 1f + 8]\npush rax\n"
        "1: .byte 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4\nout 0xe9, al\n",
        b"\x90",
    ),
    "reads it at another address": (
        ALIAS + "mov ebx, 0x40000000\nlea rcx, [rip + 1f]\nmov al, [rbx + rcx]\n1: nop\nout 0xe9, al\n",
        b"\x90",
    ),
    "reads both ways of a branch": (
        "xor eax, eax\njnz 2f\n1: mov al, [rip + 2f]\nmov ah, [rip + 1b]\nout 0xe9, al\nmov al, ah\n"
        "out 0xe9, al\njmp 3f\n2: hlt\n3: nop\n",
        b"\xf4\x8a",
    ),
    "branches into itself": (".byte 0xeb, 0xff, 0xc0\ninc eax\nout 0xe9, al\n", b"\x02"),
    "returns into its own stack": (
        "mov rsp, 0x90000\nmov qword ptr [rsp], 0x90008\nmov dword ptr [rsp + 8], 0xe9e6c0ff\n"
        "mov byte ptr [rsp + 12], 0xe6\nmov byte ptr [rsp + 13], 0xf4\nret\n",
        b"\x01",
    ),
    "returns behind a call that pops": (
        "mov rsp, 0x90000\ncall 1f\nmov al, 5\nout 0xe9, al\njmp 2f\n1: mov al, 4\nout 0xe9, al\n"
        "ret\n2: nop\n",
        b"\x04\x05",
    ),
}


@pytest.mark.parametrize("name", GUESTS)
def test_nobody_sees_it(name: str) -> None:
    """Guests that look at the byte, change it, or go there in their own ways."""
    source, said = GUESTS[name]
    with booted("trap:native", f"xor eax, eax\n{source}mov al, 0\nout 0xf4, al\n") as machine:
        run(machine)
        assert (machine.stop, machine.console().encode("latin-1")) == (Stop.EXIT, said)


def test_most_steps_are_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of arithmetic, stores, a call and a return is stepped without TF."""
    taken = {"step": 0, "step_to": 0}

    def noted(name: str) -> None:
        original = getattr(PtraceEngine, name)

        def step(engine: PtraceEngine, *arguments: object) -> object:
            taken[name] += 1
            return original(engine, *arguments)

        monkeypatch.setattr(PtraceEngine, name, step)

    noted("step")
    noted("step_to")
    source = (
        "mov rsp, 0x90000\nmov ecx, 100\n1: add rax, rcx\nmov [0x40000], rax\npush rax\npop rbx\n"
        "call 2f\ndec ecx\njnz 1b\nmov al, 0\nout 0xf4, al\n2: ret\n"
    )
    with booted("trap:native", source) as machine:
        run(machine)
        assert machine.stop is Stop.EXIT
    assert taken["step_to"] > 10 * taken["step"]


def test_steps_write_no_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registers that a step leaves in the process are those that the next one needs: RF, which each
    fault sets, does not count."""
    written: list[bool] = []
    enter = linux.Tracee.enter_briefly

    def noted(tracee: linux.Tracee, request: int, *, put: bool) -> tuple[int, tuple[int, ...]]:
        written.append(put)
        return enter(tracee, request, put=put)

    monkeypatch.setattr(linux.Tracee, "enter_briefly", noted)
    source = "mov ecx, 100\n1: add rax, rcx\ndec ecx\njnz 1b\nmov al, 0\nout 0xf4, al\n"
    with booted("trap:native", source) as machine:
        run(machine)
        assert machine.stop is Stop.EXIT
    assert len(written) > 300
    assert sum(written) < 10


def test_code_that_moves_is_planned_anew() -> None:
    """The same instruction at the same address, whose page the guest's tables have moved: the HLT is
    planted where the code is now."""
    copy = "lea rsi, [rip + code]\nmov ecx, 16\nrep movsb\n"
    source = f"""
        mov     edi, 0x101000
        {copy}
        mov     edi, 0x102000
        {copy}
        mov     rax, cr3
        and     rax, -4096
        mov     rax, [rax]
        and     rax, -4096
        mov     qword ptr [rax + 16], 0x106003  # two pages of tables, for the third GiB
        mov     qword ptr [0x106000], 0x104003
        mov     qword ptr [0x104000], 0x101003
        mov     esi, 0x80000000
        mov     eax, 4
        call    rsi
        mov     byte ptr [0x102002], 0xc3       # in the second copy alone: inc eax; ret
        mov     qword ptr [0x104000], 0x102003
        invlpg  [rsi]
        call    rsi                             # steps by TF, since the page has to be mapped first
        call    rsi
        out     0xe9, al
        jmp     end
    code:
        inc     eax
        inc     eax
        ret
    end:
        mov     al, 0
        out     0xf4, al
"""
    with booted("trap:native", source) as machine:
        run(machine)
        assert (machine.stop, machine.console()) == (Stop.EXIT, "\x08")
