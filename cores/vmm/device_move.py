"""MOV, MOVZX and MOVSX between a general register and a device in memory, by the VMM itself.

Most drivers access their devices by these; compilers copy bytes by MOVZX, so that a kernel's screen
scrolls by it. They change no flag, so that the access is all that there is to do, and the CPU need not
execute it on a scratch page (cores/vmm/faults/mmio_window.py).
"""

from __future__ import annotations

from typing import NamedTuple

from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.registers import REGISTER_FILE, RSP

_LOADS = {"mov": False, "movzx": False, "movsx": True, "movsxd": True}
"""Instructions that load a register from memory, and whether they copy the sign (SDM vol. 2)."""


class DeviceMove(NamedTuple):
    """A MOV from memory (``loads``) or to memory.

    register: the number of the general register, None where an immediate is stored. first: the bit at
    which the register's part begins. kept: the bits of the register that a load leaves unchanged.
    immediate: what is stored where there is no register. signed: a load extends the operand's sign to
    ``size`` bytes, the register's."""

    loads: bool
    register: int | None
    first: int = 0
    kept: int = 0
    immediate: int = 0
    signed: bool = False
    size: int = 8

    def loaded(self, old: int, data: bytes) -> int:
        """The register's new value. old: that before the load."""
        value = int.from_bytes(data, "little", signed=self.signed)
        return old & self.kept | (value & (1 << 8 * self.size) - 1) << self.first

    def stored(self, register: int, length: int) -> bytes:
        """The ``length`` bytes that are stored. register: the value of the register."""
        value = self.immediate if self.register is None else register >> self.first
        return (value & (1 << 8 * length) - 1).to_bytes(length, "little")


def device_move(insn: Instruction) -> DeviceMove | None:
    """How to make the access that ``insn`` makes; None where it is none of these."""
    if insn.mnemonic not in _LOADS or len(insn.operands) != 2 or insn.implicit:
        return None
    destination, source = insn.operands
    if isinstance(destination, Register) and isinstance(source, MemoryOperand):
        number, size, first = REGISTER_FILE.get(destination.name, (RSP, 0, 0))
        if number == RSP:  # its upper half is the host's in 16- and 32-bit code
            return None
        kept = 0 if size >= 4 else ~((1 << 8 * size) - 1 << first)
        return DeviceMove(True, number, first, kept, signed=_LOADS[insn.mnemonic], size=size)
    if not isinstance(destination, MemoryOperand):
        return None
    if isinstance(source, Immediate):
        return DeviceMove(False, None, immediate=source.value)
    if not isinstance(source, Register) or source.name not in REGISTER_FILE:
        return None
    number, _, first = REGISTER_FILE[source.name]
    return DeviceMove(False, number, first)
