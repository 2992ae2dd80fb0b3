"""Ring-3 survey: executes each sensitive instruction at ring 3 on this CPU and records the outcome.

Each sample of the table (cores/x86/isa/sensitive.py) is executed on the real CPU, in a process held by
ptrace, as the trap core would execute a guest's kernel without patching it. No VMM takes part: the
result is the CPU's own.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

from cores.engines import registry
from cores.engines.base import (
    KERNEL_SPACE,
    DeprivilegedEngine,
    Exit,
    Failed,
    Fault,
    Stepped,
    SystemCall,
)
from cores.pc.boot.long_mode import boot
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.pc.platform import BOOT_INFORMATION
from cores.pc.ram import PAGE, Ram
from cores.programs.program import Program, Segment
from cores.x86.isa.sensitive import FAR, NEXT, STACK, TABLE, Entry
from cores.x86.mode import is_long
from cores.x86.registers import CS, GPR_NAMES, MASK32, RSP, VECTOR_NAMES
from cores.x86.virtual_cpu import VirtualCpu

_CODE, _STACK_TOP = 0x100000, 0x180000
_NOP = b"\x90"
_RAM = 2 << 20
_USER_CODE = {64: 0x33, 32: 0x23}
"""The host's selectors of user code, by the width of the code."""
_FLAT_CODE, _FLAT_DATA = 0xC09B, 0xC093
"""``Segment.attributes`` of 32-bit code and data."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one sample: "traps" (with ``vector``), "runs" (``answer``: its result, None where
    it has none to see), "kernel answers" (it faulted, and Linux emulated it with a made-up result, as
    it does where the CPU has UMIP) or "system call" (it called the host's kernel, and was stopped)."""

    entry: Entry
    sample: bytes
    outcome: str
    vector: str = ""
    answer: int | None = None

    @property
    def lies(self) -> bool:
        """Did it execute without trapping? Plain trap-and-emulate misses such an instruction."""
        return self.outcome in ("runs", "kernel answers")


def probe(bits: int = 64) -> list[Finding]:
    """Try every sample of the table in 64- or 32-bit code. Raises UnavailableError where no guest can
    run at ring 3."""
    return [_try(entry, bits) for entry in TABLE if _sample(entry, bits)]


def _sample(entry: Entry, bits: int) -> bytes:
    return entry.sample if bits == 64 else entry.legacy_sample


def _try(entry: Entry, bits: int) -> Finding:
    """Execute a sample in a machine of its own, so that samples do not influence one another."""
    engine = registry.create("trap:native")
    assert isinstance(engine, DeprivilegedEngine)
    ram = Ram(_RAM)
    with contextlib.closing(ram), contextlib.closing(engine):
        memory, cpu = PhysicalMemory(ram), VirtualCpu()
        code = _sample(entry, bits).ljust(PAGE, _NOP)
        segment = Segment(_CODE, code, len(code))
        boot(Program("probe", "flat", _CODE, (segment,), ""), memory, cpu)
        engine.pure = True  # textbook trap-and-emulate asks the host to trap what it can: RDTSC
        if bits == 32:
            _enter_32_bit_code(cpu)
        engine.load(memory)
        engine.pure = False
        for gva, end in ((BOOT_INFORMATION, HOLE.start), (_CODE, _RAM)):
            engine.map(KERNEL_SPACE, gva, gva, end - gva, writable=True, executable=True)
        _prepare(entry, memory, cpu, bits)
        exit = engine.step(cpu)
        return _finding(entry, exit, memory, cpu, _sample(entry, bits))


def _enter_32_bit_code(cpu: VirtualCpu) -> None:
    """Compatibility mode, in flat segments: the host's own 0x23 and 0x2b."""
    for number, segment in enumerate(cpu.segments):
        segment.base, segment.limit = 0, MASK32
        segment.attributes = _FLAT_CODE if number == CS else _FLAT_DATA


def _prepare(entry: Entry, memory: PhysicalMemory, cpu: VirtualCpu, bits: int) -> None:
    after = _CODE + len(_sample(entry, bits))
    selector = _USER_CODE[bits]
    stand_ins = {NEXT: after, STACK: _STACK_TOP, FAR: after | selector << 32, _USER_CODE[64]: selector}
    words = [stand_ins.get(word, word) for word in entry.stack]
    sizes = ["<Q" if bits == 64 or word >> 32 else "<I" for word in words]
    memory.write(_STACK_TOP, b"".join(map(struct.pack, sizes, words)))
    cpu.gpr[RSP] = _STACK_TOP
    cpu.rflags |= entry.flags
    for name, value in entry.registers.items():
        cpu.gpr[GPR_NAMES.index(name)] = stand_ins.get(value, value)


def _finding(
    entry: Entry, exit: Exit, memory: PhysicalMemory, cpu: VirtualCpu, sample: bytes
) -> Finding:
    match exit:
        case Stepped():
            # Linux emulates the instruction without a trace trap: one NOP more has been executed.
            emulated = cpu.rip == _CODE + len(sample) + 1
            outcome = "kernel answers" if emulated else "runs"
            return Finding(entry, sample, outcome, answer=_answer(entry, memory, cpu))
        case Fault(vector=vector):
            return Finding(entry, sample, "traps", vector=VECTOR_NAMES[vector])
        case SystemCall():
            return Finding(entry, sample, "system call")
        case Failed(reason=reason):
            return Finding(entry, sample, f"cannot be tried: {reason}")
        case _:
            return Finding(entry, sample, f"came back with {type(exit).__name__}")


def _answer(entry: Entry, memory: PhysicalMemory, cpu: VirtualCpu) -> int | None:
    """The value that the guest has received from the instruction."""
    match entry.gives:
        case "":
            return None
        case "memory":
            return memory.read_u64(_STACK_TOP - 16)
        case "stack":
            size = 8 if is_long(cpu) else 4
            return int.from_bytes(memory.read(cpu.gpr[RSP], size), "little")
        case "flags":
            return int(cpu.rflags)
        case register:
            return cpu.gpr[GPR_NAMES.index(register)]
