"""The NE2000's remote DMA against QEMU's card: random accesses of every width, in and out of order."""

from __future__ import annotations

from random import Random
from struct import pack

import pytest
from machine_lab import needs_assembler

from cores import peers
from cores.errors import UnavailableError
from cores.lockstep.options import Options
from cores.pc.network.spec import NetSpec
from cores.pc.stop import Stop
from cores.peers import differences, qemu
from cores.programs.loader import assemble_program
from cores.programs.program import Program
from cores.runs.compare import compare

SECONDS = 300.0
"""Met only by a guest that never ends: a busy computer takes its time."""
GUEST = """
# Makes the accesses of a table: what to do, at which port, with which value. What is read is printed.
_start: lea     rsi, [rip + table]
next:   lodsb
        movzx   ecx, al
        lodsw
        movzx   edx, ax
        cmp     cl, 8
        jae     end
        test    cl, 4
        jnz     read
        lodsd
        cmp     cl, 2
        je      word
        ja      long
        out     dx, al
        jmp     next
word:   out     dx, ax
        jmp     next
long:   out     dx, eax
        jmp     next
read:   xor     eax, eax
        cmp     cl, 6
        je      word_in
        ja      long_in
        in      al, dx
        jmp     print
word_in:
        in      ax, dx
        jmp     print
long_in:
        in      eax, dx
print:  mov     ebx, eax
        mov     ecx, 8
digit:  rol     ebx, 4
        mov     eax, ebx
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     told
        add     al, 'a' - '0' - 10
told:   out     0xe9, al
        loop    digit
        mov     al, 10
        out     0xe9, al
        jmp     next
end:    xor     eax, eax
        out     0xf4, al
        cli
        hlt
table:
"""
WIDTHS = {1: 1, 2: 2, 4: 3}
COMMAND, PSTART, PSTOP, BNRY, ISR, RSAR, RBCR, DCR, DATA = 0, 1, 2, 3, 7, 8, 10, 14, 16
START, READ, WRITE = 0x22, 0x0A, 0x12


class Accesses:
    """A table of accesses for the guest."""

    def __init__(self, seed: int) -> None:
        self.random, self.table = Random(seed), b""

    def out(self, register: int, value: int, size: int = 1) -> None:
        self.table += pack("<BHI", WIDTHS[size], 0x300 + register, value)

    def read(self, register: int, size: int = 1) -> None:
        self.table += pack("<BH", 4 | WIDTHS[size], 0x300 + register)

    def transfer(self, command: int) -> None:
        """Remote DMA somewhere in the ring, its end or the buffer's included, by more or fewer bytes
        than were announced, by accesses of any width."""
        choose = self.random.choice
        at = choose(
            (0x4000, 0x46F0, 0x5FF0, 0x5FFB, 0xBFF0, 0x3FF8, self.random.randrange(0x4000, 0xBF00))
        )
        count, words = self.random.randrange(40), choose((0, 1))
        self.out(DCR, 0x48 | words)
        self.out(ISR, 0xFF)
        for register, value in ((RSAR, at), (RBCR, count)):
            self.out(register, value & 0xFF)
            self.out(register + 1, value >> 8)
        self.out(COMMAND, command)
        for _ in range(self.random.randrange(14)):
            size = choose((1, 2, 2, 4))
            if command == READ:
                self.read(DATA, size)
            else:
                self.out(DATA, self.random.getrandbits(8 * size), size)
        for register in (ISR, RSAR, RSAR + 1):
            self.read(register)

    def program(self) -> Program:
        rows = "\n".join(f"        .byte {', '.join(map(str, self.table[i : i + 16]))}"
                         for i in range(0, len(self.table), 16))  # fmt: skip
        return assemble_program(f"{GUEST}{rows}\n        .byte 8, 0, 0\n".encode(), "card.s")


@needs_assembler
@pytest.mark.parametrize("seed", range(4))
def test_remote_dma(seed: int) -> None:
    """Whatever moves by the data port, and what ISR and the address say then, is QEMU's."""
    try:
        qemu.Qemu().find()
    except UnavailableError as error:
        pytest.skip(f"qemu: {error}")
    accesses = Accesses(seed)
    for register, value in ((COMMAND, START), (PSTART, 0x46), (PSTOP, 0x60), (BNRY, 0x46)):
        accesses.out(register, value)
    for _ in range(60):
        accesses.transfer(accesses.random.choice((READ, WRITE)))
    program = accesses.program()
    options = Options(cores=("interpreter",), budget=1_000_000, nets=(NetSpec("user"),))
    (ours,) = compare(program, options).cores
    theirs = peers.run(
        qemu.Qemu(), program, ram=16 << 20, disk=None, input=b"", seconds=SECONDS, network=True
    )
    assert (ours.stop, len(ours.console.splitlines()) > 300) == (Stop.EXIT, True)
    assert differences(ours, theirs) == {}
    assert theirs.console == ours.console
