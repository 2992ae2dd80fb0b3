"""An exhaustive sweep over opcodes: each form stepped once, from one state, on several cores at once.

All forms lie side by side in RAM, 16 bytes each, and each is stepped in ring 0 by machines that are
booted once: before a form only what the one before it has changed is put back. No handlers are needed:
the IDT has a gate for each vector into one page of NOPs, so that RIP tells the vector and the stack the
error code. Compared are registers, flags, RIP, memory, and x87 and SSE state. A form on two cores takes
some 4 ms.

    _FORMS_AT   the forms               _DATA   what registers and displacements point to
    _IDT        256 gates               _STACK  ends in _DATA's last page
    _NOPS       256 NOPs, for vectors      _GDT    of 16- and 32-bit code

In 16- and 32-bit code the forms are stepped in protected mode, without paging; 16-bit code has segments
with a base.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.machine.report import Stop
from cores.pc.platform import KERNEL_CODE, LOAD_ADDRESS
from cores.programs.program import Program, Segment
from cores.x86.faults import GuestFault
from cores.x86.fxsave import differences
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.registers import CS, STATE_NAMES, VECTOR_NAMES, Cr0
from cores.x86.virtual_cpu import VirtualCpu

_FORMS_AT = LOAD_ADDRESS
_SLOT = 16
_AT_ONCE = 1 << 15
"""Forms that lie in RAM together."""
_IDT, _NOPS, _GDT = 0x70000, 0x71000, 0x72000
_DATA = range(0x50000, 0x70000)
_STACK = 0x6F000
_POINTED = 0x50400
"""Where ModRM's memory forms point to."""

_FLAT_CODE, _FLAT_DATA, _CODE_16, _DATA_16 = 8, 0x10, 0x18, 0x20
_DESCRIPTORS = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00109B000000FFFF, 0x000593000000FFFF)
_SLOTS_16 = 1 << 12
"""Forms that lie in a segment of 64 KiB."""
LEGACY_PREFIXES = ("", "66", "67", "f2", "f3", "66 67")
_LEGACY_SKIPPED = frozenset(bytes.fromhex("26 2e 36 3e 64 65 66 67 f0 f2 f3 0f"))

PREFIXES = ("", "66", "f2", "f3", "48", "66 48")
_SKIPPED = {*bytes.fromhex("26 2e 36 3e 64 65 66 67 f0 f2 f3 0f 62 c4 c5"), *range(0x40, 0x50)}
"""Prefixes, escapes and VEX are no opcodes."""
MODRM = [reg << 3 | 6 for reg in range(8)] + [0xC0 | reg << 3 | (reg + 3) % 8 for reg in range(8)]
"""Each ModRM.reg with [rsi] and with a register."""
SHAPES = {
    "rip": lambda reg: bytes([reg << 3 | 5]),
    "sib": lambda reg: bytes([0x44 | reg << 3, 0x4E, 0x10]),  # [rsi + rcx*2 + 16]
    "sib, no base": lambda reg: bytes([0x04 | reg << 3, 0x25]) + struct.pack("<I", _POINTED),
    "disp8": lambda reg: bytes([0x46 | reg << 3, 0xF0]),  # [rsi - 16]
    "stack": lambda reg: bytes([0x84 | reg << 3, 0x24]) + struct.pack("<i", -64),
}
"""More ModRM shapes, by ModRM.reg; all with 67 too."""
_TAIL = struct.pack("<Q", _POINTED | 3)
"""What follows ModRM: immediates, and the 64-bit address of MOV."""


@dataclass(frozen=True)
class Form:
    """One encoding. code: prefixes, opcode, ModRM; the tail follows it. relative: the displacement of a
    RIP-relative operand is added behind it, whatever the form's place."""

    code: bytes
    relative: bool = False

    def at(self, rip: int) -> bytes:
        """All 16 bytes of a form's slot."""
        if not self.relative:
            return (self.code + _TAIL).ljust(_SLOT, b"\x90")[:_SLOT]
        guess = self.code + bytes(4) + _TAIL
        try:
            length = decode(guess[:15]).length
        except (GuestFault, Truncated):
            length = len(self.code) + 4
        displacement = struct.pack("<i", _POINTED - rip - length)
        return (self.code + displacement + _TAIL).ljust(_SLOT, b"\x90")[:_SLOT]


@dataclass(frozen=True)
class Difference:
    """A form on which cores differ. what: names of registers and the like. told: the same in words."""

    form: Form
    asm: str
    what: tuple[str, ...]
    told: str

    def __str__(self) -> str:
        return f"{self.form.code.hex(' ')} ({self.asm}): {self.told}"


def _opcodes() -> Iterator[bytes]:
    for opcode in range(256):
        if opcode not in _SKIPPED:
            yield bytes([opcode])
    for opcode in range(256):
        if opcode not in (0x38, 0x3A):
            yield bytes([0x0F, opcode])


def _spelled(prefix: str, opcode: bytes, rest: bytes) -> bytes:
    return bytes.fromhex(prefix) + opcode + rest


def plain_forms() -> list[Form]:
    """All one-byte and 0F opcodes with each of the prefixes and 16 ModRM bytes, 0F 38 and 0F 3A with
    two: 52,128."""
    forms = [_spelled(*parts) for parts in product(PREFIXES, _opcodes(), (bytes([m]) for m in MODRM))]
    longer = [bytes([0x0F, escape, opcode]) for escape in (0x38, 0x3A) for opcode in range(256)]
    forms += [_spelled(*parts) for parts in product(PREFIXES, longer, (b"\x06", b"\xcb"))]
    return [Form(code) for code in forms]


def legacy_forms(bits: int) -> list[Form]:
    """All one-byte and 0F opcodes of 16- or 32-bit code with prefixes and 16 ModRM bytes, 0F 38 and
    0F 3A with two."""
    pointer = 4 if bits == 16 else 6  # [si], [esi]
    modrm = [m & ~7 | pointer if m < 0xC0 else m for m in MODRM]
    short = [bytes([op]) for op in range(256) if op not in _LEGACY_SKIPPED]
    short += [bytes([0x0F, op]) for op in range(256) if op not in (0x38, 0x3A)]
    forms = [_spelled(*parts) for parts in product(LEGACY_PREFIXES, short, (bytes([m]) for m in modrm))]
    longer = [bytes([0x0F, escape, op]) for escape in (0x38, 0x3A) for op in range(256)]
    tails = bytes([pointer]), b"\xcb"
    forms += [_spelled(*parts) for parts in product(LEGACY_PREFIXES, longer, tails)]
    return [Form(code) for code in forms]


def shaped_forms() -> list[Form]:
    """Opcodes with RIP-relative operands, SIB bytes, displacements, 32-bit addresses."""
    forms = []
    for opcode, (name, shape), prefix in product(_with_modrm(), SHAPES.items(), ("", "66", "f3", "48")):
        for width, reg in product(("", "67 "), range(8) if opcode in _GROUPS else (1,)):
            forms.append(Form(_spelled(width + prefix, opcode, shape(reg)), name == "rip"))
    return forms


_GROUPS = {
    *(bytes([byte]) for byte in bytes.fromhex("808183 8fc0c1c6c7 d0d1d2d3 d8d9dadbdcdddedf f6f7feff")),
    *(bytes([0x0F, byte]) for byte in bytes.fromhex("00 01 18 ae ba c7")),
}
"""Opcodes of which ModRM.reg is a part."""


def _with_modrm() -> Iterator[bytes]:
    for opcode in _opcodes():
        try:
            decode((opcode + b"\x00" + bytes(12))[:15])
            taken = decode((opcode + b"\x04\x25" + bytes(12))[:15]).length
        except (GuestFault, Truncated):
            continue
        if taken > len(opcode) + 5:
            yield opcode


def prefixed_forms() -> list[Form]:
    """Prefixes that overrule each other, and REX in front of other prefixes."""
    many = (
        "f2 f3", "f3 f2", "66 f2", "66 f3", "f2 66", "f3 66", "48 66", "48 f3", "66 66",
        "64", "2e", "f0",
    )  # fmt: skip
    modrm = (0x06, 0x1E, 0xC1, 0xDA)
    return [
        Form(_spelled(prefix, opcode, bytes([m])))
        for prefix, opcode, m in product(many, _opcodes(), modrm)
    ]


def x87_forms() -> list[Form]:
    """D8 to DF with every ModRM, and the groups 0F 01, 0F AE, 0F C7 with every register form."""
    escapes = [bytes([opcode]) for opcode in range(0xD8, 0xE0)]
    modrm = [m for m in range(256) if m & 0xC7 not in (4, 5)]  # no SIB, no displacement from RIP
    forms = [Form(escape + bytes([m])) for escape, m in product(escapes, modrm)]
    groups = [bytes.fromhex(code) for code in ("0f01", "0fae", "0fc7", "0f0d", "0f18", "0f1e")]
    forms += [
        Form(_spelled(prefix, group, bytes([m])))
        for prefix, group, m in product(("", "66", "f2", "f3"), groups, range(0xC0, 0x100))
    ]
    return forms


def sample(forms: list[Form], count: int) -> list[Form]:
    """A sample of forms, the same each time."""
    return random.Random(20_000_101).sample(forms, min(count, len(forms)))


def _initial_fpu() -> bytes:
    """Four x87 registers in use, XMM registers with small numbers in every format."""
    head = struct.pack("<HHBxHQQII", 0x37F, 0x2000, 0xF0, 0, 0, 0, 0x1F80, 0xFFFF)
    ones = [bytes.fromhex(value) for value in (
        "00000000000000800040", "000000000000a0c00040", "00000000000000c0fe3f", "0000000000000080ff3f",
    )]  # fmt: skip
    registers = b"".join(value.ljust(16, b"\0") for value in ones).ljust(128, b"\0")
    vectors = b"".join(struct.pack("<4f", n + 1, 2.5 * n, -n - 0.5, 1.0 / (n + 1)) for n in range(16))
    return (head + registers + vectors).ljust(512, b"\0")


def _data() -> bytes:
    """64 KiB: numbers that differ in every unit, floats among them; selectors are mostly null."""
    words = random.Random(1)
    block = b"".join(struct.pack("<f", words.uniform(-100, 100)) for _ in range(64))
    block += bytes(64) + struct.pack("<8Q", *(words.getrandbits(47) for _ in range(8)))
    return (block * 512)[: len(_DATA)].ljust(len(_DATA), b"\0")


class Sweep:
    """Machines of several cores that step form after form. The first is the reference. bits: the width
    of the code.

    skipped: why a core could not go on, with the last form for which it was so."""

    def __init__(self, cores: tuple[str, ...], bits: int = 64) -> None:
        self.bits = bits
        segment = Segment(_FORMS_AT, b"\x90", _SLOT * _AT_ONCE)
        program = Program("opcodes", "flat", _FORMS_AT, (segment,), "")
        self.machines = [start(program, core, Options(ram=4 << 20)) for core in cores]
        self.skipped: dict[str, str] = {}
        self._data = _data()
        self._fpu = _initial_fpu()
        for machine in self.machines:
            view = machine.memory.view
            gates = b"".join(map(self._gate, range(256)))
            view[_IDT : _IDT + len(gates)] = gates
            view[_GDT : _GDT + 40] = struct.pack("<5Q", *_DESCRIPTORS)
            view[_NOPS : _NOPS + 512] = b"\x90" * 512
            view[_DATA.start : _DATA.stop] = self._data
        self._states = [self._prepared(machine) for machine in self.machines]

    def _gate(self, vector: int) -> bytes:
        handler, selector = _NOPS + vector, KERNEL_CODE if self.bits == 64 else _FLAT_CODE
        gate = struct.pack("<HHBBH", handler & 0xFFFF, selector, 0, 0x8E, handler >> 16)
        return gate + bytes(8) if self.bits == 64 else gate

    def _prepared(self, machine: Machine) -> VirtualCpu:
        """Make the state in which every form begins."""
        cpu = machine.cpu
        cpu.idtr.base, cpu.idtr.limit = _IDT, 0xFFF
        cpu.gpr[:] = [
            0x0000_0000_1234_5678, 3, 2, 0x50300, _STACK, 0x51230, _POINTED, 0x50500,
            *(0x0101_0101_0101_0101 * n for n in range(8, 16)),
        ]  # fmt: skip
        if self.bits != 64:
            self._leave_long_mode(cpu)
            machine.vmm.flush(None)
        return cpu.copy()

    def _leave_long_mode(self, cpu: VirtualCpu) -> None:
        cpu.cr0 &= ~Cr0.PG
        cpu.efer = 0
        cpu.gdtr.base, cpu.gdtr.limit = _GDT, 39
        cpu.gpr[8:] = [0] * 8
        code, data = (_FLAT_CODE, _FLAT_DATA) if self.bits == 32 else (_CODE_16, _DATA_16)
        for number, segment in enumerate(cpu.segments):
            segment.selector = code if number == CS else data
            segment.base, segment.limit = 0, 0xFFFFFFFF
            segment.attributes = 0xC09B if number == CS else 0xC093
            if self.bits == 16:
                segment.base = _FORMS_AT if number == CS else _DATA.start
                segment.limit, segment.attributes = 0xFFFF, segment.attributes & 0xFF
        if self.bits == 16:
            cpu.gpr[1:8] = [3, 2, 0x300, 0xF000, 0x1230, 0x400, 0x500]

    def run(self, forms: Iterable[Form]) -> Iterator[Difference]:
        """Step all forms; yield the differences, form by form."""
        forms = list(forms)
        room = _SLOTS_16 if self.bits == 16 else _AT_ONCE
        for begin in range(0, len(forms), room):
            batch = forms[begin : begin + room]
            code = b"".join(form.at(_FORMS_AT + _SLOT * i) for i, form in enumerate(batch))
            for machine in self.machines:
                machine.memory.view[_FORMS_AT : _FORMS_AT + len(code)] = code
                machine.engine.memory_changed()
                machine.vmm.mmu.flush(None)
            for i, form in enumerate(batch):
                found = self._step(form, _SLOT * i + (0 if self.bits == 16 else _FORMS_AT))
                if found is not None:
                    yield found

    def _step(self, form: Form, rip: int) -> Difference | None:
        ran: list[Machine] = []
        for machine, state in zip(self.machines, self._states, strict=True):
            self._put_back(machine, state, rip)
            machine.step()
            if machine.stop is Stop.ERROR:  # a host's limit, or the platform's
                self.skipped[machine.vmm.reason] = form.code.hex(" ")
            else:
                ran.append(machine)
        found = self._compare(form, rip, ran)
        for machine in self.machines:
            view = machine.memory.view
            if view[_DATA.start : _DATA.stop] != self._data:
                view[_DATA.start : _DATA.stop] = self._data
        return found

    def _put_back(self, machine: Machine, state: VirtualCpu, rip: int) -> None:
        cpu, vmm = machine.cpu, machine.vmm
        control = cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer
        cpu.assign(state)
        if control != (cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer):
            vmm.flush(None)
        cpu.rip = rip
        machine.engine.write_fpu(self._fpu)
        vmm.stop = machine.board.stop = None
        vmm.emulator.halted = False
        vmm.ticks = vmm.instructions = vmm.deliveries = 0

    def _compare(self, form: Form, rip: int, ran: list[Machine]) -> Difference | None:
        if len(ran) < 2:
            return None
        told: dict[str, str] = {}
        states = [m.cpu.state() for m in ran]
        for name, *values in zip(STATE_NAMES, *states, strict=True):
            if len(set(values)) > 1:
                told[name] = _beside(ran, [_rip(v) if name == "rip" else f"{v:#x}" for v in values])
        stops = [m.stop for m in ran]
        if len(set(stops)) > 1:
            told["stop"] = _beside(ran, [str(s) for s in stops])
        views = [m.memory.view[_DATA.start : _DATA.stop] for m in ran]
        if any(view != views[0] for view in views[1:]):
            at = next(i for i in range(len(_DATA)) if len({v[i] for v in views}) > 1)
            told[f"mem:{_DATA.start + at:#x}"] = _beside(ran, [v[at : at + 8].hex() for v in views])
        images = [m.fpu() for m in ran]
        if any(image != images[0] for image in images[1:]):
            by_core = {m.core: image for m, image in zip(ran, images, strict=True)}
            for name, column in differences(by_core).items():
                told[name] = ", ".join(f"{core} {value:#x}" for core, value in column.items())
        if not told:
            return None
        words = "; ".join(f"{name}: {values}" for name, values in told.items())
        return Difference(form, _asm(form, rip, self.bits), tuple(told), words)

    def close(self) -> None:
        for machine in self.machines:
            machine.close()


def _beside(machines: list[Machine], values: list[str]) -> str:
    return ", ".join(f"{m.core} {value}" for m, value in zip(machines, values, strict=True))


def _rip(value: int) -> str:
    vector = value - _NOPS - 1  # a step goes on until an instruction is complete: a NOP
    return VECTOR_NAMES.get(vector, f"vector {vector}") if 0 <= vector < 256 else f"{value:#x}"


def _asm(form: Form, rip: int, bits: int) -> str:
    try:
        return text(decode(form.at(rip)[:15], bits), rip)
    except (GuestFault, Truncated):
        return "no instruction"
