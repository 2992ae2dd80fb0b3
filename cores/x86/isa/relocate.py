"""Relocation of an instruction: the same instruction at another address, its memory operand elsewhere.

A RIP-relative operand needs no register and reaches 2 GiB, and every ModRM operand can be encoded as
one (SDM vol. 2, 2.2.1.6). So whatever the operand's registers hold, the CPU can execute the instruction
on any page that the VMM chooses (cores/vmm/faults/out_of_line.py).
"""

from __future__ import annotations

from cores.x86.isa.encoding import MAP_3A, MAP_38, ONE_BYTE, TWO_BYTE, parse
from cores.x86.isa.instruction import Instruction, Register
from cores.x86.registers import register_number
from cores.x86.virtual_cpu import VirtualCpu

_ESCAPES = {ONE_BYTE: b"", TWO_BYTE: b"\x0f", MAP_38: b"\x0f\x38", MAP_3A: b"\x0f\x3a"}
_RELATIVE = 5
"""ModRM.mod 0 and rm 5: [RIP + disp32]."""
_BIT_TESTS = {0xA3: 4, 0xAB: 5, 0xB3: 6, 0xBB: 7}
"""Opcodes of BT, BTS, BTR, BTC with a register -> ModRM.reg of their form with an immediate (0F BA)."""


def relocated(insn: Instruction, cpu: VirtualCpu, at: int, operand: int) -> bytes:
    """The code of ``insn`` for the address ``at``, with its explicit memory operand at ``operand``, at
    most 2 GiB away. The registers must not change before it is executed."""
    code, e = insn.code, parse(insn.code, insn.bits)
    prefixes = bytes([0xF0] * e.lock + [e.rep] * bool(e.rep) + [0x66] * e.operand_prefix)
    rex = bytes([e.rex] * bool(e.rex))
    opcode = _ESCAPES[e.map] + bytes([e.opcode])
    if e.modrm < 0:  # MOV between the accumulator and an absolute address
        return prefixes + rex + opcode + operand.to_bytes(8, "little")
    modrm = e.modrm & 0x38 | _RELATIVE
    immediates = b"".join(code[begin : begin + size] for begin, size in e.immediates)
    if insn.implicit == "bits":
        source = insn.operands[1]
        assert isinstance(source, Register)
        bit = cpu.gpr[register_number(source.name)] % (8 * insn.operand_size)
        modrm = _BIT_TESTS[e.opcode] << 3 | _RELATIVE
        opcode, immediates = b"\x0f\xba", bytes([bit])
    begin = prefixes + rex + opcode + bytes([modrm])
    end = at + len(begin) + 4 + len(immediates)
    return begin + (operand - end).to_bytes(4, "little", signed=True) + immediates
