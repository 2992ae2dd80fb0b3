"""Segment loads and descriptor queries, rule by rule, and against Unicorn."""

from __future__ import annotations

import random

import pytest
from guest_lab import CODE, Lab, Oracle

from cores.x86.faults import GuestFault
from cores.x86.registers import CS, DS, ES, FS, GS, RAX, RBX, SS, Vector
from cores.x86.system import descriptors
from cores.x86.system.descriptors import Descriptor, load_ldtr, load_segment, load_tr

NEW = 0x50
"""The first selector behind the boot GDT."""


def raw(type_: int, *, s=1, dpl=0, p=1, flags=0xC, base=0, limit=0xFFFFF) -> int:
    """A descriptor's 8 bytes. flags: G D/B L AVL."""
    access = type_ | s << 4 | dpl << 5 | p << 7
    return (
        limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40
        | (limit >> 16) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56
    )  # fmt: skip


def code_of(call, *args, **kwargs) -> tuple[int, int | None]:
    with pytest.raises(GuestFault) as caught:
        call(*args, **kwargs)
    return caught.value.vector, caught.value.error


@pytest.fixture
def lab():
    return Lab()


def load(lab: Lab, index: int, selector: int) -> tuple[int, int | None]:
    """A load that must fault and change nothing."""
    before = lab.cpu.copy()
    code = code_of(load_segment, lab.mmu, lab.cpu, index, selector)
    assert lab.cpu == before
    return code


def test_decoding():
    """Base, limit (with granularity) and attributes are assembled from their fields."""
    descriptor = Descriptor(raw(0x3, dpl=3, base=0x12345678, limit=0xABCDE), 0, 0)
    assert (descriptor.base, descriptor.limit) == (0x12345678, 0xABCDEFFF)
    assert descriptor.attributes == 0xC0F3
    assert (descriptor.writable, descriptor.readable, descriptor.code) == (True, True, False)
    wide = Descriptor(raw(0x9, s=0, flags=0, base=0x80112233, limit=0x67), 0xFFFF8000, 0)
    assert (wide.base, wide.limit, wide.system) == (0xFFFF800080112233, 0x67, True)


def test_load_sets_hidden_part_and_accessed_bit(lab):
    """FS takes the descriptor's 32-bit base; the accessed bit is written to the table once."""
    selector = lab.gdt(NEW, raw(0x2, base=0xDEAD0000, limit=0x1234, flags=0))
    load_segment(lab.mmu, lab.cpu, FS, selector)
    fs = lab.cpu.segments[FS]
    assert (fs.selector, fs.base, fs.limit, fs.attributes) == (NEW, 0xDEAD0000, 0x1234, 0x93)
    assert lab.peek(0x11000 + NEW) == raw(0x3, base=0xDEAD0000, limit=0x1234, flags=0)


@pytest.mark.parametrize("index", [DS, ES, FS, GS])
@pytest.mark.parametrize("selector", [0, 3])
def test_null_loads(lab, index, selector):
    """A null selector is valid in a data register, and clears the base, as on Intel."""
    lab.cpu.segments[index].base = 0x1234
    load_segment(lab.mmu, lab.cpu, index, selector)
    segment = lab.cpu.segments[index]
    assert (segment.selector, segment.base, segment.present) == (selector, 0, False)


@pytest.mark.parametrize(
    ("descriptor", "selector", "expected"),
    [
        (raw(0xB), NEW, None),  # readable code
        (raw(0x9), NEW, (Vector.GP, NEW)),  # execute only
        (raw(0x2, s=0), NEW, (Vector.GP, NEW)),  # system
        (raw(0x3, p=0), NEW, (Vector.NP, NEW)),
        (raw(0x3), NEW | 3, (Vector.GP, NEW)),  # RPL > DPL
        (raw(0xF), NEW | 3, None),  # conforming code: any RPL
        (raw(0x3), NEW + 8, (Vector.GP, NEW + 8)),  # beyond the limit
        (raw(0x3), NEW | 4, (Vector.GP, NEW | 4)),  # there is no LDT
    ],
)
def test_data_segment_checks(lab, descriptor, selector, expected):
    """Type, privilege and presence are checked, each with its exception and the selector as error
    code."""
    lab.gdt(NEW, descriptor)
    if expected is None:
        load_segment(lab.mmu, lab.cpu, DS, selector)
        assert lab.cpu.segments[DS].selector == selector
    else:
        assert load(lab, DS, selector) == expected


@pytest.mark.parametrize(
    ("descriptor", "selector", "expected"),
    [
        (raw(0x3), NEW, None),
        (raw(0x1), NEW, (Vector.GP, NEW)),  # read-only
        (raw(0xB), NEW, (Vector.GP, NEW)),  # code
        (raw(0x3), NEW | 1, (Vector.GP, NEW)),  # RPL is not CPL
        (raw(0x3, dpl=3), NEW, (Vector.GP, NEW)),  # DPL is not CPL
        (raw(0x3, p=0), NEW, (Vector.SS, NEW)),
        (raw(0x3), 0, None),  # null at CPL 0
        (raw(0x3), 3, (Vector.GP, 0)),  # null with another RPL
    ],
)
def test_stack_segment_checks(lab, descriptor, selector, expected):
    """SS must be writable data of exactly this privilege, or null below CPL 3."""
    lab.gdt(NEW, descriptor)
    if expected is None:
        load_segment(lab.mmu, lab.cpu, SS, selector)
        assert (lab.cpu.segments[SS].selector, lab.cpu.segments[SS].dpl) == (selector, 0)
    else:
        assert load(lab, SS, selector) == expected


def test_user_mode_loads(lab):
    """Ring 3 may load its own segments, not the kernel's, and no null SS. A load of CS is #UD."""
    lab.user()
    load_segment(lab.mmu, lab.cpu, DS, 0x2B)
    assert load(lab, DS, 0x18) == (Vector.GP, 0x18)
    assert load(lab, SS, 3) == (Vector.GP, 0)
    assert load(lab, CS, 0x33) == (Vector.UD, None)


def test_ldt(lab):
    """LLDT makes the LDT's selectors valid; a null LLDT makes them invalid again."""
    lab.poke(0x30000 + 8, raw(0x3, base=0x77))
    lab.gdt(NEW, raw(0x2, s=0, flags=0, base=0x30000, limit=0xF), 0)
    load_ldtr(lab.mmu, lab.cpu, NEW)
    assert (lab.cpu.ldtr.selector, lab.cpu.ldtr.base, lab.cpu.ldtr.limit) == (NEW, 0x30000, 0xF)
    load_segment(lab.mmu, lab.cpu, GS, 0xC)
    assert lab.cpu.segments[GS].base == 0x77
    assert load(lab, GS, 0x14) == (Vector.GP, 0x14)
    load_ldtr(lab.mmu, lab.cpu, 0)
    assert load(lab, GS, 0xC) == (Vector.GP, 0xC)


def test_tr(lab):
    """LTR takes an available TSS, marks it busy in the table, and refuses it the next time."""
    lab.gdt(NEW, raw(0x9, s=0, flags=0, base=0x30000, limit=0x67), 0xFFFF8000)
    load_tr(lab.mmu, lab.cpu, NEW)
    assert (lab.cpu.tr.base, lab.cpu.tr.attributes) == (0xFFFF800000030000, 0x8B)
    assert lab.peek(0x11000 + NEW) >> 40 & 0xF == 0xB
    assert code_of(load_tr, lab.mmu, lab.cpu, NEW) == (Vector.GP, NEW)


@pytest.mark.parametrize("loader", [load_ldtr, load_tr])
def test_system_segment_checks(lab, loader):
    """A wrong type, an LDT selector, half a descriptor, a bad upper half and absence each give their
    exception."""
    kind = 0x2 if loader is load_ldtr else 0x9
    good = raw(kind, s=0, flags=0, base=0x30000, limit=0x67)
    for selector, low, high, expected in [
        (NEW, raw(0x3), 0, (Vector.GP, NEW)),
        (NEW | 4, good, 0, (Vector.GP, NEW | 4)),
        (NEW, good & ~(1 << 47), 0, (Vector.NP, NEW)),
        (NEW, good, 1 << 40, (Vector.GP, NEW)),
        (NEW, good, 0x8000, (Vector.GP, NEW)),
        (NEW + 8, good, 0, (Vector.GP, NEW + 8)),
    ]:
        lab.gdt(NEW, low, high)
        assert code_of(loader, lab.mmu, lab.cpu, selector) == expected
    if loader is load_tr:
        assert code_of(load_tr, lab.mmu, lab.cpu, 0) == (Vector.GP, 0)


def test_tables_are_read_as_supervisor(lab):
    """A user's load reads the GDT from a supervisor page; an unmapped base faults."""
    lab.user()
    load_segment(lab.mmu, lab.cpu, ES, 0x2B)
    lab.cpu.gdtr.base = 0x5000
    with pytest.raises(GuestFault) as caught:
        load_segment(lab.mmu, lab.cpu, ES, 0x2B)
    assert (caught.value.vector, caught.value.error, caught.value.address) == (Vector.PF, 0, 0x5028)


def test_questions_have_no_side_effects(lab):
    """LAR, LSL, VERR and VERW never set an accessed bit nor fault on selectors."""
    lab.gdt(NEW, raw(0x0, limit=0xFF, flags=0))
    before = lab.ram.contents()
    ask = (lab.mmu, lab.cpu)
    assert descriptors.access_rights(*ask, NEW) == 0x9000
    assert descriptors.segment_limit(*ask, NEW) == 0xFF
    assert descriptors.verify_read(*ask, NEW) is True
    assert descriptors.verify_write(*ask, NEW) is False
    for nothing in (0, 3, 0xFFF8, NEW | 4):
        assert descriptors.access_rights(*ask, nothing) is None
        assert descriptors.verify_read(*ask, nothing) is False
    assert descriptors.access_rights(*ask, 0x40) == 0x8B00
    assert descriptors.segment_limit(*ask, 0x40) == 0x67
    assert descriptors.verify_read(*ask, 0x40) is False
    assert lab.ram.contents() == before


# mov ds,ax / mov ss,ax / mov fs,ax / lar ebx,eax / lsl ebx,eax / verr ax / verw ax / lldt ax / ltr ax
OLD_TYPES = (1, 3, 4, 5)
STUBS = {
    DS: "8ed8", SS: "8ed0", FS: "8ee0",
    "lar": "0f02d8", "lsl": "0f03d8", "verr": "0f00e0", "verw": "0f00e8",
    "lldt": "0f00d0", "ltr": "0f00d8",
}  # fmt: skip
ASK = {
    "lar": descriptors.access_rights, "lsl": descriptors.segment_limit,
    "verr": descriptors.verify_read, "verw": descriptors.verify_write,
}  # fmt: skip


@pytest.fixture(scope="module")
def oracle():
    lab = Lab(b"".join(bytes.fromhex(stub).ljust(4, b"\x90") for stub in STUBS.values()))
    return Oracle(lab)


def in_unicorn(oracle: Oracle, what, selector: int) -> object:
    oracle.reset()
    vector = oracle.step(CODE + 4 * list(STUBS).index(what), {RAX: selector, RBX: 0})
    if vector is not None:
        return (vector, oracle.error)
    if isinstance(what, int):
        return oracle.fs_base if what == FS else oracle.selector(what)
    if what in ("lldt", "ltr"):
        return None
    zero = bool(oracle.rflags & 0x40)
    return (oracle.gpr(RBX) if zero else None) if what in ("lar", "lsl") else zero


def ours(lab: Lab, what, selector: int) -> object:
    try:
        if isinstance(what, int):
            load_segment(lab.mmu, lab.cpu, what, selector)
            segment = lab.cpu.segments[what]
            return segment.base if what == FS else segment.selector
        if what in ("lldt", "ltr"):
            (load_ldtr if what == "lldt" else load_tr)(lab.mmu, lab.cpu, selector)
            return None
        return ASK[what](lab.mmu, lab.cpu, selector)
    except GuestFault as fault:
        return fault.vector, fault.error


@pytest.mark.parametrize("what", list(STUBS))
def test_random_descriptors_as_unicorn(oracle, what):
    """400 random descriptors and selectors: results, exceptions and table bytes as in Unicorn.

    Left out where Unicorn differs from the SDM: null SS with RPL 1-3, a null LTR, and old 16- and
    32-bit system types, which 64-bit mode does not know (SDM vol. 2, table 3-53).
    """
    chance, lab = random.Random(str(what)), oracle.lab
    for _ in range(400):
        descriptor = raw(
            chance.randrange(16), s=chance.random() < 0.7, dpl=chance.choice([0, 0, 0, 3, 1]),
            p=chance.random() < 0.9, flags=chance.choice([0, 2, 4, 0xA, 0xC]),
            base=chance.getrandbits(31), limit=chance.getrandbits(20),
        )  # fmt: skip
        selector = chance.choice([NEW, NEW, NEW, NEW | 3, NEW | 1, 0, 3, 0x68, NEW | 4])
        if what in ("lldt", "ltr") and chance.random() < 0.8:
            descriptor = raw(0x2 if what == "lldt" else 0x9, s=0, flags=0, p=chance.random() < 0.8)
        if (
            not isinstance(what, int)
            and not descriptor >> 44 & 1
            and descriptor >> 40 & 0xF in OLD_TYPES
        ):
            continue
        if (what == SS and selector == 3) or (what == "ltr" and selector in (0, 3)):
            continue
        start = lab.cpu.copy()
        lab.gdt(NEW, descriptor, 0)
        expected = in_unicorn(oracle, what, selector)
        table = lab.peek(0x11000 + NEW)
        lab.gdt(NEW, descriptor, 0)
        case = (what, hex(descriptor), hex(selector))
        assert ours(lab, what, selector) == expected, case
        assert lab.peek(0x11000 + NEW) == table, case
        lab.cpu.assign(start)
