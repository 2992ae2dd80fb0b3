"""The platform's reciprocals are within the SDM's bound, and follow its table of special values."""

from __future__ import annotations

import random
import struct

import pytest

from cores.vmm.emulate.approximations import reciprocal, reciprocal_root

BOUND = 1.5 * 2**-12


def bits(number: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", number))[0])


def number(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def test_error_is_within_the_bound() -> None:
    """The relative error is within the bound over all normal magnitudes whose reciprocal is normal,
    too."""
    random_bits = random.Random(3)
    for _ in range(2000):
        x = random_bits.randrange(0x01000000, 0x7E800000)
        assert abs(number(reciprocal(x)) * number(x) - 1) < BOUND
        assert abs(number(reciprocal_root(x)) ** 2 * number(x) - 1) < 2 * BOUND


@pytest.mark.parametrize(
    ("x", "inverse", "root"),
    [
        (0x00000000, 0x7F800000, 0x7F800000), (0x80000000, 0xFF800000, 0xFF800000),
        (0x7F800000, 0x00000000, 0x00000000), (0xFF800000, 0x80000000, 0xFFC00000),
        (0x7F800001, 0x7FC00001, 0x7FC00001), (0xFFC12345, 0xFFC12345, 0xFFC12345),
        (0x00000001, 0x7F800000, 0x7F800000), (0x80000001, 0xFF800000, 0xFF800000),
        (bits(-1.0), bits(-1.0), 0xFFC00000), (0x7F000000, 0x00000000, bits(2.0**-63.5)),
    ],
)  # fmt: skip
def test_special_values(x: int, inverse: int, root: int) -> None:
    """Zeros, infinities, NaNs, denormals and negative numbers give the SDM's results (vol. 2, RCPPS and
    RSQRTPS)."""
    assert (reciprocal(x), reciprocal_root(x)) == (inverse, root)
