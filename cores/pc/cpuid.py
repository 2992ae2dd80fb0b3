"""CPUID: the CPU that every guest sees, the same on every core (contract.md, The CPU)."""

from __future__ import annotations

import struct

CPU_VENDOR = b"RingscopeCPU"
VMM_VENDOR = b"RingscopeVMM"
SIGNATURE = 0x000106A5
"""Family 6, model 26: the first Intel CPU with SSE4.2 and POPCNT, and like this platform without
AVX."""

APIC = 9
"""The bit of CPUID.1:EDX that says whether the local APIC is enabled (SDM vol. 3, 10.4.3)."""

# CPUID.1 (SDM vol. 2, CPUID): FPU PSE TSC MSR PAE CX8 APIC PGE CMOV FXSR SSE SSE2,
# and SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT HYPERVISOR.
_FEATURES_EDX = sum(1 << bit for bit in (0, 3, 4, 5, 6, 8, APIC, 13, 15, 24, 25, 26))
_FEATURES_ECX = sum(1 << bit for bit in (0, 9, 13, 19, 20, 23, 31))
# CPUID.80000001H: SYSCALL NX 1-GiB pages LM, and LAHF in 64-bit mode.
_EXTENDED_EDX = sum(1 << bit for bit in (11, 20, 26, 29))
_EXTENDED_ECX = 1

_CPU_WORDS = struct.unpack("<3I", CPU_VENDOR)
_VMM_WORDS = struct.unpack("<3I", VMM_VENDOR)

CPUID_LEAVES: dict[int, tuple[int, int, int, int]] = {
    0x00000000: (1, _CPU_WORDS[0], _CPU_WORDS[2], _CPU_WORDS[1]),  # the vendor string is in EBX EDX ECX
    0x00000001: (SIGNATURE, 0, _FEATURES_ECX, _FEATURES_EDX),
    0x40000000: (0x40000000, *_VMM_WORDS),  # EBX ECX EDX, as hypervisors return it
    0x80000000: (0x80000001, 0, 0, 0),
    0x80000001: (0, 0, _EXTENDED_ECX, _EXTENDED_EDX),
}
"""Every leaf with a value other than zero: (EAX, EBX, ECX, EDX)."""


def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """(EAX, EBX, ECX, EDX) of a leaf, zeros for an unknown one. No leaf here has subleaves."""
    return CPUID_LEAVES.get(leaf, (0, 0, 0, 0))
