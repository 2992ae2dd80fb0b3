"""Hostile guests, programs, disks and lessons, by the commands: nothing reaches the host, hangs or
leaks, and each end is reported."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time, thread_time

import hostile
import pytest

import cores.deadline
from cores.engines import registry
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.machine.report import CoreReport
from cores.pc.stop import Stop
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import load_program
from cores.programs.program import Program, Segment
from cores.runs.compare import compare
from tests.sampling import all_but, sampled

MIB = 1 << 20
MARGIN = 8.0
"""Seconds of this process's CPU time beyond what a run was allowed, until it counts as hanging."""
GUESTS = hostile.load()
SLOW = ("rep-ports", "ports", "tables-many-pages", "rep-mmio")
"""Two seconds and more of CPU time each."""
SECRET = b"nothing of a guest's comes here"

needs_native = pytest.mark.skipif(
    not registry.availability("trap:native").available,
    reason=f"trap:native: {registry.availability('trap:native').reason}",
)
needs_assembler = pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")


@dataclass
class Host:
    """The resources that a guest must not touch: a file, an open descriptor, another process, and this
    process."""

    file: Path
    descriptor: int
    neighbour: subprocess.Popen[bytes]

    def means(self) -> tuple[list[str], int, set[str]]:
        """Descriptors, threads and child processes of this process."""
        children: set[str] = set()
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                children |= set((task / "children").read_text().split())
        return sorted(os.listdir("/proc/self/fd")), threading.active_count(), children

    def check(self) -> None:
        assert self.file.read_bytes() == SECRET
        assert os.pread(self.descriptor, 100, 0) == SECRET
        assert os.lseek(self.descriptor, 0, os.SEEK_CUR) == 0
        assert self.neighbour.poll() is None


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    file = tmp_path_factory.mktemp("canary") / "canary"
    file.write_bytes(SECRET)
    descriptor = os.open(file, os.O_RDWR)
    os.set_inheritable(descriptor, True)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as neighbour:  # it ends with us, not before
        if registry.availability("trap:native").available:  # what is made once, is made now
            run(Program("-", "flat", 0x100000, (Segment(0x100000, b"\xf4", 1),), ""), free=True)
        yield Host(file, descriptor, neighbour)
        neighbour.kill()
    os.close(descriptor)


@pytest.fixture
def host(canaries: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A Host that is checked for changes afterwards."""
    monkeypatch.setattr(cores.deadline, "LONGEST", 1.0)
    monkeypatch.setattr(cores.deadline, "perf_counter", thread_time)  # whatever else the host does
    gc.collect()  # what other tests have left
    before = canaries.means()
    yield canaries
    canaries.check()
    descriptors, threads, processes = canaries.means()
    assert len(descriptors) <= len(before[0])
    assert threads <= before[1]
    assert processes <= before[2]


def run(
    program: Program, *, free: bool, budget: float = 2000, core: str = "trap:native", disk: str = ""
) -> CoreReport:
    """`compare` on one core; with ``free``, ``budget`` is 0.3 s unless it is less."""
    allowed = min(budget, 0.3) if free else budget
    options = Options(
        cores=(core,), free=free, ram=4 * MIB, budget=allowed, disks=(disk,) if disk else ()
    )
    return compare(program, options).cores[0]


@needs_native
@needs_assembler
@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
@pytest.mark.parametrize("name", sampled(all_but(GUESTS, *SLOW), 2))
def test_hostile_guest(name: str, free: bool, host: Host) -> None:
    """A hostile guest ends by a permitted stop, in its time, with the host unchanged."""
    guest = GUESTS[name]
    budget = guest.seconds if free else guest.budget
    program = guest.program
    began = process_time()
    options = Options(cores=("trap:native",), free=free, ram=4 * MIB, budget=budget)
    report = compare(program, options).cores[0]
    assert process_time() - began < (budget if free else 0) + cores.deadline.LONGEST + MARGIN
    assert report.stop in guest.ends, report.reason
    assert report.stop is not Stop.EXIT or report.exit_status == hostile.STATUS
    assert (report.reason is not None) == (report.stop in (Stop.ERROR, Stop.SHUTDOWN))


@needs_native
@needs_assembler
@pytest.mark.parametrize("name", ["patch-race", "patch-race-pages", "patch-race-alias"])
def test_a_race_with_the_patcher_is_lost(name: str, host: Host) -> None:
    """With code changed during the run, free mode records each sensitive instruction of exact mode, and
    no other."""
    told = []
    for free in (False, True):
        options = Options(
            cores=("trap:native",), free=free, ram=4 * MIB, budget=hostile.PATIENCE if free else 20_000
        )
        report = compare(GUESTS[name].program, options).cores[0]
        reasons = report.exits_by_reason.items()
        told.append(
            (report.stop, report.reason, {r: n for r, n in reasons if r not in ("scan", "shadow")})
        )
    assert told[0] == told[1]


@needs_native
@pytest.mark.parametrize("seed", range(3))
def test_wild_code(seed: int, host: Host) -> None:
    """Random bytes as a program, exact and free, raise no exception and keep the time limit."""
    source = random.Random(seed)
    for _ in range(25):
        report = run(flat(source.randbytes(512)), free=bool(source.getrandbits(1)), budget=0.05)
        assert report.stop is not None
        assert report.reason or report.stop not in (Stop.ERROR, Stop.SHUTDOWN)


SENSITIVE = tuple(map(bytes.fromhex, hostile.RACED))


@needs_native
@pytest.mark.parametrize("seed", range(3))
def test_wild_sensitive_code(seed: int, host: Host) -> None:
    """Random sensitive instructions, stores over code and branches into instructions do no harm,
    either."""
    source = random.Random(1000 + seed)
    for _ in range(25):
        code = b"".join(piece(source) for _ in range(60))
        report = run(flat(code + b"\xeb\xfe"), free=bool(source.randrange(4)), budget=0.05)
        assert report.stop is not None


def piece(source: random.Random) -> bytes:
    """A few bytes of a hostile program that lies at 0x100000."""
    kind = source.randrange(6)
    somewhere = 0x100000 + source.randrange(300)
    if kind == 0:
        return source.choice(SENSITIVE)
    if kind == 1:  # mov dword ptr [somewhere], ...
        return b"\xc7\x04\x25" + struct.pack("<I", somewhere) + source.choice(SENSITIVE)[:4]
    if kind == 2:  # mov eax, somewhere; call rax
        return b"\xb8" + struct.pack("<I", somewhere) + b"\xff\xd0"
    if kind == 3:  # jcc
        return bytes((0x70 | source.randrange(16), source.randrange(256)))
    if kind == 4:  # xor byte ptr [somewhere], ...
        return b"\x80\x34\x25" + struct.pack("<IB", somewhere, source.randrange(256))
    return b"\xb9" + source.randbytes(4) + source.choice((b"\xf3\xaa", b"\xf3\xa4", b"\xf3\x6e"))


def flat(code: bytes) -> Program:
    return Program("-", "flat", 0x100000, (Segment(0x100000, code, len(code)),), "")


# Files


ELF = Path(__file__).parents[2] / "assets/guests/cguest.elf"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_elf(seed: int, tmp_path: Path, host: Host) -> None:
    """A damaged executable is refused in one line, or runs."""
    source, good = random.Random(seed), ELF.read_bytes()
    path = tmp_path / "damaged.elf"
    core = "trap:native" if registry.availability("trap:native").available else "interpreter"
    for turn in range(60):
        path.write_bytes(damaged(good, source))
        program = loaded(path)
        if program is None:
            continue
        if turn % 4 == 0:
            assert run(program, free=True, budget=0.05, core=core).stop is not None


def loaded(path: Path) -> Program | None:
    """The program, or None when it is refused properly."""
    try:
        return load_program(str(path), 4 * MIB)
    except InputError as error:
        refusal = str(error)
    assert str(path) in refusal
    assert "\n" not in refusal
    return None


def damaged(good: bytes, source: random.Random) -> bytes:
    """A damaged copy: headers are hit more often than their contents; sometimes all but the magic
    number."""
    bad = bytearray(good)
    for _ in range(source.randint(1, 6)):
        at = source.randrange(4, 64 + 56 * 4) if source.randrange(4) else source.randrange(4, len(bad))
        width = source.choice((1, 2, 4, 8))
        value = source.choice(
            (0, 1, (1 << 8 * width) - 1, 1 << 8 * width - 1, source.getrandbits(8 * width))
        )
        bad[at : at + width] = value.to_bytes(width, "little")
    return bytes(bad[: source.randrange(len(bad))] if source.randrange(5) == 0 else bad)


@pytest.mark.parametrize("size", [0, 1, 511, 513, 5 * 512 + 3])
def test_odd_disks(size: int, tmp_path: Path, host: Host) -> None:
    """Disks of odd sizes are refused in words, or read to their end and no further."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(range(1, 256)) * 11)
    os.truncate(image, size)
    if size == 0:
        with pytest.raises(InputError, match="empty"):
            run(flat(READ_SECTORS), free=False, core="interpreter", disk=str(image))
        return
    report = run(flat(READ_SECTORS), free=False, core="interpreter", disk=str(image))
    assert (report.stop, report.exit_status) == (Stop.EXIT, -(-size // 512))


READ_SECTORS = bytes.fromhex(
    "31db"  #              xor ebx, ebx          sector by sector, until the disk refuses:
    "bf00000200"  # next:  mov edi, 0x20000      operation 2, buffer 0x30000, 1 sector
    "c70702000000"  #      mov dword ptr [rdi], 2
    "48c7470800000300"  #  mov qword ptr [rdi + 8], 0x30000
    "48c7471001000000"  #  mov qword ptr [rdi + 16], 1
    "48895f18"  #          mov [rdi + 24], rbx
    "66bae405"  #          mov dx, 0x5e4
    "89f8"  #              mov eax, edi
    "ef"  #                out dx, eax
    "837f0400"  #          cmp dword ptr [rdi + 4], 0
    "7504"  #              jne done
    "ffc3"  #              inc ebx
    "ebd0"  #              jmp next
    "88d8"  # done:        mov al, bl
    "e6f4"  #              out 0xf4, al
)
"""Its exit status is the number of sectors that it could read."""


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "missing", "name"])
def test_no_disks(kind: str, tmp_path: Path, host: Host) -> None:
    """A file that is no disk image is refused at once, in one line that names it."""
    path = tmp_path / "disk"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    name = {"device": "/dev/zero", "name": "no\0name"}.get(kind, str(path))
    with pytest.raises(InputError) as refusal:
        run(flat(READ_SECTORS), free=False, core="interpreter", disk=name)
    assert "\n" not in str(refusal.value)


LESSONS = Path(__file__).parents[2] / "lessons/course"


def test_damaged_lessons(tmp_path: Path) -> None:
    """Lessons with lines lost, doubled, moved or overwritten are refused in words, or read."""
    from lessons.format import parser

    source = random.Random(7)
    for good in sorted(LESSONS.glob("*.md")):
        lines = good.read_text().splitlines(keepends=True)
        for _ in range(20):
            bad = lines.copy()
            for _ in range(source.randint(1, 5)):
                at = source.randrange(len(bad))
                bad[at : at + source.randrange(3)] = source.choices(
                    [
                        bad[-1],
                        *bad[:3],
                        "```\n",
                        "---\n",
                        "\0\n",
                        "{{{[[[((\n",
                        "9" * 99 + "\n",
                        "- \n",
                    ],
                    k=source.randrange(3),
                )
                bad = bad or ["\n"]
            with contextlib.suppress(InputError):
                parser.parse_text("".join(bad), str(tmp_path / good.name))
