"""Random page tables: ``walk`` against a reference written from the SDM, and against Unicorn's MMU."""

from __future__ import annotations

import random

import pytest
from guest_lab import CODE, Lab, Oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import walk
from cores.x86.registers import RAX, RBX, Cr0, Cr4, Efer, Flag, Vector

GVA = 0x8000201000
FRAME = 0x60000
LAB = Lab()


def reference(levels, mode, kind) -> int | None:
    """The #PF error code, or None: from the sentences of SDM vol. 3, 4.6.1 and 4.7.

    levels: sets of bit names, PML4 first, the last is the leaf. mode: names of what is enabled, and
    "user". kind: "read" | "write" | "fetch".
    """
    code = {"read": 0, "write": 2, "fetch": 16 if mode & {"NXE", "SMEP"} else 0}[kind]
    code += 4 if "user" in mode else 0
    for depth, bits in enumerate(levels):
        if "P" not in bits:
            return code
        reserved = "HIGH" in bits or (depth == 0 and "PS" in bits)
        reserved |= "NX" in bits and "NXE" not in mode
        if reserved:
            return code + 9
    everywhere = set.intersection(*levels)
    anywhere = set.union(*levels)
    user_page = "US" in everywhere
    if "user" in mode:
        refused = [not user_page, kind == "write" and "RW" not in everywhere]
    elif kind == "fetch":
        refused = [user_page and "SMEP" in mode]
    else:
        refused = [
            user_page and "SMAP" in mode and "AC" not in mode,
            kind == "write" and "WP" in mode and "RW" not in everywhere,
        ]
    refused.append(kind == "fetch" and "NX" in anywhere)
    return code + 1 if any(refused) else None


BITS = {"P": 1, "RW": 2, "US": 4, "A": 32, "D": 64, "PS": 128, "HIGH": 1 << 44, "NX": 1 << 63}
_bits = st.builds(
    lambda common, rare: common | rare,
    st.sets(st.sampled_from(["RW", "US", "A", "D"])),
    st.sampled_from([{"P"}, {"P"}, {"P"}, {"P"}, {"P", "NX"}, {"P", "NX"}, {"P", "HIGH"}, set()]),
)


def install(lab: Lab, levels, mode) -> list[int]:
    """Write the levels into the lab's tables and the mode into its control registers."""
    for table in range(0x20000, 0x24000, 8):
        lab.poke(table, 0)
    entries = [sum(BITS[bit] for bit in bits) for bits in levels]
    size = 1 << (39 - 9 * (len(levels) - 1))
    entries[-1] |= FRAME & -size
    lab.cpu.cr0 = lab.cpu.cr0 & ~Cr0.WP | ("WP" in mode) * Cr0.WP
    lab.cpu.cr4 &= ~(Cr4.SMEP | Cr4.SMAP)
    lab.cpu.cr4 |= ("SMEP" in mode) * Cr4.SMEP | ("SMAP" in mode) * Cr4.SMAP
    lab.cpu.efer = lab.cpu.efer & ~Efer.NXE | ("NXE" in mode) * Efer.NXE
    lab.cpu.rflags = 2 | ("AC" in mode) * Flag.AC
    return lab.chain(GVA, entries)


def outcome(lab: Lab, mode, kind) -> int | None:
    """walk's error code, None when it permits the access."""
    write, execute = kind == "write", kind == "fetch"
    try:
        walk(lab.memory, lab.cpu, GVA, write=write, execute=execute, user="user" in mode)
    except GuestFault as fault:
        return fault.error if (fault.vector, fault.address) == (Vector.PF, GVA) else -1
    return None


@st.composite
def tables(draw):
    """Four levels, or fewer where a large page ends the walk; now and then PS where it is reserved."""
    depth = draw(st.sampled_from([4, 4, 4, 3, 2]))
    levels = [draw(_bits) for _ in range(depth)]
    if depth < 4:
        levels[-1].add("PS")
    elif draw(st.integers(0, 15)) == 0:
        levels[0].add("PS")
    return levels


@settings(max_examples=400, deadline=None)
@given(
    tables(),
    st.sets(st.sampled_from(["WP", "SMEP", "SMAP", "NXE", "AC", "user"])),
    st.sampled_from(["read", "write", "fetch"]),
)
def test_walk_equals_reference(levels, mode, kind):
    """For any entries and mode, ``walk`` refuses exactly what the SDM's sentences refuse, with their
    error code."""
    install(LAB, levels, mode)
    assert outcome(LAB, mode, kind) == reference(levels, mode, kind)


# mov rax, [rbx] / mov [rbx], rax / jmp rbx, at ring 0; and `iretq` with which to go to ring 3.
CODE_BYTES = bytes.fromhex("488b03 488903 ffe3 48cf")
READ, WRITE, JUMP, IRETQ = CODE, CODE + 3, CODE + 6, CODE + 8
USER_CODE = 0x18000000000


@pytest.fixture(scope="module")
def oracle():
    lab = Lab(CODE_BYTES)
    for size in (1 << 12, 1 << 21, 1 << 30):  # something harmless to fetch, whatever the page's size
        lab.memory.write(FRAME & -size | GVA & (size - 1), b"\x90" * 16)
    oracle = Oracle(lab)
    lab.poke(0x15000 + 0x50 * 8, 0)
    oracle.reset()
    if oracle.step(WRITE, {RBX: 0x50000}) != Vector.PF or oracle.error != 2:
        pytest.skip("this Unicorn keeps its error code somewhere else: nothing to compare with")
    return oracle


def map_user_code(lab: Lab) -> None:
    """The code page again, for ring 3, in tables of its own."""
    lab.poke(0x12000 + (USER_CODE >> 39 & 0x1FF) * 8, 0x25027)
    lab.poke(0x25000, 0x26027)
    lab.poke(0x26000, 0x27027)
    lab.poke(0x27000, CODE | 0x67)


def in_unicorn(oracle: Oracle, mode, kind) -> int | None:
    """Make the same access by an instruction under Unicorn's MMU, at ring 0 or 3."""
    oracle.reset()
    at = {"read": READ, "write": WRITE, "fetch": JUMP}[kind]
    if "user" in mode:
        flags = oracle.lab.cpu.rflags
        oracle.lab.poke(0x180000, USER_CODE + (at - CODE), 0x33, flags, 0x170000, 0x2B)
        assert oracle.step(IRETQ, {4: 0x180000}) is None
        assert oracle.selector(1) & 3 == 3
        at = oracle.rip
    elif "AC" in mode:
        oracle.lab.poke(0x180000, at, 0x10, oracle.lab.cpu.rflags, 0x170000, 0x18)
        assert oracle.step(IRETQ, {4: 0x180000}) is None
    vector = oracle.step(at, {RBX: GVA, RAX: 0x9090909090909090})  # what is stored may be fetched later
    if vector is None and kind == "fetch":
        vector = oracle.step(oracle.rip)
    if vector is None:
        return None
    assert (vector, oracle.cr2) == (Vector.PF, GVA)
    return oracle.error


@pytest.mark.parametrize("seed", range(8))
def test_walk_equals_unicorn(oracle, seed):
    """Fault or not, error code, and every A and D bit: walk and Unicorn's own MMU agree."""
    chance = random.Random(seed)
    lab = oracle.lab
    for _ in range(50):
        depth = chance.choice([4, 4, 4, 3, 2])
        levels = [
            {bit for bit in ("RW", "US", "A", "D") if chance.random() < 0.75}
            | ({"P"} if chance.random() < 0.96 else set())
            | ({"NX"} if chance.random() < 0.12 else set())
            | ({"HIGH"} if chance.random() < 0.03 else set())
            for _ in range(depth)
        ]
        if depth < 4:
            levels[-1].add("PS")
        mode = {m for m in ("WP", "SMEP", "SMAP", "NXE", "AC", "user") if chance.random() < 0.5}
        if chance.random() < 0.7:
            mode.add("NXE")
        kind = chance.choice(["read", "write", "fetch"])
        places = install(lab, levels, mode)
        map_user_code(lab)
        initial = [lab.peek(at) for at in places]
        ours = outcome(lab, mode, kind)
        our_entries = [lab.peek(at) for at in places]
        for at, entry in zip(places, initial, strict=True):
            lab.poke(at, entry)
        theirs = in_unicorn(oracle, mode, kind)
        case = (levels, mode, kind)
        assert ours == theirs, case
        their_entries = [lab.peek(at) for at in places]
        if depth == 2 and ours is not None:  # Unicorn marks a 1-GiB leaf before it refuses: lawful
            their_entries[-1] = our_entries[-1]
        assert our_entries == their_entries, case
