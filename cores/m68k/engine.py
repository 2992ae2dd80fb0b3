"""The 68000 engine: executes one instruction in Unicorn as a transaction.

Unicorn, made for running fragments of programs, omits some of the 68000's rules. The engine therefore
monitors the loads and stores of each instruction, and

- a word at an odd address is an address error, an address without RAM or device a bus error: the
  instruction's stores are then undone, and its registers are not copied back;
- devices receive a write only when the instruction is complete;
- an address has 24 bits; Unicorn's has 32, and accesses above 24 bits are redirected to RAM;
- translation ends with the instruction: some words behind it, which may be data, make Unicorn's
  translator abort the whole process (F200, F2E4: a coprocessor's). Since it also translates ahead
  to the target of a jump, Unicorn executes no jumps at all (branches.py);
- Unicorn keeps the condition codes as operands and an operation, "as they would come out of
  subtracting these two": its interface returns them wrongly (unicorn issue 2380), so they are
  computed here (``_condition_codes``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cores.engines.unicorn import capi
from cores.engines.unicorn.capi import ARCH_M68K, CPU_M68000, MODE_BIG_ENDIAN, Unicorn

from ..engines.base import Failed, Traits
from ..errors import UnavailableError
from .bus import DEVICES, Bus
from .exceptions import LAST_TRAP, M68kException, Vector
from .registers import MASK24, MASK32, SR_BITS, SUPERVISOR, C, M68kCpu, N, V, X, Z

ADDRESS_SPACE = 1 << 32
LINE = 64

_FILE = struct.Struct("<28I")
"""Unicorn's register file: D0-D7, A0-A7, PC, SR, which stack pointer A7 is, the three stack pointers,
then the condition codes: the operation, and X N V C Z as it left them."""
_PC, _SR, _STACKS, _CC = 16, 17, 19, 22
_USER_STACK, _SUPERVISOR_STACK = 1, 2
_CC_AS_FLAGS = 1
_NUMBERS = (*range(9, 17), *range(1, 9))
"""Unicorn's numbers of D0-D7 and A0-A7."""


@dataclass(frozen=True, slots=True)
class Completed:
    """One instruction was executed. stored: the ranges of RAM that it wrote, (address, bytes)."""

    stored: tuple[tuple[int, int], ...]


class M68kEngine:
    """A 68000 in Unicorn. Raises UnavailableError when Unicorn is missing or unknown."""

    def __init__(self, bus: Bus, ram_address: int) -> None:
        """ram_address: the address of the bus's RAM in this process."""
        if reason := capi.probe():
            raise UnavailableError(reason)
        self.traits = Traits(
            core="interpreter",
            label="software executes every instruction",
            engine=f"Unicorn {capi.version()}",
            registers="host memory",
        )
        self._bus = bus
        self._unicorn = Unicorn(ARCH_M68K, MODE_BIG_ENDIAN, CPU_M68000)
        self._file = self._find_register_file()
        self._translated: set[int] = set()
        self._vector = -1
        self._fault: M68kException | None = None
        self._stored: list[tuple[int, bytes]] = []
        self._told: list[tuple[int, bytes]] = []
        unicorn = self._unicorn
        unicorn.map_ram(0, bus.size, ram_address)
        unicorn.map_device(bus.size, ADDRESS_SPACE - bus.size, self._read, self._write)
        unicorn.on_interrupt(self._on_interrupt)
        unicorn.on_access(self._on_access)

    def step(self, cpu: M68kCpu, length: int) -> Completed | Failed:
        """Execute the instruction at PC, which is ``length`` bytes long and not a jump.

        Raises M68kException where it raises an exception; ``cpu`` and RAM are then as before, except
        that CHK and DIVU have set the condition codes."""
        self._announce()
        code, values = self._once(cpu, length)
        if not code and values[_PC] == cpu.pc and self._vector < 0 and self._fault is None:
            # Unicorn returns without executing its very first instruction if that accesses a device.
            self._undo()
            code, values = self._once(cpu, length)
        if self._fault is not None:
            self._undo()
            raise self._fault
        if self._vector >= 0:
            if self._vector > LAST_TRAP:
                return Failed(f"Unicorn raised exception {self._vector} at {cpu.pc:#x}")
            cpu.sr = (cpu.sr & ~0x1F) | _condition_codes(*values[_CC:])
            raise M68kException(self._vector)
        if code or values[_PC] != cpu.pc + length:
            words = self._unicorn.words(code) if code else "it did not end at the instruction's end"
            return Failed(f"Unicorn: {words} (at guest address {cpu.pc:#x})")
        self._leave(cpu, values)
        for address, data in self._told:
            self._bus.device_write(address, data)
        return Completed(tuple((address, len(old)) for address, old in self._stored))

    def memory_changed(self) -> None:
        """RAM has been replaced: discard all translated code."""
        self._bus.unseen.clear()
        self._translated.clear()
        self._unicorn.flush_code()

    def where(self) -> str:
        """The place of the guest's registers, for the pane's headline."""
        return f"host memory at {self._unicorn.address:#x}"

    def close(self) -> None:
        self._unicorn.close()

    def _once(self, cpu: M68kCpu, length: int) -> tuple[int, tuple[int, ...]]:
        """Execute one instruction in Unicorn. Returns its error code and the registers afterwards."""
        self._stored.clear()
        self._told.clear()
        self._fault, self._vector = None, -1
        pc = cpu.pc
        self._translated.update(range(pc // LINE, (pc + length - 1) // LINE + 1))
        self._unicorn.end_at(pc + length)
        self._enter(cpu)
        code = self._unicorn.start(pc, 1)
        self._unicorn.save()
        return code, _FILE.unpack_from(self._unicorn.registers, self._file)

    # Registers

    def _find_register_file(self) -> int:
        """The offset of D0 in Unicorn's saved context, found by values that occur nowhere else."""
        unicorn = self._unicorn
        known = [0xD0C0FFE0 + i for i in range(16)]
        for number, value in zip(_NUMBERS, known, strict=True):
            unicorn.write_register(number, value.to_bytes(4, "little"))
        unicorn.save()
        at = bytes(unicorn.registers).find(struct.pack("<16I", *known))
        if at < 0:
            raise UnavailableError("this Unicorn keeps the registers of a 68000 in an unknown way")
        return at

    def _enter(self, cpu: M68kCpu) -> None:
        usp, ssp, sr = cpu.usp, cpu.ssp, cpu.sr
        which = _SUPERVISOR_STACK if cpu.supervisor else _USER_STACK
        flags = (
            sr >> 4 & 1,
            MASK32 if sr & N else 0,
            MASK32 if sr & V else 0,
            sr & C,
            0 if sr & Z else 1,
        )
        unicorn = self._unicorn
        unicorn.save()
        _FILE.pack_into(
            unicorn.registers, self._file,
            *cpu.d, *cpu.a, cpu.pc, sr & ~0x1F, which, ssp, usp, ssp, _CC_AS_FLAGS, *flags,
        )  # fmt: skip
        unicorn.restore()

    def _leave(self, cpu: M68kCpu, values: tuple[int, ...]) -> None:
        cpu.d, cpu.a = list(values[:8]), list(values[8:16])
        cpu.pc = values[_PC] & MASK24
        cpu.sr = (values[_SR] & SR_BITS & ~0x1F) | _condition_codes(*values[_CC:])
        other = _USER_STACK if cpu.sr & SUPERVISOR else _SUPERVISOR_STACK
        cpu.other_stack = values[_STACKS + other]

    # Memory accesses of the instruction

    def _on_access(self, write: bool, address: int, size: int) -> None:
        address &= MASK24
        if write and self._bus.is_ram(address, size):  # Unicorn stores in spite of a fault
            self._stored.append((address, bytes(self._bus.view[address : address + size])))
        if address & 1 and size > 1 and self._fault is None:
            self._fault = M68kException(Vector.ADDRESS_ERROR, address, write=write)

    def _read(self, address: int, size: int) -> int:
        """Called by Unicorn for a load from an address without RAM in its own mapping."""
        address &= MASK24
        if self._fault is not None:
            return 0
        if self._bus.is_ram(address, size):  # the address has bits above 24, which are ignored
            return int.from_bytes(self._bus.view[address : address + size], "big")
        if address in DEVICES and address + size <= DEVICES.stop:
            return self._bus.device_read(size)
        self._fault = M68kException(Vector.BUS_ERROR, address)
        return 0

    def _write(self, address: int, size: int, value: int) -> None:
        address &= MASK24
        if self._fault is not None:
            return
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")
        if self._bus.is_ram(address, size):
            self._bus.view[address : address + size] = data
            self._bus.unseen.append((address, size))
        elif address in DEVICES and address + size <= DEVICES.stop:
            self._told.append((address, data))
        else:
            self._fault = M68kException(Vector.BUS_ERROR, address, write=True)

    def _undo(self) -> None:
        """Restore the stored ranges of RAM. Unicorn's stores have discarded translations of them."""
        for address, old in reversed(self._stored):
            self._bus.view[address : address + len(old)] = old

    # Translated code

    def _announce(self) -> None:
        """Discard translations of code to which the monitor has stored."""
        unseen = self._bus.unseen
        if unseen:
            lines = {
                line
                for at, length in unseen
                for line in range(at // LINE, (at + length - 1) // LINE + 1)
            }
            unseen.clear()
            if not self._translated.isdisjoint(lines):
                self.memory_changed()

    def _on_interrupt(self, vector: int) -> None:
        self._vector = vector
        self._unicorn.stop()


_ADD, _SUBTRACT, _COMPARE, _LOGIC = range(2, 5), range(5, 8), range(8, 11), 11
"""Unicorn's numbers of the operation that set the condition codes, for bytes, words and longs."""


def _condition_codes(operation: int, x: int, n: int, v: int, c: int, z: int) -> int:
    """XNZVC from Unicorn's fields: the result in n and an operand in v, or both operands of a
    comparison, or the flags themselves (N and V in bit 31; Z where z is 0)."""
    if operation in _ADD:
        size = operation - _ADD.start
        other = _extend(n - v, size)
        n, z, c, v = n, n, x, (n ^ other) & ~(other ^ v)
    elif operation in _SUBTRACT:
        size = operation - _SUBTRACT.start
        other = _extend(n + v, size)
        n, z, c, v = n, n, x, (n ^ other) & (other ^ v)
    elif operation in _COMPARE:
        first, second = n, v
        n = z = _extend(first - second, operation - _COMPARE.start)
        c, v = first < second, (n ^ first) & (first ^ second)
    elif operation == _LOGIC:
        z, c, v = n, 0, 0
    sign = 1 << 31
    return (
        (X if x else 0) | (N if n & sign else 0) | (0 if z & MASK32 else Z)
        | (V if v & sign else 0) | (C if c else 0)
    )  # fmt: skip


def _extend(value: int, size: int) -> int:
    """Sign-extend a byte (0), a word (1) or a long word (2) to 32 bits."""
    bits = 8 << size
    value &= (1 << bits) - 1
    return (value - (value >> (bits - 1) << bits)) & MASK32
