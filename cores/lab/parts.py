"""The parts of a guest that a student's VMM reads and writes: registers, memory, ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from cores.lab.errors import LabError, NoSuchName
from cores.lab.stop import Operand
from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.plural import counted
from cores.x86.registers import CS, DS, ES, FS, GS, MASK64, REGISTER_FILE, SS, USER_FLAGS, Flag
from cores.x86.virtual_cpu import VirtualCpu

MOST = 1 << 20
"""Bytes that are read or written at once."""
_BASES = {"fs_base": FS, "gs_base": GS}


class Registers:
    """The registers that the CPU itself holds for the guest, by name, as attributes or by index:
    ``registers.rax``, ``registers["al"]``. Besides the general ones and their parts: rip, rflags,
    fs_base, gs_base. A value is taken modulo the register's size; as on the CPU, one written to a
    32-bit register clears the upper half.

    rflags are those of the CPU at ring 3: the status flags and DF are the guest's, IF is the host's and
    always 1, and only the status flags and DF can be written."""

    _cpu: VirtualCpu
    __slots__: ClassVar[tuple[str, ...]] = ("_cpu",)

    def __init__(self, cpu: VirtualCpu) -> None:
        object.__setattr__(self, "_cpu", cpu)

    def __getitem__(self, name: str) -> int:
        cpu = self._cpu
        if name in REGISTER_FILE:
            number, size, shift = REGISTER_FILE[name]
            return cpu.gpr[number] >> shift & (1 << 8 * size) - 1
        if name == "rip":
            return cpu.rip
        if name == "rflags":
            return cpu.rflags & USER_FLAGS | Flag.FIXED | Flag.IF
        if name in _BASES:
            return cpu.segments[_BASES[name]].base
        raise NoSuchName(_unknown(name))

    def __setitem__(self, name: str, value: int) -> None:
        cpu = self._cpu
        if not isinstance(value, int):
            raise LabError(f"{name} takes a number, not {value!r:.60}")
        if name in REGISTER_FILE:
            number, size, shift = REGISTER_FILE[name]
            if size >= 4:
                cpu.gpr[number] = value & (1 << 8 * size) - 1
            else:
                mask = (1 << 8 * size) - 1 << shift
                cpu.gpr[number] = cpu.gpr[number] & ~mask | value << shift & mask
        elif name == "rip":
            cpu.rip = value & MASK64
        elif name == "rflags":
            cpu.rflags = cpu.rflags & ~USER_FLAGS | value & USER_FLAGS
        elif name in _BASES:
            cpu.segments[_BASES[name]].base = value & MASK64
        else:
            raise NoSuchName(_unknown(name))

    def __getattr__(self, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: int) -> None:
        self[name] = value


def _unknown(name: str) -> str:
    return (
        f"there is no {name!r} among the guest's registers: those that the CPU holds are rax to r15 and"
        " their parts, rip, rflags, fs_base and gs_base; all privileged state is your VMM's own"
    )


class Initial(Mapping[str, int]):
    """What the privileged registers hold when the guest begins, by name, as attributes or by index:
    ``initial.cr3``, ``initial["cr3"]``. Read-only."""

    _values: dict[str, int]
    __slots__: ClassVar[tuple[str, ...]] = ("_values",)

    def __init__(self, values: dict[str, int]) -> None:
        object.__setattr__(self, "_values", values)

    def __getitem__(self, name: str) -> int:
        if name not in self._values:
            raise NoSuchName(f"guest.initial has no {name!r:.40}: it has {', '.join(self._values)}")
        return self._values[name]

    def __getattr__(self, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setattr__(self, name: str, value: object) -> None:
        raise LabError(f"guest.initial.{name} is read-only: copy it into a variable of yours")

    def __setitem__(self, name: str, value: object) -> None:
        raise LabError(f"guest.initial[{name!r:.40}] is read-only: copy it into a variable of yours")


class Memory:
    """The guest's physical memory, devices in it included."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self.changed: list[tuple[int, int]] = []

    def read(self, address: int, length: int) -> bytes:
        """So many bytes from a physical address on."""
        self._check(address, length)
        return self._memory.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes at a physical address."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise LabError(f"memory.write takes bytes, not {data!r:.60}; memory.store takes a number")
        self._check(address, len(data))
        self._memory.write(address, bytes(data))
        self.changed.append((address, len(data)))

    def load(self, address: int, size: int) -> int:
        """The little-endian number of ``size`` bytes at a physical address."""
        return int.from_bytes(self.read(address, size), "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Store a little-endian number of ``size`` bytes; the value is taken modulo its size."""
        check_numbers("memory.store", value=value)
        self._check(address, size)
        self.write(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def is_ram(self, address: int, length: int = 1) -> bool:
        """Whether all of these bytes are RAM; others are a device's, or nothing's."""
        self._check(address, length)
        return self._memory.is_ram(address, length)

    def _check(self, address: int, length: int) -> None:
        check_numbers("guest.memory", address=address, length=length)
        if not 0 <= address < 1 << 52 or not 0 <= length <= MOST:
            raise LabError(f"memory has no {counted(length, 'byte')} at {address:#x}")


class Ports:
    """The devices, by their ports."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.written: list[tuple[int, int, int]] = []

    def read(self, port: int, size: int) -> int:
        """IN of 1, 2 or 4 bytes."""
        _check_port("read", port, size)
        self._board.advance(self._board.clock())
        return self._board.read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT of 1, 2 or 4 bytes; the value is taken modulo its size."""
        _check_port("write", port, size, value)
        value &= (1 << 8 * size) - 1
        self.written.append((port, size, value))
        self._board.advance(self._board.clock())
        self._board.write(port, size, value)


def check_numbers(name: str, **given: object) -> None:
    """Raises LabError where what a call is given is no number. name: of what was called."""
    for what, number in given.items():
        if isinstance(number, Operand):
            meant = "operand.address" if what == "address" else f"guest.read({what})"
            raise LabError(f"{name} takes a number: {meant}")
        if not isinstance(number, int):
            raise LabError(f"{name} takes numbers; its {what} is {number!r:.60}")


def _check_port(name: str, port: int, size: int, value: int = 0) -> None:
    check_numbers(f"ports.{name}", port=port, size=size, value=value)
    if not 0 <= port < 1 << 16 or size not in (1, 2, 4):
        raise LabError(
            f"there is no port {port:#x} of {size} bytes: ports are 0 to 0xffff, of 1, 2 or 4"
        )


def check_operand(name: str, operand: object) -> None:
    """Raises LabError where what guest.read or guest.write is given is none."""
    if not isinstance(operand, Operand):
        raise LabError(
            f"guest.{name} takes an operand, such as stop.instruction.operands[0], not {operand!r:.60}"
        )


def initial(cpu: VirtualCpu) -> Initial:
    """Of a guest that has not begun."""
    segments = {"es": ES, "cs": CS, "ss": SS, "ds": DS, "fs": FS, "gs": GS}
    values = {
        "cr0": cpu.cr0, "cr2": cpu.cr2, "cr3": cpu.cr3, "cr4": cpu.cr4, "efer": cpu.efer,
        "rflags": cpu.rflags, "gdt_base": cpu.gdtr.base, "gdt_limit": cpu.gdtr.limit,
        "idt_base": cpu.idtr.base, "idt_limit": cpu.idtr.limit, "tr": cpu.tr.selector,
        "tss_base": cpu.tr.base,
        **{name: cpu.segments[number].selector for name, number in segments.items()},
    }  # fmt: skip
    return Initial(values)
