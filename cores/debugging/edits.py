"""Edits of a running guest: a register, or bytes of its memory.

    rax = 48            a general register, rip, rflags, or one flag (if = 0)
    100200 = 48 65 6c   bytes at an address; also at start+4, or where a register points: [rsp]
    text = "Hello"      characters

Numbers are hexadecimal, as on the screen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cores.debugging.breakpoints import FLAGS, address, number
from cores.errors import InputError
from cores.machine.machine import Machine
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import PAGE, walk
from cores.x86.registers import ARITHMETIC_FLAGS, GPR_NAMES, MASK64, Flag, canonical

MXCSR, MXCSR_BITS = slice(24, 28), 0xFFFF
"""Its place in the FXSAVE image, and the bits that it has (SDM vol. 1, 10.2.3)."""
CHANGEABLE_FLAGS = ARITHMETIC_FLAGS | Flag.IF | Flag.DF | Flag.AC | Flag.ID


@dataclass(frozen=True, slots=True)
class RegisterPoke:
    """Sets a register. name: a general register, "rip", "rflags" or a flag."""

    name: str
    value: int

    def check(self, machine: Machine) -> None:
        """Raises InputError for a value that this machine cannot have."""
        if self.name == "rip" and not canonical(self.value):
            raise InputError(f"{self.value:x} is no canonical address")

    def apply(self, machine: Machine) -> None:
        cpu = machine.cpu
        if self.name in GPR_NAMES:
            cpu.gpr[GPR_NAMES.index(self.name)] = self.value
        elif self.name == "rip":
            cpu.rip = self.value
        elif self.name == "rflags":
            cpu.rflags = cpu.rflags & ~CHANGEABLE_FLAGS | self.value & CHANGEABLE_FLAGS
        else:
            bit = 1 << FLAGS[self.name]
            cpu.rflags = cpu.rflags | bit if self.value else cpu.rflags & ~bit


@dataclass(frozen=True, slots=True)
class MemoryPoke:
    """Writes ``data`` at ``address`` (guest virtual), plus the register ``base`` if one is named."""

    address: int
    data: bytes
    base: str = ""

    def check(self, machine: Machine) -> None:
        """Raises InputError when not all of it is mapped RAM."""
        self._frames(machine)

    def apply(self, machine: Machine) -> None:
        done, frames = 0, self._frames(machine)
        for gpa, length in frames:
            machine.memory.view[gpa : gpa + length] = self.data[done : done + length]
            done += length
        if machine.vmm.patched is not None:
            machine.vmm.patched.wrote(frames)
        machine.engine.memory_changed()
        machine.vmm.flush(None)  # it may have been a page table

    def _frames(self, machine: Machine) -> list[tuple[int, int]]:
        at = self.address + (machine.cpu.gpr[GPR_NAMES.index(self.base)] if self.base else 0)
        at &= MASK64
        left, frames = len(self.data), []
        while left:
            length = min(left, PAGE - at % PAGE)
            try:
                gpa = walk(machine.memory, machine.cpu, at, user=False, mark=False).gpa
            except GuestFault:
                raise InputError(f"nothing is mapped at {at:x} on {machine.core}") from None
            if not machine.memory.is_ram(gpa, length):
                raise InputError(f"there is no RAM at {at:x} on {machine.core}")
            frames.append((gpa, length))
            at, left = at + length & MASK64, left - length
        return frames


@dataclass(frozen=True, slots=True)
class FpuPoke:
    """Writes ``data`` at offset ``at`` of the x87 and SSE state, an FXSAVE64 image (SDM vol. 1,
    10.5.1)."""

    at: int
    data: bytes

    def check(self, machine: Machine) -> None:
        """Raises InputError for an MXCSR whose reserved bits are set: to load it is #GP."""
        if int.from_bytes(self._image(machine)[MXCSR], "little") & ~MXCSR_BITS:
            raise InputError("reserved bits of MXCSR cannot be set")

    def apply(self, machine: Machine) -> None:
        machine.engine.write_fpu(self._image(machine))

    def _image(self, machine: Machine) -> bytes:
        image = machine.engine.read_fpu()
        return image[: self.at] + self.data + image[self.at + len(self.data) :]


Poke = RegisterPoke | MemoryPoke | FpuPoke


def parse(text: str, symbols: Mapping[str, int]) -> Poke:
    """Parse an edit that the user has typed. Raises InputError."""
    left, equals, right = (part.strip() for part in text.partition("="))
    if not equals or not right:
        raise InputError("write it as: rax = 48, or: 100200 = 48 65 6c")
    name = left.lower()
    if name in GPR_NAMES or name in ("rip", "rflags") or name in FLAGS:
        value = number(right)
        if value is None or not 0 <= value <= MASK64:
            raise InputError(f"{right!r} is no number of 64 bits (they are hexadecimal)")
        if name in FLAGS and not 1 << FLAGS[name] & CHANGEABLE_FLAGS:
            raise InputError(f"{name} cannot be changed by hand")
        return RegisterPoke(name, value)
    if match := re.fullmatch(r"\[(\w+)\]", name):
        if match[1] not in GPR_NAMES:
            raise InputError(f"{match[1]!r} is no general register")
        return MemoryPoke(0, _bytes(right), match[1])
    at = address(left, symbols)
    if at is None:
        raise InputError(f"{left!r} is no register, address or symbol")
    return MemoryPoke(at, _bytes(right))


def _bytes(text: str) -> bytes:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].encode("latin-1", "replace")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise InputError(f'{text!r} are no bytes: two hexadecimal digits each, or "text"') from None
    return data
