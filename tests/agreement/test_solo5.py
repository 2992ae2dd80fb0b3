"""Solo5 unikernels (hvt): hypercalls, rights of memory, what is refused; the same on every core."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from cores.engines.registry import availability
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.machine.report import CoreReport
from cores.pc.network.spec import NetSpec
from cores.pc.stop import Stop
from cores.programs import solo5
from cores.programs.loader import load_program
from cores.programs.program import StartOptions
from cores.runs.compare import compare
from tests import linux_lab

CORES = tuple(core for core in ("interpreter", "trap:native") if availability(core).available)
YEAR_2017 = 17 * 365 * 86400


def note(kind: int, content: bytes) -> bytes:
    return struct.pack("<III8s", 6, len(content), kind, b"Solo5") + content


def abi(target: int = 1, version: int = 2) -> bytes:
    return note(0x31494241, struct.pack("<4I", target, version, 0, 0))


def manifest(*devices: tuple[bytes, int]) -> bytes:
    """The note of a manifest: its first device is none, as elftool has it."""
    entries = [(b"", 1 << 30), *devices]
    listed = b"".join(struct.pack("<68sI32x", *entry) for entry in entries)
    return note(0x3154464D, bytes(4) + struct.pack("<II", 1, len(entries)) + listed)


def unikernel(
    folder: Path, source: str, *devices: tuple[bytes, int], notes: bytes | None = None
) -> str:
    path = folder / "guest.hvt"
    path.write_bytes(
        linux_lab.image(
            source,
            note=abi() if notes is None else notes,
            more=manifest(*devices),
            text=0x101000,
            data=0x103000,
        )
    )
    return str(path)


TOUR = """
_start: mov     rbx, 0x103000           # a page that may be written
        mov     rsi, [rdi + 24]         # the command line
        mov     r12, [rdi + 32]         # the manifest
        mov     [rbx], rsi
        mov     qword ptr [rbx + 8], 4
        mov     eax, ebx
        mov     dx, 0x502               # puts
        out     dx, eax
        mov     rax, [r12 + 8 + 104 + 72]       # capacity of device 1
        mov     [rbx + 64], rax
        mov     qword ptr [rbx], 1      # block read: handle, offset, data, length
        mov     qword ptr [rbx + 8], 512
        lea     rax, [rbx + 1024]
        mov     [rbx + 16], rax
        mov     qword ptr [rbx + 24], 512
        mov     eax, ebx
        mov     dx, 0x505
        out     dx, eax
        mov     r13d, [rbx + 32]        # 0
        mov     qword ptr [rbx + 8], 0  # the same to block 0
        dec     dx
        out     dx, eax
        or      r13d, [rbx + 32]        # 0
        mov     qword ptr [rbx], 5      # no such device
        out     dx, eax
        add     r13d, [rbx + 32]        # 2
        lea     rax, [rbx + 1024]
        mov     [rbx], rax
        mov     qword ptr [rbx + 8], 5
        mov     eax, ebx
        mov     dx, 0x502
        out     dx, eax
        mov     dx, 0x501               # walltime
        out     dx, eax
        mov     r14, [rbx]
        mov     qword ptr [rbx], 3000000        # poll: 3 ms
        mov     dx, 0x503
        out     dx, eax
        mov     dx, 0x501
        out     dx, eax
        mov     rax, [rbx]
        sub     rax, r14
        cmp     rax, 3000000
        jb      short
        add     r13d, 0x20
short:  mov     rcx, 1483228800000000000        # 2017
        cmp     r14, rcx
        jb      past
        add     r13d, 0x40
past:   mov     rax, [rbx + 64]
        shr     rax, 9
        add     r13d, eax               # the disk's sectors
        mov     qword ptr [rbx], 0
        mov     [rbx + 8], r13d
        mov     eax, ebx
        mov     dx, 0x508               # halt
        out     dx, eax
        hlt
"""


def run(path: str, **options: object) -> tuple[CoreReport, ...]:
    made = Options(cores=CORES, **options)  # type: ignore[arg-type]
    report = compare(load_program(path, made.ram, options=made.start), made)
    assert report.equivalent is not False, report.divergence
    return report.cores


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_hypercalls(free: bool, tmp_path: Path) -> None:
    """Command line, console, blocks, clock, poll and halt do what Solo5's ABI says."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"first".ljust(512, b"\0") + b"later".ljust(512, b"\0"))
    path = unikernel(tmp_path, TOUR, (b"storage", 1))
    start = StartOptions(append=b"word")
    for core in run(path, free=free, disks=(str(disk),), clock=YEAR_2017 + 5 * 86400, start=start):
        assert (core.console, core.stop, core.exit_status) == ("wordlater", Stop.EXIT, 0x64)


TWO_DISKS = """
_start: mov     rbx, 0x103000
        mov     r12d, 1
each:   mov     [rbx], r12              # the handle
        mov     qword ptr [rbx + 8], 0
        lea     rax, [rbx + 512]
        mov     [rbx + 16], rax
        mov     qword ptr [rbx + 24], 512
        mov     eax, ebx
        mov     dx, 0x505               # block read
        out     dx, eax
        lea     rax, [rbx + 512]
        mov     [rbx], rax
        mov     qword ptr [rbx + 8], 3
        mov     eax, ebx
        mov     dx, 0x502               # puts
        out     dx, eax
        inc     r12d
        cmp     r12d, 3
        jb      each
        mov     qword ptr [rbx], 0
        mov     qword ptr [rbx + 8], 0
        mov     eax, ebx
        mov     dx, 0x508
        out     dx, eax
"""


@pytest.mark.parametrize(
    ("given", "told"),
    [("log={1} data={0}", "onetwo"), ("{0} {1}", "onetwo"), ("data={1} {0}", "twoone")],
)
def test_named_disks(given: str, told: str, tmp_path: Path) -> None:
    """Block devices have disks by name, and those without a name the others in order."""
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.write_bytes(file.name.encode().ljust(512, b"\0"))
    path = unikernel(tmp_path, TWO_DISKS, (b"data", 1), (b"log", 1))
    for core in run(path, free=True, disks=tuple(given.format(*files).split())):
        assert (core.console, core.stop) == (told, Stop.EXIT)
    with pytest.raises(InputError, match="--disk x: its manifest has block devices: 'data', 'log'"):
        run(path, disks=(f"x={files[0]}", str(files[1])))


ARP = """
_start: mov     rbx, 0x103000
        mov     r12, [rdi + 32]         # the manifest: the address of device 1's card
        mov     rax, [r12 + 8 + 104 + 72]
        mov     [rbx + 262], eax        # as the frame's sender
        mov     [rbx + 278], eax
        shr     rax, 32
        mov     [rbx + 266], ax
        mov     [rbx + 282], ax
        shr     rax, 16
        mov     [rbx + 512], ax         # the MTU
        mov     dword ptr [rbx + 256], -1
        mov     word ptr [rbx + 260], -1
        movabs  rax, 0x0406000801000608
        mov     [rbx + 268], rax
        mov     dword ptr [rbx + 274], 0x01000406
        mov     dword ptr [rbx + 284], 0x0f02000a
        mov     dword ptr [rbx + 294], 0x0202000a
        mov     qword ptr [rbx], 1      # net write: handle, data, length
        lea     rax, [rbx + 256]
        mov     [rbx + 8], rax
        mov     qword ptr [rbx + 16], 42
        mov     eax, ebx
        mov     dx, 0x506
        out     dx, eax
        mov     r13d, [rbx + 24]        # 0
        inc     dx
        mov     qword ptr [rbx + 16], 2048
        lea     rax, [rbx + 1024]
        mov     [rbx + 8], rax
        mov     eax, ebx
        out     dx, eax                 # nothing has come yet
        mov     ecx, [rbx + 24]         # 1
        shl     ecx, 8
        or      r13d, ecx
        mov     qword ptr [rbx + 64], 1000000000
        lea     rax, [rbx + 64]
        mov     dx, 0x503
        out     dx, eax                 # poll
        mov     rcx, [rbx + 72]         # the set: 1 << 1
        or      r13d, ecx
        mov     eax, ebx
        mov     dx, 0x507
        out     dx, eax
        or      r13d, [rbx + 24]        # 0
        mov     rax, [rbx + 16]         # 60
        shl     eax, 16
        or      r13d, eax
        mov     qword ptr [rbx], 9      # no such device
        mov     eax, ebx
        out     dx, eax
        mov     eax, [rbx + 24]         # 2
        shl     eax, 24
        or      r13d, eax
        cmp     word ptr [rbx + 512], 1500
        jne     halt
        lea     rax, [rbx + 1024 + 22]
        mov     [rbx], rax
        mov     qword ptr [rbx + 8], 6
        mov     eax, ebx
        mov     dx, 0x502
        out     dx, eax
halt:   mov     [rbx + 8], r13d
        mov     eax, ebx
        mov     dx, 0x508
        out     dx, eax
        hlt
"""


def test_network(tmp_path: Path) -> None:
    """A frame is sent, poll waits for the answer, and it is read; by name the card has its network."""
    path = unikernel(tmp_path, ARP, (b"net0", 2))
    for core in run(path, nets=(NetSpec("user", "net0"),)):
        assert core.console.encode("latin-1").hex() == "52550a000202"  # the router's address
        assert core.exit_status == 60 << 16 | 2 << 24 | 1 << 8 | 2


def test_network_for_no_device(tmp_path: Path) -> None:
    """A network for a device that the manifest does not have is refused, and so is a virtio device."""
    path = unikernel(tmp_path, "_start: hlt", (b"net0", 2))
    with pytest.raises(InputError, match="--net eth: its manifest has network devices: 'net0'"):
        run(path, nets=(NetSpec("user", "eth"),))
    with pytest.raises(InputError, match="no virtio devices"):
        run(path, virtio=("net",))


@pytest.mark.parametrize(
    "act",
    ["mov [rip + _start], eax", "mov eax, [0]", "mov eax, 0x103000\n jmp rax", "mov [0x10000], eax"],
)
def test_rights_of_memory(act: str, tmp_path: Path) -> None:
    """Code cannot be written, data not executed, page 0 not used, the boot information not changed: a
    guest without a handler shuts down."""
    for core in run(unikernel(tmp_path, f"_start: {act}\nspin: jmp spin"), free=True):
        assert core.stop is Stop.SHUTDOWN


@pytest.mark.parametrize(
    ("notes", "devices", "reason"),
    [
        (abi(2, 1), (), r"a Solo5 unikernel \(spt, ABI version 1\): Ringscope starts those for hvt"),
        (abi(1, 9), (), r"a Solo5 unikernel \(hvt, ABI version 9\)"),
        (abi(), ((b"net0", 2),), "the network device 'net0': --net net0=user, say, gives one"),
        (abi(), ((b"storage", 1),), "the block device 'storage': --disk storage=FILE, say, gives one"),
    ],
)
def test_refused(
    notes: bytes, devices: tuple[tuple[bytes, int], ...], reason: str, tmp_path: Path
) -> None:
    """Other targets and versions, networks, and a block device without a disk: one sentence each."""
    with pytest.raises(InputError, match=reason):
        run(unikernel(tmp_path, "_start: hlt", *devices, notes=notes))


@pytest.mark.parametrize("size", range(0, 12, 3))
def test_damaged_manifests(size: int) -> None:
    """A manifest that is cut off, or counts too many devices, is refused."""
    whole = struct.pack("<II", 1, 1) + bytes(104)
    with pytest.raises(InputError):
        solo5.entries_of(whole[:size])
    with pytest.raises(InputError):
        solo5.entries_of(struct.pack("<II", 1, 65) + bytes(65 * 104))
