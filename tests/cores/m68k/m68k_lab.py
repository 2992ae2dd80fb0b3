"""A 68000 with a few words of program, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cores.m68k.machine import M68kMachine
from cores.programs.program import M68K_LOAD_ADDRESS, Program, Segment

RAM = 2 << 20
HANDLER = 0x2000
STOP = "4e72 2700"
"""stop #$2700: nothing will wake it, so the machine is halted."""


def program(words: str) -> Program:
    """A program of words in hexadecimal."""
    code = bytes.fromhex(words)
    segment = Segment(M68K_LOAD_ADDRESS, code, len(code))
    return Program("test.m68k", "m68k", M68K_LOAD_ADDRESS, (segment,), "")


@contextmanager
def machine(words: str, **registers: int) -> Iterator[M68kMachine]:
    """A machine after its reset. registers: d0=..., a1=..., sr=... ; handlers: vector5=address."""
    m = M68kMachine(program(words), ram=RAM)
    try:
        for name, value in registers.items():
            kind, number = name[0], name.lstrip("adsrvecto")
            if name == "sr":
                m.cpu.set_sr(value)
            elif kind == "v":
                m.bus.write(4 * int(number), 4, value)
            else:
                (m.cpu.d if kind == "d" else m.cpu.a)[int(number)] = value
        yield m
    finally:
        m.close()


def put(m: M68kMachine, address: int, words: str) -> None:
    """Words at an address, as a loader would put them."""
    code = bytes.fromhex(words)
    m.bus.view[address : address + len(code)] = code


def words_at(m: M68kMachine, address: int, count: int) -> list[int]:
    return [m.bus.read(address + 2 * i, 2) for i in range(count)]


def run(m: M68kMachine, budget: int = 10_000) -> M68kMachine:
    """Run to the end."""
    m.vmm.budget = budget
    while m.stop is None:
        m.step()
    return m
