"""Delivery of a 68000's exception to the guest's handler (M68000UM/AD, 6).

The vector table at 0 holds the handlers' addresses, four bytes each. SR and PC are pushed on the
supervisor's stack; bus and address errors also push the access that failed:

    short frame            long frame
    +0  SR                 +0  status: read/write, instruction or not, function code
    +2  PC                 +2  the address accessed
                           +6  the instruction's first word
                           +8  SR
                           +10 PC
"""

from __future__ import annotations

from .bus import Bus
from .exceptions import LONG_FRAME, M68kException
from .registers import SUPERVISOR, TRACE, M68kCpu


def deliver(cpu: M68kCpu, bus: Bus, exception: M68kException, opcode: int) -> str:
    """Enter the handler. cpu.pc: the address to push. opcode: the first word of the instruction.
    Returns "", or the reason why the machine shuts down instead."""
    vector, sr, pc = exception.vector, cpu.sr, cpu.pc
    handler = bus.read(4 * vector, 4)
    if not handler:
        return (
            f"{exception.words()} at {pc:#x}, and no handler for it: vector {vector}, at"
            f" {4 * vector:#x}, is 0"
        )
    cpu.set_sr((sr | SUPERVISOR) & ~TRACE)
    try:
        _push(cpu, bus, 4, pc)
        _push(cpu, bus, 2, sr)
        if vector in LONG_FRAME:
            _push(cpu, bus, 2, opcode)
            _push(cpu, bus, 4, exception.address)
            _push(cpu, bus, 2, _status(exception, sr))
            bus.read(handler, 2, fetch=True)
    except M68kException as second:
        if vector in LONG_FRAME:
            return (
                f"{second.words()} while entering the handler of a {exception.words()}: a double bus"
                " fault, at which a 68000 halts"
            )
        return deliver(cpu, bus, second, opcode)
    cpu.pc = handler
    return ""


def _push(cpu: M68kCpu, bus: Bus, length: int, value: int) -> None:
    address = (cpu.a[7] - length) & 0xFFFF_FFFF
    bus.write(address, length, value)
    cpu.a[7] = address


def _status(exception: M68kException, sr: int) -> int:
    """The first word of a long frame (M68000UM/AD, figure 6-7): R/W in bit 4, 1 for a read; I/N in
    bit 3, 0 as an instruction was being executed; the function code."""
    space = 2 if exception.fetch else 1
    mode = 4 if sr & SUPERVISOR else 0
    return (0 if exception.write else 0x10) | mode | space
