"""Real segment registers for 16- and 32-bit code: selectors that have the guest's bases and limits.

The descriptor tables are the host's, but a process may have a local one (modify_ldt(2)): 8,192 segments
with any base and limit, all of privilege level 3. The hardware then checks the guest's limits, types
and stack width as it would with the guest's own tables. Each descriptor is entered once and kept.
Conforming code, which Linux refuses, is entered as non-conforming: control reaches it by far transfers
only, and these the VMM completes.

Linear addresses of the guest begin at ``origin`` in the process, whose lowest pages Linux maps for no
one: each base is that much higher, and addresses wrap at 4 GiB as the guest's do. So what cannot be
mapped are the guest's last pages and not its first, where programs are linked.
"""

from __future__ import annotations

import os

from cores.engines.ptrace.process import VcpuProcess
from cores.errors import EngineError
from cores.x86.mode import DEFAULT_32
from cores.x86.registers import CS, MASK32, Cr0
from cores.x86.virtual_cpu import Segment, VirtualCpu

FLAT_CODE, FLAT_DATA = 0x23, 0x2B
"""__USER32_CS and __USER_DS, the host's own flat segments."""
MOST = 8192
"""Descriptors in a process's table (LDT_ENTRIES)."""

_PRESENT, _CODE, _EXPAND_DOWN, _WRITABLE = 0x80, 8, 4, 2
_READABLE = _WRITABLE
_PE = Cr0.PE

# struct user_desc, asm/ldt.h: the flags behind entry_number, base_addr and limit
_SEG_32BIT, _READ_EXEC_ONLY, _LIMIT_IN_PAGES, _USEABLE = 1, 1 << 3, 1 << 4, 1 << 6
_CONTENTS_EXPAND_DOWN, _CONTENTS_CODE = 1 << 1, 2 << 1

Selectors = tuple[int, int, int, int, int, int]
"""In the order of ``VirtualCpu.segments``."""


class LocalTable:
    """The local descriptor table of one vCPU process, filled as the guest needs it."""

    def __init__(self, process: VcpuProcess) -> None:
        self._process = process
        self._selectors: dict[tuple[int, int, int], int] = {}  # by base, limit and flags
        self._last: tuple[object, Selectors] | None = None

    def load(self, cpu: VirtualCpu, origin: int) -> Selectors:
        """The selectors with which the guest's present segments are loaded. Raises EngineError where
        the kernel has no such table."""
        real = not cpu.cr0 & _PE
        state = (origin, real, [(s.base, s.limit, s.attributes) for s in cpu.segments])
        if self._last is not None and self._last[0] == state:
            return self._last[1]
        es, cs, ss, ds, fs, gs = (
            self._selector(segment, origin, code=number == CS, real=real)
            for number, segment in enumerate(cpu.segments)
        )
        self._last = state, (es, cs, ss, ds, fs, gs)
        return self._last[1]

    def _selector(self, segment: Segment, origin: int, *, code: bool, real: bool) -> int:
        attributes, limit = segment.attributes, segment.limit
        if not attributes & _PRESENT and not real:
            return 0  # a null selector: every access faults
        flags = _USEABLE | _SEG_32BIT * bool(attributes & DEFAULT_32)
        if code or (attributes & _CODE and not real):
            flags |= _CONTENTS_CODE | _READ_EXEC_ONLY * (not real and not attributes & _READABLE)
        else:
            flags |= _CONTENTS_EXPAND_DOWN * (attributes & (_CODE | _EXPAND_DOWN) == _EXPAND_DOWN)
            flags |= _READ_EXEC_ONLY * (not real and not attributes & _WRITABLE)
        if limit >> 20:
            flags |= _LIMIT_IN_PAGES
            limit >>= 12
        base = segment.base + origin & MASK32
        if not base and segment.limit == MASK32 and attributes & DEFAULT_32:
            if flags & ~_LIMIT_IN_PAGES == _USEABLE | _SEG_32BIT:
                return FLAT_DATA
            if flags & ~_LIMIT_IN_PAGES == _USEABLE | _SEG_32BIT | _CONTENTS_CODE:
                return FLAT_CODE
        key = base, limit, flags
        selector = self._selectors.get(key)
        return self._enter(key) if selector is None else selector

    def _enter(self, key: tuple[int, int, int]) -> int:
        if len(self._selectors) >= MOST:  # real mode has 65,536 bases
            self._selectors.clear()
        number = len(self._selectors)
        result = self._process.set_descriptor(number, *key)
        if result < 0:
            raise EngineError(
                f"this kernel refused modify_ldt ({os.strerror(-result)}), which 16- and 32-bit code"
                " needs"
            )
        selector = self._selectors[key] = number << 3 | 7  # TI: the local table; RPL 3
        return selector
