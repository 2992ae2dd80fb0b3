"""The rules of 4-level paging, one by one, and the guarantees of the TLB."""

from __future__ import annotations

import pytest
from guest_lab import CODE, Lab

from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import Mmu, walk
from cores.x86.mmu.paging_formats import ACCESSED, DIRTY, LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE
from cores.x86.mmu.stack import Stack
from cores.x86.registers import RSP, Cr0, Cr4, Efer, Flag, Vector

GVA = 0x8000123000
P, W, U = PRESENT, WRITABLE, USER
FRAME = 0x60000


def fault_of(call, *args, **kwargs) -> tuple[int, int | None, int | None]:
    with pytest.raises(GuestFault) as caught:
        call(*args, **kwargs)
    return caught.value.vector, caught.value.error, caught.value.address


@pytest.fixture
def lab():
    return Lab()


def stack(lab: Lab, rsp: int) -> Stack:
    lab.cpu.gpr[RSP] = rsp
    return Stack.current(lab.mmu)


def mapped(lab: Lab, *entries: int) -> list[int]:
    return lab.chain(GVA, list(entries))


def test_boot_tables_map_identically(lab):
    """A boot address translates to itself: 4 KiB pages below 2 MiB, 2 MiB pages above."""
    low, high = walk(lab.memory, lab.cpu, 0x12345), walk(lab.memory, lab.cpu, 0x212345)
    assert (low.gpa, low.size, low.page) == (0x12345, 4096, 0x12000)
    assert (high.gpa, high.size, high.frame) == (0x212345, 2 << 20, 0x200000)


@pytest.mark.parametrize("level", range(4))
def test_not_present_at_each_level(lab, level):
    """A clear P bit at any level is #PF with P = 0 in the error code and the address for CR2."""
    entries = [P | W | U, P | W | U, P | W | U, P | W | U | FRAME]
    entries[level] &= ~P
    mapped(lab, *entries)
    assert fault_of(walk, lab.memory, lab.cpu, GVA + 5) == (Vector.PF, 0, GVA + 5)
    assert fault_of(walk, lab.memory, lab.cpu, GVA, write=True) == (Vector.PF, 2, GVA)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize(
    ("bit", "access", "code"),
    [(W, {"write": True, "user": True}, 7), (U, {"user": True}, 5), (0, {"execute": True}, 17)],
)
def test_one_level_takes_a_right_away(lab, level, bit, access, code):
    """Rights are those of all levels combined, so one level suffices to refuse."""
    entries = [P | W | U, P | W | U, P | W | U, P | W | U | FRAME]
    entries[level] = entries[level] & ~bit if bit else entries[level] | NO_EXECUTE
    mapped(lab, *entries)
    assert fault_of(walk, lab.memory, lab.cpu, GVA, **access) == (Vector.PF, code, GVA)


def test_write_protect_binds_the_supervisor_only_when_set(lab):
    """CR0.WP decides whether ring 0 may write to a read-only page."""
    mapped(lab, P | W, P | W, P | W, P | FRAME)
    assert fault_of(walk, lab.memory, lab.cpu, GVA, write=True)[1] == 3
    lab.cpu.cr0 &= ~Cr0.WP
    assert walk(lab.memory, lab.cpu, GVA, write=True).gpa == FRAME


def test_fetch_bit_needs_nxe_or_smep(lab):
    """The I bit of the error code is reported only with EFER.NXE or CR4.SMEP."""
    mapped(lab, P | W, P | W, P | W, 0)
    assert fault_of(walk, lab.memory, lab.cpu, GVA, execute=True)[1] == 16
    lab.cpu.efer &= ~Efer.NXE
    assert fault_of(walk, lab.memory, lab.cpu, GVA, execute=True)[1] == 0
    lab.cpu.cr4 |= Cr4.SMEP
    assert fault_of(walk, lab.memory, lab.cpu, GVA, execute=True)[1] == 16


def test_smep_keeps_the_supervisor_out_of_user_code(lab):
    """SMEP refuses ring 0 to execute a user page, and ring 3 not."""
    mapped(lab, P | W | U, P | W | U, P | W | U, P | U | FRAME)
    lab.cpu.cr4 |= Cr4.SMEP
    assert fault_of(walk, lab.memory, lab.cpu, GVA, execute=True)[1] == 17
    assert walk(lab.memory, lab.cpu, GVA, execute=True, user=True).gpa == FRAME


def test_smap_and_its_override(lab):
    """SMAP keeps ring 0 from user data unless AC is set; implicit accesses never profit from AC."""
    mapped(lab, P | W | U, P | W | U, P | W | U, P | W | U | FRAME)
    lab.cpu.cr4 |= Cr4.SMAP
    assert fault_of(walk, lab.memory, lab.cpu, GVA)[1] == 1
    lab.cpu.rflags |= Flag.AC
    assert walk(lab.memory, lab.cpu, GVA).gpa == FRAME
    assert fault_of(walk, lab.memory, lab.cpu, GVA, implicit=True)[1] == 1
    lab.user()
    assert fault_of(walk, lab.memory, lab.cpu, GVA, user=False)[1] == 1
    assert walk(lab.memory, lab.cpu, GVA).gpa == FRAME


@pytest.mark.parametrize(
    "entries",
    [
        (P | W | LARGE, P | W, P | W, P | FRAME),
        (P | W, P | W | LARGE | 1 << 13),
        (P | W, P | W | LARGE | 1 << 29),
        (P | W, P | W, P | W | LARGE | 1 << 13),
        (P | W, P | W, P | W | LARGE | 1 << 20),
        (P | W, P | W, P | W, P | FRAME | 1 << 40),
        (P | W | 1 << 51, P | W, P | W, P | FRAME),
    ],
)
def test_reserved_bits(lab, entries):
    """PS in a PML4 entry, low address bits of large pages and bits above MAXPHYADDR are reserved."""
    mapped(lab, *entries)
    assert fault_of(walk, lab.memory, lab.cpu, GVA) == (Vector.PF, 9, GVA)


def test_nx_is_reserved_without_nxe(lab):
    """Bit 63 means no-execute with EFER.NXE, and is reserved without."""
    mapped(lab, P | W, P | W, P | W, P | FRAME | NO_EXECUTE)
    assert walk(lab.memory, lab.cpu, GVA).executable is False
    lab.cpu.efer &= ~Efer.NXE
    assert fault_of(walk, lab.memory, lab.cpu, GVA)[1] == 9


def test_large_pages(lab):
    """PS ends the walk at 1 GiB and 2 MiB; PAT (bit 12) is not part of the address."""
    mapped(lab, P | W, P | W | LARGE | 1 << 12)
    big = walk(lab.memory, lab.cpu, GVA)
    assert (big.gpa, big.size, big.page) == (0x123000, 1 << 30, 0x8000000000)
    mapped(lab, P | W, P | W, P | W | LARGE | 0x200000 | 1 << 12)
    middle = walk(lab.memory, lab.cpu, GVA)
    assert (middle.gpa, middle.size, middle.frame) == (0x323000, 2 << 20, 0x200000)


def test_accessed_and_dirty(lab):
    """A walk sets A everywhere, D in the leaf on a write; not with mark=False, nor when refused."""
    places = mapped(lab, P | W, P | W, P | W, P | W | FRAME)
    before = [lab.peek(at) for at in places]
    assert walk(lab.memory, lab.cpu, GVA, write=True, mark=False).dirty is False
    assert [lab.peek(at) for at in places] == before
    assert walk(lab.memory, lab.cpu, GVA).dirty is False
    assert [lab.peek(at) for at in places] == [entry | ACCESSED for entry in before]
    assert walk(lab.memory, lab.cpu, GVA, write=True).dirty is True
    assert lab.peek(places[3]) == before[3] | ACCESSED | DIRTY
    places = mapped(lab, P | W, P | W, P | W, P | FRAME)
    with pytest.raises(GuestFault):
        walk(lab.memory, lab.cpu, GVA, write=True)
    assert not lab.peek(places[3]) & (ACCESSED | DIRTY)


def test_tables_outside_ram_read_all_ones(lab):
    """An entry that lies in no RAM reads all ones, in which reserved bits are set."""
    mapped(lab, P | W, P | W, P | W | 0x30000000)
    lab.poke(0x22000 + (GVA >> 21 & 0x1FF) * 8, P | W | 0x30000000)
    assert fault_of(walk, lab.memory, lab.cpu, GVA)[1] == 9


@pytest.mark.parametrize("gva", [0x800000000000, 0xFFFF7FFFFFFFFFFF, 1 << 63])
def test_non_canonical(lab, gva):
    """A non-canonical address is #GP(0) for data and #SS(0) for the stack."""
    assert fault_of(lab.mmu.read, gva, 1) == (Vector.GP, 0, None)
    assert fault_of(stack(lab, gva + 8).push, [1], 8) == (Vector.SS, 0, None)


def test_write_across_pages_is_all_or_nothing(lab):
    """When the second page faults nothing is stored, and CR2 gets that page's first byte."""
    lab.poke(0x15000 + 0x51 * 8, 0)
    lab.memory.writes = []
    assert fault_of(lab.mmu.write, 0x50FFC, b"x" * 8) == (Vector.PF, 2, 0x51000)
    assert lab.memory.read(0x50FFC, 4) == bytes(4)
    assert lab.memory.writes == []
    lab.mmu.write(0x52FFC, b"abcdefgh")
    assert lab.mmu.read(0x52FFC, 8) == b"abcdefgh"
    assert lab.memory.writes == [(0x52FFC, 4), (0x53000, 4)]


def test_writes_longer_than_pages(lab):
    """A long range crosses as many pages as it needs."""
    data = bytes(range(256)) * 40
    lab.mmu.write(0x50F00, data)
    assert lab.mmu.read(0x50F00, len(data)) == data


def test_fetch_ends_where_the_next_page_cannot_be_executed(lab):
    """Fetch gives 15 bytes, fewer before a bad page, and raises when the first byte is bad."""
    lab.memory.write(0x50FF0, bytes(range(32)))
    assert lab.mmu.fetch(0x50FF8) == bytes(range(8, 23))
    lab.poke(0x15000 + 0x51 * 8, 0x51063 | NO_EXECUTE)
    lab.mmu.flush()
    assert lab.mmu.fetch(0x50FF8) == bytes(range(8, 16))
    assert fault_of(lab.mmu.fetch, 0x51000) == (Vector.PF, 17, 0x51000)
    assert fault_of(lab.mmu.translate, 0x51000, execute=True) == (Vector.PF, 17, 0x51000)


def test_fetching_ahead_leaves_no_mark(lab):
    """Looking at the next page for an instruction's tail does not set its A bit."""
    lab.poke(0x15000 + 0x51 * 8, 0x51003)
    lab.mmu.fetch(0x50FF8)
    assert lab.peek(0x15000 + 0x51 * 8) == 0x51003


def test_fetch_knows_rings_apart(lab):
    """Code fetched at ring 0 is not for ring 3 to fetch, however well it is cached."""
    lab.mmu.fetch(CODE)
    lab.user()
    assert fault_of(lab.mmu.fetch, CODE) == (Vector.PF, 21, CODE)


def test_tlb_never_lends_rights(lab):
    """Cached translations still obey CPL, WP, SMAP and AC as they change."""
    mapped(lab, P | W | U, P | W | U, P | W | U, P | U | FRAME | ACCESSED | DIRTY)
    assert lab.mmu.translate(GVA) == FRAME
    assert fault_of(lab.mmu.translate, GVA, write=True)[1] == 3
    lab.cpu.cr0 &= ~Cr0.WP
    assert lab.mmu.translate(GVA, write=True) == FRAME
    lab.cpu.cr0 |= Cr0.WP
    assert fault_of(lab.mmu.translate, GVA, write=True)[1] == 3
    lab.cpu.cr4 |= Cr4.SMAP
    assert fault_of(lab.mmu.translate, GVA)[1] == 1
    lab.cpu.rflags |= Flag.AC
    assert lab.mmu.translate(GVA) == FRAME


def test_tlb_first_write_sets_dirty(lab):
    """A write through an entry that was cached by a read walks again, and sets D."""
    places = mapped(lab, P | W, P | W, P | W, P | W | FRAME)
    lab.mmu.read(GVA, 1)
    assert not lab.peek(places[3]) & DIRTY
    lab.mmu.write(GVA, b"x")
    assert lab.peek(places[3]) & DIRTY


def test_tlb_keeps_until_flushed_and_never_keeps_absence(lab):
    """A changed entry is unseen until flush, as on the CPU; a not-present one is seen at once."""
    places = mapped(lab, P | W, P | W, P | W, 0)
    assert fault_of(lab.mmu.translate, GVA)[1] == 0
    lab.poke(places[3], P | W | FRAME)
    assert lab.mmu.translate(GVA) == FRAME
    lab.poke(places[3], P | W | FRAME + 0x1000)
    assert lab.mmu.translate(GVA) == FRAME
    lab.mmu.flush(GVA)
    assert lab.mmu.translate(GVA) == FRAME + 0x1000


def test_tlb_is_bounded(lab, monkeypatch):
    """A guest that touches every page does not grow the TLB without end."""
    monkeypatch.setattr("cores.x86.mmu.paging._TLB_ENTRIES", 4)
    for page in range(0x20, 0x30):
        lab.mmu.translate(page << 12)
    assert len(lab.mmu._tlb) <= 4


def test_push_faults_at_the_first_push_that_fails(lab):
    """A frame over two pages faults where the CPU's pushes would, from the top down."""
    lab.poke(0x15000 + 0x50 * 8, 0)
    assert fault_of(stack(lab, 0x51010).push, [1, 2, 3, 4], 8) == (Vector.PF, 2, 0x50FF8)
    here = stack(lab, 0x52010)
    here.push([1, 2, 3, 4], 8)
    assert here.pointer == 0x51FF0
    assert here.pop(4, 8) == [4, 3, 2, 1]


def test_device_memory_is_reached_through_the_bus(lab):
    """The hole reads all ones through the same Mmu, and counts as a device access."""
    accesses = []
    lab.memory.on_access = lambda: accesses.append(1)
    assert Mmu(lab.memory, lab.cpu).read(0xA0000, 4) == b"\xff" * 4
    assert len(accesses) == 1


def test_peek_looks_without_asking_or_marking(lab):
    """A user page under SMAP, seen from ring 0, is shown; no A bit changes; it ends at a hole."""
    places = mapped(lab, P | W | U, P | W | U, P | W | U, P | U | NO_EXECUTE | FRAME)
    lab.cpu.cr4 |= Cr4.SMAP
    before = [lab.peek(at) for at in places]
    lab.memory.write(FRAME + 0xFFC, b"abcd")
    assert lab.mmu.peek(GVA + 0xFFC, 8) == b"abcd"
    assert [lab.peek(at) for at in places] == before
    assert fault_of(lab.mmu.peek, GVA + 0x1000, 4) == (Vector.PF, 4, GVA + 0x1000)


def test_changed_tables_of_fetched_code_are_noticed(lab):
    """A page of code is outdated as soon as CR3, or an entry that leads to it, leads elsewhere; a
    changed A bit alone does not make it so."""
    mapped(lab, *[P | W | U] * 3, P | W | U | FRAME)
    lab.mmu.fetch(GVA)
    used: list[tuple[int, int]] = []
    walk(lab.memory, lab.cpu, GVA, execute=True, mark=False, used=used)
    assert len(used) == 4
    for _ in range(2):
        assert not lab.mmu.outdated(GVA)
    for at, entry in used:
        for change in (P, NO_EXECUTE):
            lab.memory.write(at, (entry ^ change).to_bytes(8, "little"))
            assert lab.mmu.outdated(GVA) is (change is P or bool(lab.cpu.efer & Efer.NXE))
        lab.memory.write(at, (entry & ~ACCESSED).to_bytes(8, "little"))
        assert not lab.mmu.outdated(GVA)
        lab.memory.write(at, entry.to_bytes(8, "little"))
        assert not lab.mmu.outdated(GVA)
    at, entry = used[-1]
    lab.memory.write(at, (entry ^ 0x1000).to_bytes(8, "little"))
    assert lab.mmu.outdated(GVA)
    lab.memory.write(at, entry.to_bytes(8, "little"))
    assert not lab.mmu.outdated(GVA)
    lab.cpu.cr3 = 0x70000
    assert lab.mmu.outdated(GVA)
