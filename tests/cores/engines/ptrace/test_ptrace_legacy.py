"""16- and 32-bit code on the native trap engine: steps, stops, segments, and ways into 64-bit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cores.engines.base import KERNEL_SPACE, STEPPED, SYSTEM_CALL, Exit, Failed, Fault
from cores.engines.ptrace import host_support, stub
from cores.engines.ptrace.engine import PtraceEngine
from cores.engines.ptrace.legacy import CALLED, LEFT
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import PAGE, Ram
from cores.x86.registers import CS, DS, ES, FS, MASK32, RAX, RBX, RCX, RSP, SS, Efer, Flag, Vector
from cores.x86.virtual_cpu import Segment
from tests.flat_cpu import CODE as CODE_TYPE
from tests.flat_cpu import DATA as DATA_TYPE
from tests.flat_cpu import flat_cpu

CODE, DATA, STACK = 0x8000, 0x9000, 0xA000
WIDE = 0x4000  # D or B

pytestmark = pytest.mark.skipif(
    PtraceEngine.probe() is not None or not host_support.has_local_descriptors(),
    reason="trap:native does not run here, or not outside 64-bit code",
)


class Guest:
    """Pages of code, data and stack below 64 KiB, which no process could map, and the last RAM page at
    the end of the address space."""

    def __init__(self, bits: int) -> None:
        self.ram = Ram(4 << 20)
        self.engine = PtraceEngine()
        self.engine.load(PhysicalMemory(self.ram))
        self.cpu = flat_cpu(bits, rip=CODE)
        self.cpu.gpr[RSP] = STACK + 0x800
        self.origin = self.engine.origin(self.cpu)
        for page in (0, CODE, DATA, STACK):
            assert self.map(page)

    def map(self, page: int, executable: bool = True) -> bool:
        return self.engine.map(
            KERNEL_SPACE, page + self.origin & MASK32, page, PAGE, writable=True, executable=executable
        )

    def step(self, code: str, **registers: int) -> Exit:
        self.put(code, **registers)
        return self.engine.step(self.cpu)

    def run(self, code: str, **registers: int) -> Exit:
        self.put(code, **registers)
        return self.engine.run(self.cpu)

    def put(self, code: str, **registers: int) -> None:
        data = bytes.fromhex(code)
        at = self.cpu.segments[CS].base + CODE
        self.ram.view[at : at + PAGE] = data.ljust(PAGE, b"\xf4")
        self.cpu.rip = CODE
        names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
        for name, value in registers.items():
            self.cpu.gpr[names.index(name)] = value


@pytest.fixture(params=[32, 16])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    made = Guest(request.param)
    yield made
    made.engine.close()
    made.ram.close()


@pytest.fixture
def guest32() -> Iterator[Guest]:
    made = Guest(32)
    yield made
    made.engine.close()
    made.ram.close()


def test_inc_is_no_prefix(guest: Guest) -> None:
    """40 is INC EAX or INC AX, not a REX prefix; the stack pointer's upper half stays."""
    guest.cpu.gpr[RSP] |= 0x5555_0000_0000
    assert guest.step("40", eax=0xFFFF) is STEPPED
    wide = bool(guest.cpu.segments[CS].attributes & WIDE)
    assert guest.cpu.gpr[RAX] == (0x10000 if wide else 0)
    assert guest.step("50") is STEPPED
    assert guest.cpu.gpr[RSP] == 0x5555_0000_0000 + STACK + 0x800 - (4 if wide else 2)


@pytest.mark.parametrize(
    ("code", "vector", "error"),
    [
        ("fa", Vector.GP, 0), ("f4", Vector.GP, 0), ("e4 e9", Vector.GP, 0), ("0f 20 c0", Vector.GP, 0),
        ("cd 20", Vector.GP, 0), ("0f 0b", Vector.UD, None), ("cc", Vector.BP, None),
        ("ce", Vector.OF, None), ("cd 04", Vector.OF, None), ("62 06 00 90", Vector.BR, None),
        ("f7 f1", Vector.DE, None), ("8e d8", Vector.GP, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("free", [False, True], ids=["step", "run"])
def test_faults_and_traps(guest: Guest, code: str, vector: int, error: int | None, free: bool) -> None:
    """Exceptions have their vectors, and leave the guest at the instruction: #OF of INTO and #BR of
    BOUND too, which Linux reports as it does #GP."""
    guest.cpu.rflags |= Flag.OF
    if code.startswith("62") and guest.cpu.segments[CS].attributes & WIDE:
        code = "62 05 00 90 00 00"
    before = guest.cpu.gpr.copy()
    do = guest.run if free else guest.step
    exit = do(code, eax=0x8000_7FFF, ecx=0)
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.error) == (vector, error)
    assert guest.cpu.rip == CODE
    assert guest.cpu.gpr[RBX:] == before[RBX:]


def test_addresses_begin_where_the_host_maps_none(guest: Guest) -> None:
    """The guest's page 0 is mapped, and a fault has the guest's address."""
    guest.ram.view[0x10:0x14] = b"\x12\x34\x56\x78"
    wide = guest.cpu.segments[CS].attributes & WIDE
    load = "8b 1d 10 00 00 00" if wide else "66 8b 1e 10 00"
    assert guest.step(load) is STEPPED
    assert guest.cpu.gpr[RBX] == 0x78563412
    exit = guest.step("8b 1d 34 12 00 00" if wide else "8b 1e 34 12")
    assert exit == Fault(Vector.PF, None, 0x1234)


def test_addresses_wrap_at_4_gib(guest32: Guest) -> None:
    """An address above 4 GiB less the origin would reach the host's lowest pages: it faults, with the
    guest's address; and a dword over the end of the segment is #GP."""
    exit = guest32.step("8b 1d f0 ff ff ff")
    assert exit == Fault(Vector.PF, None, 0xFFFF_FFF0)
    assert guest32.step("8b 1d fe ff ff ff") == Fault(Vector.GP, 0)
    assert not guest32.map(-PAGE & MASK32)


@pytest.mark.parametrize(
    ("segment", "code", "exit"),
    [
        (Segment(0x20, 0, 0xFF, DATA_TYPE | WIDE), "a1 fc 00 00 00", STEPPED),
        (Segment(0x20, 0, 0xFF, DATA_TYPE | WIDE), "a1 fd 00 00 00", Fault(Vector.GP, 0)),
        (Segment(0x20, DATA, 0xFFFF, DATA_TYPE), "a3 10 00 00 00", STEPPED),
        (Segment(0x20, DATA, 0xFFFF, 0x91), "a3 10 00 00 00", Fault(Vector.GP, 0)),  # read-only
        (Segment(0x20, DATA, 0xFFFF, CODE_TYPE), "a1 10 00 00 00", STEPPED),
        (Segment(0x20, DATA, 0xFFFF, 0x99), "a1 10 00 00 00", Fault(Vector.GP, 0)),  # execute-only
        (Segment(0x20, DATA, 0xFFFF, 0x9F), "a1 10 00 00 00", STEPPED),  # conforming
        (Segment(0x20, 0, 0x8FFF, 0x97 | WIDE), "a1 00 90 00 00", STEPPED),  # expand-down
        (Segment(0x20, 0, 0x9000, 0x97 | WIDE), "a1 00 90 00 00", Fault(Vector.GP, 0)),
        (Segment(0, 0, 0, 0), "a1 00 90 00 00", Fault(Vector.GP, 0)),  # a null selector
    ],
)  # fmt: skip
def test_hardware_checks_the_guests_segments(
    guest32: Guest, segment: Segment, code: str, exit: Exit
) -> None:
    """Base, limit, type and direction of a data segment are those of the guest's descriptor."""
    guest32.cpu.segments[DS] = segment
    guest32.ram.view[DATA + 0x10 : DATA + 0x14] = b"data"
    assert guest32.step(code, eax=0x21676562) == exit
    if exit is STEPPED and code.startswith("a3"):
        assert guest32.ram.view[DATA + 0x10 : DATA + 0x14] == b"beg!"


def test_the_stack_segment_faults_as_one(guest32: Guest) -> None:
    """A push below the limit of an expand-down stack is #SS(0); FS has a base and a limit."""
    guest32.cpu.segments[SS] = Segment(0x20, 0, STACK, 0x97 | WIDE)
    assert guest32.step("50", esp=STACK + 8) is STEPPED
    assert guest32.step("50", esp=STACK + 4) == Fault(Vector.SS, 0)
    guest32.cpu.segments[FS] = Segment(0x28, DATA, 3, DATA_TYPE | WIDE)
    guest32.ram.view[DATA : DATA + 4] = b"\1\0\0\0"
    assert guest32.step("64 a1 00 00 00 00") is STEPPED
    assert guest32.cpu.gpr[RAX] == 1
    assert guest32.step("64 a1 01 00 00 00") == Fault(Vector.GP, 0)


def test_real_mode_segments() -> None:
    """In real mode any base works, and what is stored through ES lies there."""
    guest = Guest(16)
    try:
        guest.cpu.cr0 = 0
        guest.cpu.segments[:] = [Segment(n, 0, 0xFFFF, 0x93) for n in range(6)]
        guest.cpu.segments[ES] = Segment(DATA >> 4, DATA, 0xFFFF, 0x93)
        assert guest.step("26 a3 20 00", eax=0x4142) is STEPPED
        assert guest.ram.view[DATA + 0x20 : DATA + 0x22] == b"BA"
        for base in range(0, 9000 << 4, 1 << 4):  # more than the local table holds
            guest.cpu.segments[DS].base = base
            if base % 0x8000 == 0 or base >> 4 > 8100:
                assert guest.step("90") is STEPPED
    finally:
        guest.engine.close()
        guest.ram.close()


def test_rep_is_one_instruction(guest: Guest) -> None:
    """A REP runs to its end in one step; CX counts by the address size."""
    assert guest.step("f3 aa", ecx=100, edi=DATA, eax=7) is STEPPED
    assert guest.ram.view[DATA : DATA + 100] == b"\7" * 100
    assert (guest.cpu.gpr[RCX], guest.cpu.rip) == (0, CODE + 2)
    exit = guest.step("f3 aa", ecx=PAGE, edi=DATA + PAGE // 2 + PAGE)
    assert exit == Fault(Vector.PF, None, 0xB000)
    assert guest.cpu.gpr[RCX] == PAGE // 2


@pytest.mark.parametrize("free", [False, True], ids=["step", "run"])
def test_int_0x80_stops_before_the_host(guest: Guest, free: bool) -> None:
    """INT 0x80, the host's 32-bit system call, is stopped at the instruction."""
    do = guest.run if free else guest.step
    assert do("cd 80", eax=1, ebx=7) is SYSTEM_CALL
    assert (guest.cpu.rip, guest.cpu.gpr[RAX]) == (CODE, 1)


TO_64_BITS = {
    "far jump": "ea {at} 33 00",
    "far return": "6a 33 68 {at} cb",
    "iret": "9c 6a 33 68 {at} cf",
    "far call": "9a {at} 33 00",
}


@pytest.mark.parametrize("way", TO_64_BITS)
def test_64_bit_code_is_noticed(guest32: Guest, way: str) -> None:
    """Should 64-bit code be entered after all, by the host's selector 0x33, the stop shows it, and no
    system call was made: of the stub's, of vsyscall, or by SYSCALL."""
    address = (CODE + 0x100 + guest32.origin).to_bytes(4, "little").hex()
    guest32.put(TO_64_BITS[way].format(at=address))
    gate = stub.GATE.to_bytes(8, "little").hex()
    for inside in ("0f 05", "90 f4", f"b8 27 00 00 00 49 bb {gate} 41 ff e3", "cd 80"):
        code = bytes.fromhex(inside)
        guest32.ram.view[CODE + 0x100 : CODE + 0x100 + len(code)] = code
        guest32.cpu.rip, guest32.cpu.gpr[RSP] = CODE, STACK + 0x800
        exit = guest32.engine.run(guest32.cpu)
        assert isinstance(exit, Failed)
        assert exit.reason == LEFT
        guest32.engine.close()
        fresh = Guest(32)
        guest32.engine, guest32.ram = fresh.engine, fresh.ram
        guest32.put(TO_64_BITS[way].format(at=address))


def test_syscall_in_32_bit_code_is_noticed(guest32: Guest) -> None:
    """SYSCALL, which on AMD changes registers before it is stopped, calls nothing; the guest stops."""
    exit = guest32.run("0f 05", eax=39)
    assert exit == Fault(Vector.UD, None, None) or (
        isinstance(exit, Failed) and exit.reason in (CALLED, LEFT)
    )


def test_the_two_widths_share_a_process(guest32: Guest) -> None:
    """A guest that enters long mode and leaves it goes on in the same process, with its registers."""
    long, legacy = flat_cpu(64, rip=0x100000), guest32.cpu
    guest32.ram.view[0x100000:0x100003] = b"\x48\xff\xc0"
    for n in range(3):
        assert guest32.step("40", eax=n) is STEPPED
        assert legacy.gpr[RAX] == n + 1
        guest32.engine.map(KERNEL_SPACE, 0x100000, 0x100000, PAGE, writable=True, executable=True)
        long.rip, long.gpr[RAX] = 0x100000, MASK32
        assert guest32.engine.step(long) is STEPPED
        assert long.gpr[RAX] == 1 << 32


def test_compatibility_mode_has_no_origin(guest32: Guest) -> None:
    """In compatibility mode addresses are those of the 64-bit kernel."""
    cpu = guest32.cpu
    cpu.efer = Efer.LME | Efer.LMA
    assert guest32.engine.origin(cpu) == 0
    cpu.rip = 0x100000
    guest32.engine.map(KERNEL_SPACE, 0x100000, CODE, PAGE, writable=True, executable=True)
    guest32.ram.view[CODE : CODE + 1] = b"\x40"
    assert guest32.engine.step(cpu) is STEPPED
    assert cpu.gpr[RAX] == 1
