"""REP STOS in free runs of the interpreter, whose iterations are made a page at a time."""

from __future__ import annotations

import pytest
from machine_lab import EXIT, RAM, booted, needs_assembler

from cores.engines.unicorn.bulk_store import BulkStore
from cores.pc.stop import Stop
from cores.x86.registers import RBX, RCX, RDI

pytestmark = needs_assembler

FROM, COUNT = 0x50008, 1500
PT = 0x15000


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows with each help that is given."""
    calls: list[bool] = []
    store = BulkStore.store

    def counted(self: BulkStore, insn: object) -> bool:
        calls.append(store(self, insn))  # type: ignore[arg-type]
        return calls[-1]

    monkeypatch.setattr(BulkStore, "store", counted)
    return calls


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_pages_at_once(width: int, made: list[bool]) -> None:
    """Memory, registers, D bits and the count are those of single iterations."""
    letter = {1: "b", 2: "w", 4: "d", 8: "q"}[width]
    source = f"""
        mov edx, {PT + 8 * 0x4F}
        mov ecx, 7
    1:  and byte ptr [rdx], 0x9f                # A and D
        add edx, 8
        loop 1b
        mov rax, cr3
        mov cr3, rax
        mov rax, 0x1122334455667788
        mov rdi, {FROM}
        mov ecx, {COUNT}
        rep stos{letter}
        mov rbx, rdi
        {EXIT}"""
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        end, view = FROM + COUNT * width, machine.memory.view
        assert bytes(view[FROM:end]) == (0x1122334455667788).to_bytes(8, "little")[:width] * COUNT
        assert bytes(view[FROM - 8 : FROM]) == bytes(view[end : end + 8]) == bytes(8)
        assert (machine.cpu.gpr[RBX], machine.cpu.gpr[RCX]) == (end, 0)
        assert machine.vmm.instructions == 2 + 7 * 3 + 2 + 7
        dirty = [page for page in range(0x4F, 0x56) if view[PT + 8 * page] & 0x40]
        assert dirty == [*range(FROM >> 12, (end - 1 >> 12) + 1)]
        assert 0 < len(made) < 20


def test_a_fault_in_the_middle(made: list[bool]) -> None:
    """A page that is not there ends it at its first iteration, with the registers of that."""
    source = f"mov edi, {RAM - 0x2010}\nmov ecx, 0x3000\nmov al, 7\nrep stosb\n"
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.SHUTDOWN
        assert (machine.cpu.gpr[RDI], machine.cpu.gpr[RCX]) == (RAM, 0x3000 - 0x2010)
        assert bytes(machine.memory.view[RAM - 0x2010 : RAM]) == b"\7" * 0x2010
        assert made


@pytest.mark.parametrize(("down", "at"), [("", 0x140000), ("std\n", 0x140FFF)], ids=["up", "down"])
def test_over_code_that_has_run(down: str, at: int) -> None:
    """Code that is overwritten is not executed as it was, and the direction flag counts."""
    source = f"""
        mov word ptr [0x140800], 0xff48
        mov word ptr [0x140802], 0xc3c3             # inc rbx; ret
        mov eax, 0x140800
        xor ebx, ebx
        call rax
        mov edi, {at}
        mov ecx, 4096
        mov eax, 0xc3
        {down}rep stosb
        cld
        mov eax, 0x140800
        call rax
        {EXIT}"""
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[RBX] == 1
        assert bytes(machine.memory.view[0x140000:0x141000]) == b"\xc3" * 4096
