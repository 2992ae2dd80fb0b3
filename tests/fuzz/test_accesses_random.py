"""accesses.py against Unicorn: every access of random instructions is among the computed ones."""

from __future__ import annotations

from random import Random

import pytest
import unicorn
from straightline import floating, integer
from unicorn import x86_const

from cores.programs.assembler import keystone as assembler
from cores.x86.isa.accesses import accesses
from cores.x86.isa.decoder import decode, text
from cores.x86.registers import GPR_NAMES
from cores.x86.virtual_cpu import VirtualCpu

pytestmark = pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")

ENTRY, RAM = 0x100000, 4 << 20
REGISTERS = [getattr(x86_const, f"UC_X86_REG_{name.upper()}") for name in GPR_NAMES]


def registers(uc: unicorn.Uc) -> VirtualCpu:
    return VirtualCpu(
        gpr=[uc.reg_read(register) for register in REGISTERS],
        rip=uc.reg_read(x86_const.UC_X86_REG_RIP),
        rflags=uc.reg_read(x86_const.UC_X86_REG_RFLAGS),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", [integer, floating])
def test_every_access_was_foretold(make, seed: int) -> None:
    """Each byte that Unicorn reads or writes is in the computed ranges; without a repetition, each byte
    computed as written is written."""
    code = assembler.assemble(make(Random(seed), 60), "random.s", ENTRY).code
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.ctl_set_tcg_buffer_size(32 << 20)
    uc.mem_map(0, RAM)
    uc.mem_write(ENTRY, code)
    uc.reg_write(x86_const.UC_X86_REG_RSP, RAM - 8)
    uc.reg_write(x86_const.UC_X86_REG_CR4, uc.reg_read(x86_const.UC_X86_REG_CR4) | 0x620)
    seen: set[tuple[int, bool]] = set()

    def note(_uc, kind: int, address: int, size: int, _value: int, _data: object) -> None:
        write = kind == unicorn.UC_MEM_WRITE
        seen.update((address + i, write) for i in range(size))

    uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, note)
    uc.reg_write(x86_const.UC_X86_REG_RIP, ENTRY)
    while True:
        rip = uc.reg_read(x86_const.UC_X86_REG_RIP)
        insn = decode(bytes(uc.mem_read(rip, 15)))
        if insn.mnemonic == "out":
            break
        foretold = accesses(insn, registers(uc))
        expected = {(a + i, write) for a, n, write in foretold for i in range(n)}
        seen.clear()
        for _ in range(64):  # a REP instruction takes several
            uc.emu_start(rip, 0, count=1)
            if uc.reg_read(x86_const.UC_X86_REG_RIP) != rip:
                break
        shown = f"seed {seed}: {text(insn, rip)}"
        strays = {(a, w) for a, w in seen - expected if w or (a, True) not in expected}
        assert not strays, shown
        if not insn.repeat:
            missed = expected - seen - {(a, False) for a, _, _ in foretold}
            assert not missed, shown
