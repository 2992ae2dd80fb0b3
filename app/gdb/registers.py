"""The registers as GDB knows them: their numbers, their places here, and the XML that names them.

GDB takes one architecture for a connection. It is chosen when GDB asks, by the guest's mode at that
moment: i386:x86-64 in long mode, else i386, whose registers are the lower halves. Feature names and the
order of the registers in them: GDB manual, G.5.14 "i386 Features"; the others are in a feature of ours.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cores.debugging.edits import FpuPoke, Poke, RegisterPoke
from cores.errors import InputError
from cores.machine.machine import Machine
from cores.x86.mode import is_long
from cores.x86.registers import GPR_NAMES, STATE_NAMES

_ORDER = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
_LEGACY_ORDER = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
_FLAGS = (
    "CF", "", "PF", "", "AF", "", "ZF", "SF", "TF", "IF", "DF", "OF", "", "", "NT", "", "RF", "VM",
    "AC", "VIF", "VIP", "ID",
)  # fmt: skip

# Places in the FXSAVE64 image (SDM vol. 1, 10.5.1)
_ST, _XMM, _MXCSR = 32, 160, 24
_CONTROL = {"fctrl": (0, 2), "fstat": (2, 2), "fop": (6, 2), "fioff": (8, 4), "fiseg": (12, 2),
            "fooff": (16, 4), "foseg": (20, 2)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Register:
    """name, type: GDB's. size: in bytes, as GDB sends it. state: its name in ``STATE_NAMES``, "" for
    those in the FXSAVE image, of which ``at`` and ``length`` are the place and the bytes."""

    name: str
    size: int
    type: str
    state: str = ""
    at: int = 0
    length: int = 0


def _x87() -> list[Register]:
    stack = [Register(f"st{n}", 10, "i387_ext", at=_ST + 16 * n, length=10) for n in range(8)]
    return stack + [Register(name, 4, "int", "", *_CONTROL.get(name, (4, 1))) for name in _X87]


def _sse(count: int) -> list[Register]:
    found = [Register(f"xmm{n}", 16, "vec128", at=_XMM + 16 * n, length=16) for n in range(count)]
    return [*found, Register("mxcsr", 4, "i386_mxcsr", at=_MXCSR, length=4)]


def _long() -> dict[str, list[Register]]:
    general = (*_ORDER, *(f"r{n}" for n in range(8, 16)))
    core = [Register(n, 8, "data_ptr" if n in ("rbp", "rsp") else "int64", n) for n in general]
    core.append(Register("rip", 8, "code_ptr", "rip"))
    core.append(Register("eflags", 4, "i386_eflags", "rflags"))
    core += [Register(name, 4, "int32", name) for name in _SEGMENTS]
    bases = [Register(name, 8, "int64", name) for name in ("fs_base", "gs_base")]
    return {
        "org.gnu.gdb.i386.core": core + _x87(), "org.gnu.gdb.i386.sse": _sse(16),
        "org.gnu.gdb.i386.segments": bases, "org.ringscope.system": _system(8),
    }  # fmt: skip


def _legacy() -> dict[str, list[Register]]:
    core = [
        Register(name, 4, "data_ptr" if name in ("ebp", "esp") else "int32", f"r{name[1:]}")
        for name in _LEGACY_ORDER
    ]
    core.append(Register("eip", 4, "code_ptr", "rip"))
    core.append(Register("eflags", 4, "i386_eflags", "rflags"))
    core += [Register(name, 4, "int32", name) for name in _SEGMENTS]
    bases = [Register(name, 4, "int32", name) for name in ("fs_base", "gs_base")]
    return {
        "org.gnu.gdb.i386.core": core + _x87(), "org.gnu.gdb.i386.sse": _sse(8),
        "org.ringscope.system": bases + _system(4),
    }  # fmt: skip


def _system(size: int) -> list[Register]:
    names = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
    return [Register(name, size, f"int{8 * size}", name) for name in names]


class Layout:
    """The registers of one architecture, by GDB's numbers. xml: the target description."""

    def __init__(self, architecture: str, features: dict[str, list[Register]]) -> None:
        self.registers = tuple(register for group in features.values() for register in group)
        self.xml = _xml(architecture, features)

    def read(self, machine: Machine) -> list[bytes]:
        """The values of all registers, each as GDB wants it, in the guest's byte order."""
        state = dict(zip(STATE_NAMES, machine.cpu.state(), strict=True))
        image = machine.engine.read_fpu()
        return [_value(register, state, image) for register in self.registers]

    def poke(self, machine: Machine, number: int, data: bytes) -> Poke | None:
        """The edit that gives register ``number`` this value; None where it has it. Raises InputError
        where a debugger may not set it."""
        if not 0 <= number < len(self.registers):
            raise InputError(f"there is no register {number}")
        register = self.registers[number]
        now = self.read(machine)[number]
        if data == now:
            return None
        if len(data) != register.size:
            raise InputError(f"{register.name} has {register.size} bytes")
        if register.state in GPR_NAMES or register.state in ("rip", "rflags"):
            old = machine.cpu.state()[STATE_NAMES.index(register.state)]
            kept = old >> 8 * register.size << 8 * register.size  # a write of EAX here is no MOV
            return RegisterPoke(register.state, kept | int.from_bytes(data, "little"))
        if register.state or register.name == "ftag":
            raise InputError(f"{register.name} cannot be changed from outside: the guest sets it")
        return FpuPoke(register.at, data[: register.length])


def _value(register: Register, state: dict[str, int], image: bytes) -> bytes:
    if register.state:
        value = state[register.state] & (1 << 8 * register.size) - 1
        return value.to_bytes(register.size, "little")
    if register.name == "ftag":
        return _full_tag(image).to_bytes(4, "little")
    return image[register.at : register.at + register.length].ljust(register.size, b"\0")


def _full_tag(image: bytes) -> int:
    """The x87 tag word, of which FXSAVE keeps one bit a register (SDM vol. 1, 8.1.7 and 10.5.1.1)."""
    top, used, word = image[3] >> 3 & 7, image[4], 0
    for physical in range(8):
        if used >> physical & 1:
            at = _ST + 16 * ((physical - top) % 8)
            significand, exponent = struct.unpack_from("<QH", image, at)
            exponent &= 0x7FFF
            if exponent == 0 and significand == 0:
                tag = 1
            else:
                tag = 0 if 0 < exponent < 0x7FFF and significand >> 63 else 2
        else:
            tag = 3
        word |= tag << 2 * physical
    return word


def _xml(architecture: str, features: dict[str, list[Register]]) -> str:
    lines = [
        '<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', '<target version="1.0">',
        f"<architecture>{architecture}</architecture>",
    ]  # fmt: skip
    for name, registers in features.items():
        lines.append(f'<feature name="{name}">')
        if name.endswith(".core"):
            lines += _flags("i386_eflags", _FLAGS)
        if name.endswith(".sse"):
            lines += _VECTORS
        for register in registers:
            lines.append(
                f'<reg name="{register.name}" bitsize="{8 * register.size}" type="{register.type}"/>'
            )
        lines.append("</feature>")
    lines.append("</target>")
    return "\n".join(lines)


def _flags(name: str, bits: tuple[str, ...]) -> list[str]:
    fields = [
        f'<field name="{bit}" start="{at}" end="{at}"/>' for at, bit in enumerate(bits) if bit
    ]  # fmt: skip
    return [f'<flags id="{name}" size="4">', *fields, "</flags>"]


_MXCSR_BITS = (
    "IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM", "", "", "FZ",
)  # fmt: skip
_LANES = (
    ("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16),
    ("v8i16", "int16", 8), ("v4i32", "int32", 4), ("v2i64", "int64", 2),
)  # fmt: skip
_FIELDS = (
    ("v4_float", "v4f"), ("v2_double", "v2d"), ("v16_int8", "v16i8"), ("v8_int16", "v8i16"),
    ("v4_int32", "v4i32"), ("v2_int64", "v2i64"), ("uint128", "uint128"),
)  # fmt: skip
_VECTORS = [
    *(f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count in _LANES),
    '<union id="vec128">',
    *(f'<field name="{name}" type="{kind}"/>' for name, kind in _FIELDS),
    "</union>",
    *_flags("i386_mxcsr", _MXCSR_BITS),
]

LONG = Layout("i386:x86-64", _long())
LEGACY = Layout("i386", _legacy())


def layout_of(machine: Machine) -> Layout:
    """The registers of the guest's present mode."""
    return LONG if is_long(machine.cpu) else LEGACY
