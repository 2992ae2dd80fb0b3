"""What is known of a page that code is executed from (cores/vmm/patching/patcher.py)."""

from __future__ import annotations

from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE


class CodePage:
    """One page of guest RAM that code has been executed from. Offsets are within the page.

    starts: of the instructions discovered, with their decoded form.
    code: 1 for each byte that belongs to one of them. refused: where none begins that may run.
    tails: of those that reach into the next page: where their rest is in RAM. heads: the pages whose
        instructions reach into this one.
    data_accesses: data accesses so far. wrote_code: one of them changed an instruction.
    guarded: nothing stores here unseen any more; what was decoded before that may be stale.
    pushed_words: at a RET, and where the guest was stopped: the words that the code before it pushed.
    trusted: how often an indirect branch here has led to known code; TRUST times are enough.
    at: where it was last mapped for execution, so that branches into it arrive. aliased: at several
        addresses, so that nobody knows which page follows.
    synced, image: of a shared page: RAM's bytes and the twin's when they last agreed.
    """

    def __init__(self, gpa: int) -> None:
        self.gpa = gpa
        self.starts: dict[int, Instruction] = {}
        self.code = bytearray(PAGE)
        self.refused: set[int] = set()
        self.tails: dict[int, int] = {}
        self.heads: set[int] = set()
        self.pushed_words: dict[int, int] = {}
        self.trusted: dict[int, int] = {}
        self.data_accesses = 0
        self.wrote_code = False
        self.at: int | None = None
        self.aliased = False
        self.guarded = False
        self.shared = False
        self.synced = bytearray()
        self.image = bytearray()

    def forget(self) -> None:
        """Its code is other code now."""
        self.starts.clear()
        self.refused.clear()
        self.tails.clear()
        self.trusted.clear()
        self.code = bytearray(PAGE)


def differing(a: bytes, b: bytearray) -> list[int]:
    """The offsets at which two pages differ, looked for in pieces."""
    found: list[int] = []
    for base in range(0, PAGE, 64):
        if a[base : base + 64] != b[base : base + 64]:
            found += [at for at in range(base, base + 64) if a[at] != b[at]]
    return found
