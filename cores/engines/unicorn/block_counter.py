"""The block hook of free runs, in machine code: it counts instructions without calling Python.

Unicorn calls a hook before each translated block. In Python that call costs 0.3 us, more than most
blocks. Here it is some 50 instructions for x86-64, which look the block up in a table, subtract its
instructions from a budget, and return. The iterations of a REP after the first are blocks of that one
instruction, and cost nothing. The hook calls Python for a block that is not in the table, a
budget that does not suffice, a request to stop, and a block of one instruction in the middle of the
last one that is no jump (a store that has changed its own block); and, by a shorter way, for a REP to
be helped.

One of the few files that may use ctypes. On hosts other than x86-64, and where the host allows no
memory that is writable and executable, Python is called for each block, with the same counts.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from cores.engines import machine_code

_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
_HELP = ctypes.CFUNCTYPE(ctypes.c_int)

# The shared memory: 64-bit words, then the table.
_LEFT, _STOP, _AT, _LENGTH, _SLOW, _FRESH, _REP, _HELPER = range(8)
_TABLE, _ENTRIES = 64, 4096
_ENTRY = 16  # address: 8 bytes; length: 4; 2 * instructions + ``jump``: 2; offset + 1 of a REP, 0: 2
_IS_HELPED = 1 << 15  # with the latter
HELPED = 2
"""The request to stop that a block makes which ends with a REP to be helped."""

_CODE = bytes.fromhex(
    # rdi: engine, rsi: address, edx: length, rcx: the shared memory
    "89d2"              # mov  edx, edx
    "483b7130"          # cmp  rsi, [rcx + 48]       the next iteration of the REP before it?
    "752e"              # jne  look
    "488b4108"          # mov  rax, [rcx + 8]
    "4885c0"            # test rax, rax
    "7501"              # jne  asked
    "c3"                # ret
    "483d00000100"      # asked: cmp rax, 0x10000    for ``HELPED`` alone?
    "0f8595000000"      # jne  slow                  a stop is requested
    "57565251"          # push rdi, rsi, rdx, rcx
    "4883ec08"          # sub  rsp, 8
    "ff5138"            # call [rcx + 56]
    "4883c408"          # add  rsp, 8
    "595a5e5f"          # pop  rcx, rdx, rsi, rdi
    "85c0"              # test eax, eax
    "757e"              # jne  slow                  it could not
    "c3"                # ret
    "4889f0"            # look: mov rax, rsi
    "48c1e80c"          # shr  rax, 12
    "31f0"              # xor  eax, esi
    "25ff0f0000"        # and  eax, 4095
    "c1e004"            # shl  eax, 4
    "4c8d440140"        # lea  r8, [rcx + rax + 64]
    "493930"            # cmp  [r8], rsi             this block?
    "7562"              # jne  slow
    "41395008"          # cmp  [r8 + 8], edx
    "755c"              # jne  slow
    "450fb7480c"        # movzx r9d, word [r8 + 12]
    "4183f902"          # cmp  r9d, 2                one instruction, and no jump,
    "750d"              # jne  several
    "4889f0"            # mov  rax, rsi
    "482b4110"          # sub  rax, [rcx + 16]
    "483b4118"          # cmp  rax, [rcx + 24]       inside the last block?
    "7244"              # jb   slow
    "41d1e9"            # several: shr r9d, 1        the instructions
    "4883790800"        # cmp  qword [rcx + 8], 0
    "753a"              # jne  slow                  a stop is requested
    "488b01"            # mov  rax, [rcx]
    "4c29c8"            # sub  rax, r9
    "7c32"              # jl   slow                  more than is left
    "488901"            # mov  [rcx], rax
    "48897110"          # mov  [rcx + 16], rsi
    "48895118"          # mov  [rcx + 24], rdx
    "48894928"          # mov  [rcx + 40], rcx       not zero: fresh
    "410fb7400e"        # movzx eax, word [r8 + 14]  the REP that ends it, 0 for none
    "0fbaf00f"          # btr  eax, 15               is it to be helped?
    "0f92410a"          # setc byte [rcx + 10]       then stop at its next iteration: ``HELPED``
    "488d4406ff"        # lea  rax, [rsi + rax - 1]
    "664183780e00"      # cmp  word [r8 + 14], 0
    "7504"              # jne  rep
    "4883c8ff"          # or   rax, -1
    "48894130"          # rep: mov [rcx + 48], rax
    "c3"                # ret
    "ff6120"            # slow: jmp [rcx + 32]
)  # fmt: skip


class BlockCounter:
    """A budget of instructions, and the table of blocks that the machine code subtracts from it.

    slow: called with address and length of every other block, before it runs. help: called before the
    next iteration of a REP that is to be helped; False: ``slow`` is to be called, too.
    """

    def __init__(self, slow: Callable[[int, int], None], help: Callable[[], bool]) -> None:
        self._memory = mmap.mmap(-1, _TABLE + _ENTRIES * _ENTRY)
        anchor = ctypes.c_char.from_buffer(self._memory)
        self.data = ctypes.addressof(anchor)
        self._words = memoryview(self._memory)[:_TABLE].cast("q")
        self._bytes = memoryview(self._memory)
        self._python = _HOOK(lambda _engine, address, length, _data: slow(address, length))
        address = ctypes.cast(self._python, ctypes.c_void_p).value or 0
        self._words[_SLOW] = address
        self._helper = _HELP(lambda: not help())
        self.helper = self.python_helper = ctypes.cast(self._helper, ctypes.c_void_p).value or 0
        self._code = machine_code.executable(_CODE)
        self.rep = -1
        self.callback = address if self._code is None else machine_code.address(self._code)
        self.forget_all()

    @property
    def left(self) -> int:
        """Instructions that may still be executed."""
        return self._words[_LEFT]

    @left.setter
    def left(self, value: int) -> None:
        self._words[_LEFT] = value

    @property
    def helper(self) -> int:
        """The address of the function that is called in place of ``help``. It takes what the hook does,
        gives 0 when it has helped, and withdraws the request ``HELPED`` when a block without help is to
        be next."""
        return self._words[_HELPER]

    @helper.setter
    def helper(self, address: int) -> None:
        self._words[_HELPER] = address

    def stop(self, bit: int, wanted: bool) -> None:
        """Request, or withdraw, a call of ``slow`` for every block; there are 8 independent requests.
        May be called from any thread: each is a byte of its own."""
        self._bytes[8 * _STOP + bit] = wanted

    def stopping(self, bit: int) -> bool:
        return bool(self._bytes[8 * _STOP + bit])

    @property
    def rep(self) -> int:
        """The address of the REP that ended the last block, -1 for none: its next iteration is a block
        that is not counted."""
        address = self._words[_REP]
        return address if address == -1 else address & (1 << 64) - 1

    @rep.setter
    def rep(self, address: int) -> None:
        self._words[_REP] = address if address < 0 else _signed(address)

    def remember(
        self, address: int, length: int, instructions: int, rep: int = -1, *, helped: bool = False,
        jump: bool = False,
    ) -> None:  # fmt: skip
        """From now on count this block without calling ``slow``. rep: the offset of the REP that ends
        it, -1 for none. helped: make the request ``HELPED`` then. jump: it is one jump, no store."""
        at = _place(address)
        self._bytes[at : at + 8] = address.to_bytes(8, "little")
        self._bytes[at + 8 : at + 12] = length.to_bytes(4, "little")
        self._bytes[at + 12 : at + 14] = (2 * instructions + jump).to_bytes(2, "little")
        self._bytes[at + 14 : at + _ENTRY] = (rep + 1 | _IS_HELPED * helped).to_bytes(2, "little")

    def forget(self, address: int) -> None:
        """Call ``slow`` again for the block at ``address``."""
        at = _place(address)
        self._bytes[at + 8 : at + 12] = b"\xff\xff\xff\xff"  # no block has this length

    @staticmethod
    def forget_in(table: bytearray, address: int) -> None:
        """``forget`` in a table that ``save`` has returned."""
        at = _place(address) - _TABLE
        table[at + 8 : at + 12] = b"\xff\xff\xff\xff"

    def save(self) -> bytearray:
        """A copy of the table, for ``load``."""
        return bytearray(self._bytes[_TABLE:])

    def load(self, table: bytearray | None) -> None:
        """Replace the table, None: by an empty one."""
        if table is None:
            self.forget_all()
        else:
            self._bytes[_TABLE:] = table

    def forget_all(self) -> None:
        ctypes.memset(self.data + _TABLE, 0xFF, _ENTRIES * _ENTRY)

    def entered(self, address: int, length: int) -> None:
        """Set the block that is being entered now, 0, 0 for none. Called by ``slow``."""
        self._words[_AT], self._words[_LENGTH], self._words[_FRESH] = _signed(address), length, 0

    def last(self) -> tuple[int, int] | None:
        """Address and length of the block that the machine code counted last; None if it has counted
        none since the last call of this or ``entered``."""
        words = self._words
        if not words[_FRESH]:
            return None
        words[_FRESH] = 0
        return words[_AT] & (1 << 64) - 1, words[_LENGTH]


def _place(address: int) -> int:
    return _TABLE + ((address ^ address >> 12) & (_ENTRIES - 1)) * _ENTRY


def _signed(address: int) -> int:
    return address - (1 << 64) if address >> 63 else address
