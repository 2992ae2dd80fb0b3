"""The 512-byte FXSAVE64 image (SDM vol. 1, 10.5.1): names for its parts, and comparison."""

from __future__ import annotations

Values = dict[str, dict[str, int | str | None]]

_PARTS: tuple[tuple[str, int, int], ...] = (
    ("fcw", 0, 2), ("fsw", 2, 2), ("ftw", 4, 1), ("mxcsr", 24, 4),
    *((f"st{i}", 32 + 16 * i, 10) for i in range(8)),
    *((f"xmm{i}", 160 + 16 * i, 16) for i in range(16)),
)  # fmt: skip
"""Name, offset and length of each compared field. The addresses and opcode of the last x87 instruction
are left out: CPUs differ in when they keep them (SDM vol. 1, 8.1.8)."""


_UNCOMPUTED = {"fsw": 0x0202, "mxcsr": 0x0002}
"""Bits that Unicorn's floating point does not compute: C1 (the result was rounded up) of the x87 status
word, and DE (an operand was denormal) of the status word and of MXCSR. In steps the VMM sets DE; in a
stretch that is run at full speed none does."""
_MMX_EXPONENT = 0xFFFF << 64
"""The upper bits of an x87 register after a store to its MMX register (SDM vol. 1, 9.2); Unicorn leaves
the old ones there. A register with these bits holds a NaN or an infinity."""


def parts(image: bytes) -> dict[str, int]:
    """The registers of an image by name. An empty x87 register has no value: it reads 0."""
    tags = image[4]
    top = (image[3] >> 3) & 7
    values = {name: int.from_bytes(image[at : at + size], "little") for name, at, size in _PARTS}
    for i in range(8):
        if not tags >> ((top + i) & 7) & 1:
            values[f"st{i}"] = 0
    return values


def differences(images: dict[str, bytes]) -> Values:
    """Registers in which the images of several cores differ: {name: {core: value}}."""
    by_core = {core: parts(image) for core, image in images.items()}
    return {
        name: {core: values[name] for core, values in by_core.items()}
        for name, _, _ in _PARTS
        if _differ(name, [values[name] for values in by_core.values()])
    }


def _differ(name: str, values: list[int]) -> bool:
    if name in _UNCOMPUTED:
        values = [value & ~_UNCOMPUTED[name] for value in values]
    elif name.startswith("st") and any(value & _MMX_EXPONENT == _MMX_EXPONENT for value in values):
        values = [value & ~_MMX_EXPONENT for value in values]
    return len(set(values)) > 1
