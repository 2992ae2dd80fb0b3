"""Code pages: the patcher's knowledge of each page that code is executed from."""

from __future__ import annotations

from cores.vmm.patching.callout_code import JUMP_LENGTH, Callout
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE


class CodePage:
    """One page of guest RAM that code has been executed from. Offsets are within the page.

    starts: decoded instructions by the offset at which they begin.
    code: 1 for each byte that belongs to one of them. refused: offsets at which no instruction begins
        that may run.
    postponed: direct branches that trap once: where they lead has not been decoded.
    tails: of instructions that reach into the next page: the GPA of the rest. heads: the pages whose
        instructions reach into this one.
    data_accesses: data accesses since its code was last changed. changes: how often that was.
    guarded: every store to the page is seen; code decoded before that may be stale.
    pushed_words: words that the code itself has pushed, for each RET and each offset at which the guest
        was stopped: a RET that pops one of them returns to a known address.
    trusted: how often an indirect branch here led to known code; after TRUST times it is not caught.
    at: the GVA at which the page was last mapped for execution. places: all of them. aliased: there are
        several, so that the page that follows it is not known.
    met: how many of the known branch targets in it were decoded when it was last mapped.
    callouts: by the offset of the jump (cores/vmm/callouts.py).
    shared: it holds code and data, and the twin's page is readable and writable.
    synced, image: of a shared page: RAM's bytes and the twin's when they were last equal.
    """

    def __init__(self, gpa: int) -> None:
        self.gpa = gpa
        self.starts: dict[int, Instruction] = {}
        self.code = bytearray(PAGE)
        self.refused: set[int] = set()
        self.postponed: set[int] = set()
        self.tails: dict[int, int] = {}
        self.heads: set[int] = set()
        self.pushed_words: dict[int, int] = {}
        self.trusted: dict[int, int] = {}
        self.data_accesses = 0
        self.changes = 0
        self.at: int | None = None
        self.places: set[int] = set()
        self.met = 0
        self.callouts: dict[int, Callout] = {}
        self.guarded = False
        self.shared = False
        self.synced = bytearray()
        self.image = bytearray()

    @property
    def aliased(self) -> bool:
        return len(self.places) > 1

    def forget(self) -> None:
        """Drop everything decoded: the code has changed."""
        self.starts.clear()
        self.refused.clear()
        self.postponed.clear()
        self.tails.clear()
        self.trusted.clear()
        self.callouts.clear()
        self.met = 0
        self.code = bytearray(PAGE)

    def covering(self, offset: int) -> Callout | None:
        """The callout whose jump has a byte at ``offset``."""
        for at, callout in self.callouts.items():
            if at <= offset < at + JUMP_LENGTH:
                return callout
        return None


def differing(a: bytes, b: bytearray) -> list[int]:
    """The offsets at which two pages differ; compared in pieces of 64 bytes."""
    found: list[int] = []
    for base in range(0, PAGE, 64):
        if a[base : base + 64] != b[base : base + 64]:
            found += [at for at in range(base, base + 64) if a[at] != b[at]]
    return found
