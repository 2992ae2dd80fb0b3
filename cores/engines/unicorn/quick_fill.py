"""Iterations of REP STOS in machine code, where bulk_store.py would make them a page at a time.

An operating system that clears its memory runs a REP STOS for each page; a call of Python for each of
57,000 pages was a quarter of the time of xv6's boot. So Python aims this helper at the REP and the
region of 2 MiB in which it has helped. The helper reads the registers by Unicorn's own functions, looks
the page up in the guest's page table, stores, and writes the registers. All else it leaves to Python.

One of the few files that may use ctypes.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from mmap import mmap
from typing import NamedTuple

from cores.engines import machine_code
from cores.x86.mmu.paging_formats import ADDRESS, DIRTY, PAGE, PRESENT
from cores.x86.registers import MASK64

REGION = 21
"""The address bits above which are those of a page table, or half of one."""
FEW = 16
"""Iterations that Unicorn makes in less time than it takes to help."""
_ENTRIES = 512  # of pages in a region
_STORED_TO = int(PRESENT | DIRTY)

_DATA = 0x400  # the offset of what the code reads and writes: words, then the lists for Unicorn
(
    _REP, _READ, _WRITE, _REGION, _TABLE, _FRAMES, _RAM, _MASK, _INDEXES, _ADDRESS, _PYTHON, _SHIFT,
) = range(12)  # fmt: skip
_NUMBERS, _PLACES, _VALUES = 0x80, 0x90, 0xB0
_STOS_AT = 275
_STOS = {
    size: bytes.fromhex(code)
    for size, code in ((1, "f3aa90"), (2, "f366ab"), (4, "f3ab90"), (8, "f348ab"))
}
"""REP STOS by its operand's size."""

CODE = bytes.fromhex(
    # rdi: engine, rcx: the block counter's memory; gives 0 when it has helped
    "53"                  # push rbx
    "4154"                # push r12
    "4155"                # push r13
    "488d1df4030000"      # lea  rbx, [rip + 0x3f4]       the words
    "4989cc"              # mov  r12, rcx
    "4989fd"              # mov  r13, rdi
    "488b4130"            # mov  rax, [rcx + 48]          the REP whose next iteration it is:
    "483b03"              # cmp  rax, [rbx]               is this set for it?
    "0f8518010000"        # jne  python
    "488db380000000"      # lea  rsi, [rbx + 0x80]
    "488d9390000000"      # lea  rdx, [rbx + 0x90]
    "b904000000"          # mov  ecx, 4
    "ff5308"              # call [rbx + 8]                read RCX, RDI, RAX, RFLAGS
    "4c8b83b0000000"      # mov  r8, [rbx + 0xb0]
    "4c234338"            # and  r8, [rbx + 56]           r8: iterations
    "4c8b8bb8000000"      # mov  r9, [rbx + 0xb8]
    "4c234b38"            # and  r9, [rbx + 56]           r9: where the next one stores
    "f683c900000004"      # test byte [rbx + 0xc9], 4     DF?
    "0f85df000000"        # jne  python
    "4c89c8"              # mov  rax, r9
    "48c1e815"            # shr  rax, 21
    "483b4318"            # cmp  rax, [rbx + 24]          in the region?
    "0f85ce000000"        # jne  python
    "8b4b58"              # mov  ecx, [rbx + 88]          ecx: log2 of the operand's size
    "4589ca"              # mov  r10d, r9d
    "4181e2ff0f0000"      # and  r10d, 4095               r10: within the page
    "4489d0"              # mov  eax, r10d
    "d3e8"                # shr  eax, cl
    "0f84b6000000"        # je   python                   the first one in a page is Unicorn's
    "ba00100000"          # mov  edx, 4096
    "4429d2"              # sub  edx, r10d
    "d3ea"                # shr  edx, cl                  those that are left in the page,
    "498d40ff"            # lea  rax, [r8 - 1]            but for the last of all:
    "4c39c2"              # cmp  rdx, r8
    "480f43d0"            # cmovae rdx, rax               rdx: how many to make; -1 where none is left
    "83fa10"              # cmp  edx, 16
    "0f8c98000000"        # jl   python
    "4c89c8"              # mov  rax, r9
    "48c1e80c"            # shr  rax, 12
    "234340"              # and  eax, [rbx + 64]
    "488b7320"            # mov  rsi, [rbx + 32]
    "807b4101"            # cmp  byte [rbx + 65], 1       512 entries, of 8 bytes?
    "7405"                # je   eight
    "8b0486"              # mov  eax, [rsi + 4*rax]
    "eb04"                # jmp  entry
    "488b04c6"            # eight: mov  rax, [rsi + 8*rax]
    "89c6"                # entry: mov  esi, eax
    "f7d6"                # not  esi
    "f7c641000000"        # test esi, 0x41                P and D?
    "756f"                # jne  python
    "48234348"            # and  rax, [rbx + 72]          rax: the frame
    "4889c6"              # mov  rsi, rax
    "48c1ee15"            # shr  rsi, 21
    "483b7328"            # cmp  rsi, [rbx + 40]          RAM without translated code?
    "755e"                # jne  python
    "48034330"            # add  rax, [rbx + 48]
    "4a8d3c10"            # lea  rdi, [rax + r10]
    "488b83c0000000"      # mov  rax, [rbx + 0xc0]
    "4929d0"              # sub  r8, rdx
    "4c8983b0000000"      # mov  [rbx + 0xb0], r8         RCX
    "4989d2"              # mov  r10, rdx
    "49d3e2"              # shl  r10, cl
    "4d01d1"              # add  r9, r10
    "4c234b38"            # and  r9, [rbx + 56]
    "4c898bb8000000"      # mov  [rbx + 0xb8], r9         RDI
    "4983f801"            # cmp  r8, 1
    "410f9544240a"        # setne byte [r12 + 10]         ``HELPED`` again, unless one is left
    "4889d1"              # mov  rcx, rdx
    "f3aa"                # rep stosb
    "90"                  # nop                         ``aim`` sets these three bytes
    "4c89ef"              # mov  rdi, r13
    "488db380000000"      # lea  rsi, [rbx + 0x80]
    "488d9390000000"      # lea  rdx, [rbx + 0x90]
    "b902000000"          # mov  ecx, 2
    "ff5310"              # call [rbx + 16]               write RCX and RDI
    "31c0"                # xor  eax, eax
    "415d"                # pop  r13
    "415c"                # pop  r12
    "5b"                  # pop  rbx
    "c3"                  # ret
    "488b4350"            # python: mov  rax, [rbx + 80]
    "415d"                # pop  r13
    "415c"                # pop  r12
    "5b"                  # pop  rbx
    "ffe0"                # jmp  rax
)  # fmt: skip


class Target(NamedTuple):
    """What the helper is aimed at.

    rep: the address of a REP STOS. size: of its operand, in bytes. mask: of its counter and pointer.
    region, frames: the bits from ``REGION`` on of the linear addresses, and of their frames, in which
    no code has been translated. table: the GPA of the page table, with entries of ``width`` bytes; -1
    where all of the region is one page, or not paged.
    """

    rep: int
    size: int
    mask: int
    region: int
    frames: int
    table: int
    width: int


class QuickFill:
    """The helper of one Unicorn. address: of the machine code.

    page: of ``machine_code.executable``. functions: the addresses of uc_reg_read_batch and
    uc_reg_write_batch, and of what serves all else. numbers: Unicorn's own, of RCX, RDI, RAX, RFLAGS.
    ram: the HVA of the guest's RAM.
    """

    def __init__(
        self, page: mmap, functions: tuple[int, int, int], numbers: Sequence[int], ram: int
    ) -> None:
        self.address = machine_code.address(page)
        data = self.address + _DATA
        self._ram = ram
        self._code = memoryview(page)
        self._words = self._code[_DATA : _DATA + _NUMBERS].cast("Q")
        self._words[_READ], self._words[_WRITE], self._words[_PYTHON] = functions
        self._code[_DATA + _NUMBERS : _DATA + _PLACES].cast("i")[:] = array("i", numbers)
        places = array("Q", range(data + _VALUES, data + _VALUES + 32, 8))
        self._code[_DATA + _PLACES : _DATA + _VALUES].cast("Q")[:] = places
        self._linear = (ctypes.c_uint64 * _ENTRIES)()
        self.leave_all()

    def leave_all(self) -> None:
        """Leave all to Python until the next ``aim``."""
        self._words[_REGION] = MASK64

    def aim(self, target: Target) -> None:
        """Help there from now on."""
        rep, size, mask, region, frames, table, width = target
        at = self._ram + table
        if table < 0:
            first, end = frames << REGION, frames + 1 << REGION
            self._linear[:] = [frame | _STORED_TO for frame in range(first, end, PAGE)]
            at, width = ctypes.addressof(self._linear), 8
        self._code[_STOS_AT : _STOS_AT + 3] = _STOS[size]
        words = self._words
        words[_REP], words[_MASK], words[_SHIFT] = rep, mask, size.bit_length() - 1
        words[_TABLE], words[_INDEXES], words[_RAM] = at, PAGE // width - 1, self._ram
        words[_ADDRESS] = ADDRESS & (1 << 8 * width) - 1
        words[_FRAMES], words[_REGION] = frames, region
