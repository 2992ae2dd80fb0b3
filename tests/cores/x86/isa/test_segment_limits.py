"""Which accesses may leave their segment."""

from __future__ import annotations

import pytest

from cores.x86.isa.decoder import decode
from cores.x86.isa.segment_limits import limited_segments, segments_used
from cores.x86.registers import GS, MASK32, Cr0
from cores.x86.virtual_cpu import Segment, VirtualCpu

DATA, READ_ONLY, EXPAND_DOWN, ABSENT = 0xC092, 0xC090, 0xC096, 0xC012


def may_fault(code: str, limit: int, attributes: int = DATA) -> bool:
    """Whether 32-bit code may fault by the limit or the type of GS; the other segments are flat."""
    flat = [Segment(0x10, 0, MASK32, DATA) for _ in range(6)]
    flat[GS] = Segment(0x18, 0x80112780, limit, attributes)
    cpu = VirtualCpu(cr0=int(Cr0.PE), segments=flat)
    return bool(segments_used(decode(bytes.fromhex(code), 32)) & limited_segments(cpu))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("65a100000000", False),  # mov eax, gs:[0]
        ("65a104000000", False),  # mov eax, gs:[4]
        ("65c7050400000000000000", False),  # mov dword ptr gs:[4], 0
        ("65ff3504000000", False),  # push dword ptr gs:[4]
        ("65a105000000", True),  # mov eax, gs:[5]
        ("65a108000000", True),  # mov eax, gs:[8]
        ("65a1fcffffff", True),  # mov eax, gs:[-4]
        ("658b00", True),  # mov eax, gs:[eax]
        ("658b048500000000", True),  # mov eax, gs:[eax*4]
        ("650fa30500000000", True),  # bt gs:[0], eax
        ("65ac", True),  # lodsb gs:[esi]
        ("65dd0500000000", True),  # fld qword ptr gs:[0]
        ("65d93500000000", True),  # fnstenv gs:[0]: 28 bytes
        ("8b00", False),  # mov eax, [eax]
    ],
)
def test_a_segment_of_8_bytes(code: str, expected: bool) -> None:
    """The variables that xv6 kept there cannot leave it; what is computed may."""
    assert may_fault(code, 7) is expected


@pytest.mark.parametrize(
    ("limit", "attributes", "expected"),
    [(7, DATA, False), (6, DATA, True), (0xFFFF, DATA, False), (7, READ_ONLY, True),
     (7, EXPAND_DOWN, True), (7, ABSENT, True), (MASK32, READ_ONLY, True)],
)  # fmt: skip
def test_its_first_bytes(limit: int, attributes: int, expected: bool) -> None:
    """They can be accessed where the segment has 8 bytes that can be read and written."""
    assert may_fault("65a100000000", limit, attributes) is expected
    assert may_fault("658b00", limit, attributes)
