"""Paging and its TLB: from guest virtual addresses (GVA) to guest physical addresses (GPA).

``walk`` is the architecture's page walk (SDM vol. 3, ch. 4), in the format of tables that CR0.PG,
CR4.PAE and EFER.LMA choose (paging_formats.py). ``Mmu`` reads and writes the guest's memory for the VMM
as the guest's own instructions would: same rights, same faults, same accessed and dirty bits.

A GVA here is a linear address: segmentation.py has added the segment's base and checked its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from cores.x86.faults import GuestFault, general_protection, page_fault
from cores.x86.mmu.paging_formats import (
    ACCESSED,
    ADDRESS,
    DIRTY,
    FOUR_LEVEL,
    LARGE,
    NEVER_A_PAGE,
    PAE,
    PRESENT,
    TWO_LEVEL,
    USER,
    WRITABLE,
    Format,
    root,
)
from cores.x86.mmu.paging_formats import PAGE as PAGE
from cores.x86.registers import MASK32, MASK64, SS, Cr0, Cr4, Efer, Flag, PageFault, canonical
from cores.x86.virtual_cpu import DPL

if TYPE_CHECKING:
    from cores.x86.virtual_cpu import VirtualCpu

_P, _W, _U, _RSVD, _I = PageFault.P, PageFault.W, PageFault.U, PageFault.RSVD, PageFault.I
_WP, _SMEP, _SMAP, _NXE, _AC = Cr0.WP, Cr4.SMEP, Cr4.SMAP, Efer.NXE, Flag.AC
_PG, _PAE, _PSE, _LMA = Cr0.PG, Cr4.PAE, Cr4.PSE, Efer.LMA
_UNPAGED = 2 << 20
NOWHERE = -1

LONGEST_INSTRUCTION = 15
_TLB_ENTRIES = 8192


class PhysicalSpace(Protocol):
    """The guest's physical memory as paging needs it; implemented by
    ``cores.pc.physical_memory.PhysicalMemory``."""

    view: memoryview
    words: memoryview

    def is_ram(self, gpa: int, length: int = 1) -> bool: ...

    def read(self, gpa: int, length: int) -> bytes: ...

    def write(self, gpa: int, data: bytes) -> None: ...

    def device_peek(self, gpa: int, length: int) -> bytes: ...


class Translation(NamedTuple):
    """The translation of a guest virtual address, and its access rights: a NamedTuple, which is made in
    a third of the time of a frozen dataclass, at each walk.

    gpa: of the byte asked for. page: GVA of its page. frame: GPA of its page.
    size: of the page: 4096, 2 or 4 MiB, or 1 GiB; 2 MiB where paging is off.
    writable, user, executable: the R/W, U/S and XD bits of all levels combined. What they permit
        depends on CPL, CR0.WP, SMEP and SMAP as well: ask ``permits``.
    dirty: the leaf's D bit, after this walk.
    """

    gpa: int
    page: int
    frame: int
    size: int
    writable: bool
    user: bool
    executable: bool
    dirty: bool


def permits(
    cpu: VirtualCpu,
    page: Translation,
    *,
    write: bool = False,
    execute: bool = False,
    user: bool,
    implicit: bool = False,
) -> bool:
    """Whether this access to the page is permitted in the CPU's present state (SDM vol. 3, 4.6.1).

    user: a user-mode access. implicit: a supervisor access that the CPU makes by itself (GDT, IDT,
    TSS), to which SMAP applies whatever EFLAGS.AC is.
    """
    if user:
        return page.user and (page.writable or not write) and (page.executable or not execute)
    if execute:
        return page.executable and not (page.user and cpu.cr4 & _SMEP and cpu.cr0 & _PG)
    if page.user and cpu.cr4 & _SMAP and (implicit or cpu.cpl == 3 or not cpu.rflags & _AC):
        return not cpu.cr0 & _PG
    return page.writable or not write or not cpu.cr0 & _WP


def walk(
    memory: PhysicalSpace,
    cpu: VirtualCpu,
    gva: int,
    *,
    write: bool = False,
    execute: bool = False,
    user: bool | None = None,
    implicit: bool = False,
    mark: bool = True,
    used: list[tuple[int, int]] | None = None,
) -> Translation:
    """Translate ``gva`` through the tables of CR3 (SDM vol. 3, 4.3 to 4.5).

    user: whether it is a user-mode access; None: if CPL is 3 and the access is not ``implicit``.
    used: a list that gets each entry read, as (GPA, entry).
    mark: set the A bits of the entries used, and D of the leaf when writing. With 4 levels upper
        entries keep their A bit when the walk fails further down, as the SDM allows and Unicorn does;
        the other formats set bits only when it succeeds (contract.md, Modes).
    Raises GuestFault: #GP(0) for a non-canonical address (a stack access makes #SS of it), else #PF.
    """
    if user is None:
        user = not implicit and cpu.cpl == 3
    form = paging_format(cpu)
    if form is FOUR_LEVEL:
        if not canonical(gva):
            raise general_protection(0)
    else:
        gva &= MASK32
        if form is None:
            return _identical(gva)
    no_execute_on = form.no_execute and cpu.efer & _NXE
    code = (_W if write else 0) | (_U if user else 0)
    if execute and (no_execute_on or cpu.cr4 & _SMEP):
        code |= _I
    reserved_always = form.reserved if no_execute_on else form.reserved | form.no_execute

    size, width, table = 0, form.entry, cpu.cr3 & form.root
    rights, no_execute = WRITABLE | USER, 0
    pending: list[tuple[int, int]] = []
    for shift, indexes, in_leaf, in_table, granted in form.levels:
        at = table + (gva >> shift & indexes) * width
        entry = read_entry(memory, at, width)
        if used is not None:
            used.append((at, entry))
        if not entry & PRESENT:
            raise page_fault(code, gva)
        leaf = shift == 12 or (entry & LARGE and in_leaf is not NEVER_A_PAGE)
        if leaf and shift == 22 and not cpu.cr4 & _PSE:
            leaf = 0  # without CR4.PSE the PS bit is ignored
        if entry & (reserved_always | (in_leaf if leaf else in_table)):
            raise page_fault(code | _P | _RSVD, gva)
        rights &= entry | granted
        no_execute |= entry & form.no_execute
        if leaf:
            size = 1 << shift
            break
        if mark and not entry & ACCESSED and not granted:
            if form.marks_early:
                _write_entry(memory, at, entry | ACCESSED, width)
            else:
                pending.append((at, entry | ACCESSED))
        table = entry & ADDRESS

    frame = entry & ADDRESS & -size
    found = Translation(
        frame | gva & (size - 1), gva & -size, frame, size,
        bool(rights & WRITABLE), bool(rights & USER), not no_execute,
        bool(entry & DIRTY or (write and mark)),
    )  # fmt: skip
    if not permits(cpu, found, write=write, execute=execute, user=user, implicit=implicit):
        raise page_fault(code | _P, gva)
    for upper, marked in pending:
        _write_entry(memory, upper, marked, width)
    marks = ACCESSED | DIRTY if write else ACCESSED
    if mark and entry & marks != marks:
        _write_entry(memory, at, entry | marks, width)
    return found


def paging_format(cpu: VirtualCpu) -> Format | None:
    """The format of the tables in use, None where paging is off (SDM vol. 3, 4.1.1)."""
    if cpu.efer & _LMA:
        return FOUR_LEVEL
    if not cpu.cr0 & _PG:
        return None
    return PAE if cpu.cr4 & _PAE else TWO_LEVEL


def tables_in_use(cpu: VirtualCpu) -> int | None:
    """CR3 and the format of its tables, as ``paging_formats.root`` makes one number of them; None where
    paging is off."""
    if cpu.efer & _LMA:
        return cpu.cr3
    form = paging_format(cpu)
    return None if form is None else root(cpu.cr3, form)


def _identical(gva: int) -> Translation:
    """The translation where paging is off: every access is permitted."""
    page = gva & -_UNPAGED
    return Translation(gva, page, page, _UNPAGED, True, True, True, True)


def read_entry(memory: PhysicalSpace, gpa: int, width: int) -> int:
    """A paging-structure entry of ``width`` bytes; an address without RAM reads all ones, as on the
    bus."""
    if not memory.is_ram(gpa, width):
        return (1 << 8 * width) - 1
    return int.from_bytes(memory.view[gpa : gpa + width], "little")


def _write_entry(memory: PhysicalSpace, gpa: int, entry: int, width: int) -> None:
    """Store A and D bits: not through ``memory.write``, since they are not a store by the guest."""
    memory.view[gpa : gpa + width] = entry.to_bytes(width, "little")


_Path = tuple[tuple[int, int, int, int], tuple[tuple[int, int], ...]]
"""A way through tables with entries of 8 bytes: CR0, CR3, CR4 and EFER, and each entry as (GPA // 8,
value)."""


class Mmu:
    """The guest's memory as its CPU sees it now, with a TLB.

    Rights are checked at each access, so CPL, CR0.WP and EFLAGS.AC may change at any time. Call
    ``flush`` when CR0.PG, CR3, CR4 or EFER were written, for INVLPG, and when RAM or the whole CPU
    state was replaced.

    In all methods, ``user`` None means: a user-mode access if CPL is 3. ``implicit`` marks the CPU's
    own accesses to system tables, always made as supervisor. Raises GuestFault, always before anything
    was written.

    beyond_ram: the address of the last fetch that met bytes of no RAM; NOWHERE: there was none.
    """

    beyond_ram = NOWHERE

    def __init__(self, memory: PhysicalSpace, cpu: VirtualCpu) -> None:
        self.memory = memory
        self.cpu = cpu
        self._view = memory.view
        self._words = memory.words
        self._tlb: dict[int, Translation] = {}
        # GPA of a 4 KiB page of executable RAM, by GVA >> 12: for CPL 0-2, and for CPL 3.
        self._supervisor_code: dict[int, int] = {}
        self._user_code: dict[int, int] = {}
        self._paths: dict[tuple[int, bool], _Path] = {}  # by GVA >> 12, and whether at CPL 3

    def flush(self, gva: int | None = None) -> None:
        """Flush the translation of ``gva``, or all of them.

        INVLPG on any byte of a large page concerns all of it, and here it may have many entries;
        flushing too much is always lawful.
        """
        self._tlb.clear()
        self._supervisor_code.clear()
        self._user_code.clear()
        self._paths.clear()

    def translate(
        self,
        gva: int,
        *,
        write: bool = False,
        execute: bool = False,
        user: bool | None = None,
        implicit: bool = False,
    ) -> int:
        """The GPA of ``gva``, if this access is permitted."""
        if user is None:
            user = not implicit and self.cpu.cpl == 3
        entry = self._tlb.get(gva >> 12)
        if (
            entry is not None
            and (entry.dirty or not write)  # a first write must walk, to set D
            and permits(self.cpu, entry, write=write, execute=execute, user=user, implicit=implicit)
        ):
            return entry.frame | gva & (entry.size - 1)
        entry = walk(
            self.memory, self.cpu, gva, write=write, execute=execute, user=user, implicit=implicit
        )
        if len(self._tlb) >= _TLB_ENTRIES:
            self.flush()
        self._tlb[gva >> 12] = entry
        return entry.gpa

    def fetch(self, rip: int) -> bytes:
        """The 15 bytes at ``rip``, or fewer where the next page cannot be executed.

        When the instruction is longer than that, ``translate`` of the first missing byte with
        ``execute`` raises its fault. 0.3 us for a page fetched before.
        """
        user = self.cpu.segments[SS].attributes & DPL == DPL
        page = (self._user_code if user else self._supervisor_code).get(rip >> 12)
        offset = rip & 0xFFF
        if page is not None and offset <= PAGE - LONGEST_INSTRUCTION:
            return bytes(self._view[page + offset : page + offset + LONGEST_INSTRUCTION])
        return self._fetch_slowly(rip, user)

    def locate(self, rip: int) -> int:
        """The GPA of the instruction at ``rip``, fetched before; raises the faults of a fetch. 0.2
        us."""
        user = self.cpu.segments[SS].attributes & DPL == DPL
        page = (self._user_code if user else self._supervisor_code).get(rip >> 12)
        return self.translate(rip, execute=True) if page is None else page | rip & 0xFFF

    def code_page(self, rip: int) -> int | None:
        """The page (GPA) from which code at ``rip`` was fetched before; None: it was not yet."""
        user = self.cpu.segments[SS].attributes & DPL == DPL
        return (self._user_code if user else self._supervisor_code).get(rip >> 12)

    def outdated(self, rip: int) -> bool:
        """Whether the guest has changed the tables for a page that ``fetch`` remembers, without INVLPG.
        A CPU may then use either translation (SDM vol. 3, 4.10.4.3). It sets no A or D bits. 0.6 us
        where the entries that lead to the page are as they were the last time, else 4 us, for a
        walk."""
        cpu = self.cpu
        user = cpu.segments[SS].attributes & DPL == DPL
        number = rip >> 12
        page = (self._user_code if user else self._supervisor_code).get(number)
        if page is None:
            return False
        path = self._paths.get((number, user))
        if path is not None and path[0] == (cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer):
            words = self._words
            for index, entry in path[1]:
                if words[index] != entry:
                    break
            else:
                return False
        used: list[tuple[int, int]] = []
        try:
            found = walk(self.memory, cpu, rip, execute=True, user=user, mark=False, used=used)
        except GuestFault:
            return True
        if found.gpa & -PAGE != page:
            return True
        if cpu.cr4 & _PAE and all(self.memory.is_ram(gpa, 8) for gpa, _ in used):
            entries = tuple((gpa // 8, entry) for gpa, entry in used)
            self._paths[number, user] = (cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer), entries
        return False

    def peek(self, gva: int, length: int = LONGEST_INSTRUCTION) -> bytes:
        """Read memory without access checks and without setting A or D bits: for displays, not for the
        guest.

        Ends early where nothing is mapped; raises GuestFault when the first byte is not.
        """
        found = b""
        for at, size in by_page(gva & MASK64, length):
            try:
                page = self._look(at)
            except GuestFault:
                if found:
                    return found
                raise
            if not self.memory.is_ram(page.gpa, size):
                return found
            found += bytes(self._view[page.gpa : page.gpa + size])
        return found

    def _look(self, gva: int) -> Translation:
        """The translation of ``gva`` as supervisor, else as user: SMAP may forbid the first."""
        try:
            return walk(self.memory, self.cpu, gva, user=False, mark=False)
        except GuestFault:
            return walk(self.memory, self.cpu, gva, user=True, mark=False)

    def _fetch_slowly(self, rip: int, user: bool) -> bytes:
        gpa = self.translate(rip, execute=True, user=user)
        page = gpa & -PAGE
        if self.memory.is_ram(page, PAGE):
            (self._user_code if user else self._supervisor_code)[rip >> 12] = page
        else:
            self.beyond_ram = rip
        here = min(LONGEST_INSTRUCTION, PAGE - (rip & 0xFFF))
        code = self._code(gpa, here)
        if here == LONGEST_INSTRUCTION:
            return code
        try:  # the instruction may end before the next page: look without leaving a mark
            beyond = walk(
                self.memory, self.cpu, (rip + here) & MASK64, execute=True, user=user, mark=False
            )
        except GuestFault:
            return code
        if not self.memory.is_ram(beyond.gpa):
            self.beyond_ram = rip
        return code + self._code(beyond.gpa, LONGEST_INSTRUCTION - here)

    def _code(self, gpa: int, length: int) -> bytes:
        """Bytes within one page, of a device too: fetching ahead is not an access by the guest."""
        if self.memory.is_ram(gpa, length):
            return bytes(self._view[gpa : gpa + length])
        return self.memory.device_peek(gpa, length)

    def read(self, gva: int, length: int, *, user: bool | None = None, implicit: bool = False) -> bytes:
        """``length`` bytes from ``gva`` on, across pages where necessary."""
        gva &= MASK64
        if (gva & 0xFFF) + length <= PAGE:
            return self.memory.read(self.translate(gva, user=user, implicit=implicit), length)
        pieces = [
            (self.translate(at, user=user, implicit=implicit), size)
            for at, size in by_page(gva, length)
        ]
        return b"".join(self.memory.read(gpa, size) for gpa, size in pieces)

    def write(self, gva: int, data: bytes, *, user: bool | None = None, implicit: bool = False) -> None:
        """Store ``data`` at ``gva``; all of it or, when a page faults, nothing."""
        gva &= MASK64
        pieces = [
            (self.translate(at, write=True, user=user, implicit=implicit), size)
            for at, size in by_page(gva, len(data))
        ]
        done = 0
        for gpa, size in pieces:
            self.memory.write(gpa, data[done : done + size])
            done += size

    def read_number(self, gva: int, length: int, *, implicit: bool = False) -> int:
        """A little-endian number of ``length`` bytes."""
        return int.from_bytes(self.read(gva, length, implicit=implicit), "little")

    def read_u64(self, gva: int, *, user: bool | None = None, implicit: bool = False) -> int:
        return int.from_bytes(self.read(gva, 8, user=user, implicit=implicit), "little")


def by_page(gva: int, length: int) -> list[tuple[int, int]]:
    """Cut a range of guest virtual addresses at the page boundaries. It wraps at 2**64; where addresses
    have 32 bits, the walk ignores the bits above."""
    first = PAGE - (gva & 0xFFF)
    if length <= first:
        return [(gva, length)]
    pieces, done = [(gva, first)], first
    while done < length:
        size = min(PAGE, length - done)
        pieces.append(((gva + done) & MASK64, size))
        done += size
    return pieces
