"""The formats of page tables: two levels of 4-byte entries, PAE, four levels (SDM vol. 3, 4.3-4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

PAGE = 4096
MAXPHYADDR = 40
"""Bits of a physical address. The bits above, up to 51, are reserved in CR3 and in every entry."""

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
NO_EXECUTE = 1 << 63

ADDRESS = (1 << 52) - PAGE
HIGH_RESERVED = (1 << 52) - (1 << MAXPHYADDR)
NEVER_A_PAGE = -1
"""``Level.in_leaf`` where an entry always leads to another table."""


class Level(NamedTuple):
    """One level of tables.

    shift, indexes: the bits of the linear address that choose an entry. in_leaf, in_table: the bits
    that are reserved in an entry that maps a page, and in one that leads to a table. granted: the R/W
    and U/S bits that its entries do not have and do not limit; such entries have no A bit either.
    """

    shift: int
    indexes: int
    in_leaf: int
    in_table: int
    granted: int = 0


class Format(NamedTuple):
    """A format of tables.

    levels: from the root down. entry: bytes of an entry. root: the bits of CR3 that are its address.
    reserved: bits that are reserved in every entry. no_execute: the XD bit, 0 where there is none.
    marks_early: A bits of upper entries are set although the walk fails further down.
    """

    levels: tuple[Level, ...]
    entry: int
    root: int
    reserved: int
    no_execute: int
    marks_early: bool


# Bit 12 of a large page is PAT. PS itself is reserved in a PML4 entry.
FOUR_LEVEL = Format(
    levels=(
        Level(39, 0x1FF, NEVER_A_PAGE, LARGE),
        Level(30, 0x1FF, (1 << 30) - (1 << 13), 0),
        Level(21, 0x1FF, (1 << 21) - (1 << 13), 0),
        Level(12, 0x1FF, 0, 0),
    ),
    entry=8, root=ADDRESS, reserved=HIGH_RESERVED, no_execute=NO_EXECUTE, marks_early=True,
)  # fmt: skip

PAE = Format(
    levels=(
        Level(30, 3, NEVER_A_PAGE, 0x1E6 | NO_EXECUTE, granted=WRITABLE | USER),
        Level(21, 0x1FF, (1 << 21) - (1 << 13), 0),
        Level(12, 0x1FF, 0, 0),
    ),
    entry=8, root=0xFFFF_FFE0, reserved=(1 << 63) - (1 << MAXPHYADDR), no_execute=NO_EXECUTE,
    marks_early=False,
)  # fmt: skip
"""Four page-directory-pointer entries, in which bits 1, 2 and 5 to 8 are reserved."""

TWO_LEVEL = Format(
    levels=(Level(22, 0x3FF, (1 << 22) - (1 << 13), 0), Level(12, 0x3FF, 0, 0)),
    entry=4, root=0xFFFF_F000, reserved=0, no_execute=0, marks_early=False,
)  # fmt: skip
"""Pages of 4 MiB with CR4.PSE. The platform's CPU has no PSE-36: bits 13 to 21 of such an entry are
reserved."""

_BY_NUMBER = (FOUR_LEVEL, PAE, TWO_LEVEL)
_NUMBER_AT = 60


def root(cr3: int, form: Format) -> int:
    """CR3 together with the format of the tables that it leads to, as one number."""
    return cr3 | _BY_NUMBER.index(form) << _NUMBER_AT


def table_addresses(roots: Iterable[int]) -> list[tuple[int, Format]]:
    """The address of the first table of each ``root``, and its format."""
    found = []
    for each in roots:
        form = _BY_NUMBER[min(each >> _NUMBER_AT, len(_BY_NUMBER) - 1)]
        found.append((each & form.root, form))
    return found
