"""The CPUID leaves given to KVM_SET_CPUID2: the platform's, those that KVM itself reads, and zeros."""

from __future__ import annotations

from itertools import chain

from cores.pc.cpuid import CPUID_LEAVES
from cores.pc.platform import MAXPHYADDR

_SMEP_SMAP = 1 << 7 | 1 << 20  # of leaf 7, EBX
_NEEDED = {7: (0, _SMEP_SMAP, 0, 0), 0x80000008: (48 << 8 | MAXPHYADDR, 0, 0, 0)}
"""Leaves that the platform lacks, without which KVM refuses CR4.SMEP and SMAP and takes a physical
address to have 36 bits. A guest that runs freely sees them, since KVM answers CPUID by itself."""
_RANGES = (range(2, 0x40), range(0x40000001, 0x40000020), range(0x80000002, 0x80000040))
_ABSENT = dict.fromkeys(chain(*_RANGES), (0, 0, 0, 0))
"""Leaves that are zero, except the size of an XSAVE area, which KVM fills into 0xD. They are listed
because KVM answers a leaf beyond the last with leaf 1, as Intel's CPUs do. KVM takes at most 256
leaves (KVM_MAX_CPUID_ENTRIES)."""

LEAVES: dict[int, tuple[int, int, int, int]] = _ABSENT | CPUID_LEAVES | _NEEDED
"""(EAX, EBX, ECX, EDX) by leaf."""
