"""Every guest of assets/guests on every core: equal at each step in exact mode, and with equal ends in
free mode."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from agreement_lab import kvm_is_whole

from assets import genesis
from assets.disks.build import IMAGE, contents, image
from cores.engines import ring3_survey as ring3
from cores.engines.registry import CORE_NAMES, availability
from cores.lockstep.options import Options
from cores.machine.report import CompareReport, CoreReport, ExitLine
from cores.pc.network import services
from cores.pc.network.spec import parse
from cores.pc.stop import Stop
from cores.programs.loader import load_program
from cores.programs.shipped import ASSETS
from cores.runs.compare import compare
from cores.runs.trace import trace
from cores.vmm.doorbells import RUNG

REFUSED = """\
to the buffer: done
to the kernel: refused by the IOMMU
the kernel is what it was
the IOMMU has told its address
"""
LOST = """\
to the buffer: done
to the kernel: done, though the CPU may not write there
the kernel is lost
"""
SWAPPED = """\
filled:   16 faults, 0 pages read, 12 written
numbered: 16 faults, 16 pages read, 16 written
added up: 12 faults, 12 pages read, 4 written
checked:  12 faults, 12 pages read, 0 written
Every page was what it should be.
"""
TRUTH = {
    "sgdt": "100590", "sidt": "100600", "sldt": "50", "str": "60", "smsw": "3b",
    "sse with CR0.TS": "#7", "lar": "a09b00", "lsl": "ffffffff", "verr": "1", "verw": "1",
    "mov from cs": "10", "mov from ds": "18", "push fs": "18", "mov to es": "#d", "pop fs": "#d",
    "lgs": "#d", "far jmp": "#d", "far call": "#d", "far ret": "#d", "iret": "#d",
    "pushf": "0", "popf": "1", "popf with AC": "0", "cpuid": "706f6373676e6952", "rdtsc": "1",
    "xgetbv": "#6", "vzeroupper": "#6",
}  # fmt: skip
"""What `holes` must be told, line by line."""
ENTRIES = {
    "mov from cs": "mov from segment", "mov from ds": "mov from segment",
    "push fs": "push segment", "pop fs": "pop segment", "mov to es": "mov to segment",
    "sse with CR0.TS": "x87 and SSE under CR0.TS or CR0.EM",
    "lgs": "lss, lfs, lgs", "rdtsc": "rdtsc, rdtscp", "vzeroupper": "AVX, BMI and XOP",
}  # fmt: skip
"""Where a line of `holes` and its entry in the table of sensitive instructions differ in name."""
WATCHED = {"popf with AC"}
"""A state, and no instruction: the engine never lends AC to a guest kernel that is stepped."""
CHECKSUM = "8f6bf85689094c22"
SUMS = "".join(f"{name:<17}{CHECKSUM}\n" for name in ("words:", "rep insw:", "paravirtual:"))
README = contents()["readme"].decode()


def answers(count: int) -> str:
    return "".join(f"answer {n}: 56 bytes, both checksums right\n" for n in range(1, count + 1))


def page() -> str:
    """What the router answers to a request for its page."""
    answer, _, _ = services.http(b"GET / HTTP/1.0\r\n\r\n")
    return answer.decode()


@dataclass(frozen=True)
class Case:
    """A guest, the options it runs with, and its known end. screen: words that the screen must show."""

    guest: str
    console: str
    stop: Stop = Stop.EXIT
    status: int | None = 0
    disk: bool = False
    input: bytes = b""
    screen: tuple[str, ...] = ()
    nets: tuple[str, ...] = ()
    virtio: tuple[str, ...] = ()
    poll: bool = False
    other: str = ""

    @property
    def options(self) -> Options:
        other = load_program(str(ASSETS / "guests" / self.other)) if self.other else None
        return Options(other=other,
            disks=(str(IMAGE),) if self.disk else (), input=self.input, poll=self.poll,
            nets=tuple(map(parse, self.nets)), virtio=self.virtio,
        )  # fmt: skip


CASES = {
    case.guest: case
    for case in (
        Case("hello.s", "Hello from ring 0, or so I believe.\n"),
        Case("primes.s", "303\n"),
        Case("tour.s", "..RingscopeCPU\n", Stop.HALTED, None),
        Case("file.s", README, disk=True),
        Case("tasks.s", "I am swordfish.\nI am nightjar. \n"),
        Case("swap.s", SWAPPED, disk=True),
        Case("holes.s", "".join(f"{name:<20}{answer}\n" for name, answer in TRUTH.items())),
        Case("cguest.elf", "2.718281828459045\n"),
        Case(
            "tinyos.s",
            "",
            disk=True,
            input=b"ls\rcat rings\rrun\rload\rgp\rpf\rps\rexit\r",
            screen=(
                "pagefile        65536\n> cat rings\nRing 0 commands and ring 3 obeys;\n",
                "\nping: eight switches, and my memory is my own.\npong: eight switches, and my",
                "\nload: the sum over sixteen pages is right.\n28 page faults, 12 pages read,",
                "\ngp: killed by #GP at 0x40000000\n",
                "\npf: killed by #PF at 0x40000005, touching 0x100000\n",
                "\nshell           running\nping            ended\n",
                "\npf              killed\n> exit",
            ),
        ),
        Case("driver.s", SUMS, disk=True),
        Case("www.s", page(), nets=("user",)),
        Case("chat.s", "56: Hello\n56: bye\n", nets=("hub",), other="chat.s", input=b"Hello\rbye\r"),
        Case("dma.s", REFUSED, disk=True, virtio=("block", "iommu")),
        Case("ping.s", answers(4), nets=("user",)),
        Case("vping.s", answers(8), nets=("user",), virtio=("net",)),
    )
}
SECONDS = 120.0
"""Host time of a free run, on a computer however busy. Each guest ends by itself."""
SLOW = {"primes.s"}
"""More than a test's time in exact mode: these are held equal over their first instructions."""


def run(case: Case, core: str, *, free: bool) -> CompareReport:
    """Run the guest on the interpreter and on ``core``; skip where that core cannot run it."""
    here = availability(core)
    if not here.available:
        pytest.skip(f"{core}: {here.reason}")
    program = load_program(str(ASSETS / "guests" / case.guest))
    budget = SECONDS if free else 5_000 if case.guest in SLOW else None
    cores = tuple(dict.fromkeys(("interpreter", core)))
    report = compare(program, replace(case.options, cores=cores, free=free, budget=budget))
    for one in report.cores:
        if one.core == "kvm" and one.stop is Stop.ERROR:
            pytest.skip(f"kvm: {one.reason}")
    return report


def ends_as_told(case: Case, report: CoreReport) -> None:
    assert (report.stop, report.exit_status) == (case.stop, case.status), report.reason
    assert report.console == case.console
    for words in case.screen:
        assert words in (report.screen or "")


def daily(*slow: tuple[str, str]) -> list[ParameterSet]:
    """(guest, core) of all cases; the slow ones are for the full run."""
    return [
        pytest.param(guest, core, marks=[pytest.mark.full] if (guest, core) in slow else [])
        for guest in CASES
        for core in CORE_NAMES
    ]


@pytest.mark.parametrize(
    ("guest", "core"),
    daily(
        ("tinyos.s", "kvm"),
        ("tinyos.s", "trap:portable"),
        ("tasks.s", "kvm"),
        ("ping.s", "kvm"),
        ("www.s", "kvm"),
        ("www.s", "trap:portable"),
        ("chat.s", "kvm"),
        ("chat.s", "trap:portable"),
        ("ping.s", "trap:portable"),
        ("vping.s", "trap:portable"),
    ),
)
def test_exact(guest: str, core: str) -> None:
    """Instruction by instruction the core has the interpreter's state, up to the known end."""
    case = CASES[guest]
    report = run(case, core, free=False)
    assert report.divergence is None
    if guest not in SLOW:
        ends_as_told(case, report.cores[-1])


@pytest.mark.parametrize(
    ("guest", "core"),
    daily(
        ("swap.s", "kvm"),
        ("swap.s", "trap:portable"),
        ("tinyos.s", "trap:portable"),
        ("ping.s", "kvm"),
        ("www.s", "kvm"),
        ("www.s", "trap:portable"),
        ("chat.s", "kvm"),
        ("chat.s", "trap:portable"),
        ("ping.s", "trap:portable"),
    ),
)
def test_free(guest: str, core: str) -> None:
    """In free mode the guest ends with the same console, screen and exit status."""
    case = CASES[guest]
    if core == "kvm" and guest.startswith("tinyos") and not kvm_is_whole():
        pytest.skip("this host's KVM may miss interrupts in free mode (ringscope doctor)")
    report = run(case, core, free=True)
    assert report.divergence is None
    ends_as_told(case, report.cores[-1])


def test_every_guest_is_here() -> None:
    """No guest of assets/guests is left out of these tests, or of test_pico.py."""
    endings = {".s", ".elf"}
    there = {p.name for p in (ASSETS / "guests").iterdir() if p.suffix in endings}
    assert there == CASES.keys() | {"pico.elf"}


def test_disk_image_is_of_its_files() -> None:
    """The disk image in the tree is what its script makes of the folder."""
    assert IMAGE.read_bytes() == image(contents())


def test_file_without_a_disk() -> None:
    """Without a disk the guest reports that there is none, and ends with status 1."""
    program = load_program(str(ASSETS / "guests" / "file.s"))
    (report,) = compare(program, Options(cores=("interpreter",))).cores
    assert (report.console, report.exit_status) == ("There is no disk with files here.\n", 1)


@pytest.mark.parametrize("core", [core for core in CORE_NAMES if core.startswith("trap")])
def test_driver_exits(core: str) -> None:
    """A sector costs more than 256 exits by words, fewer than 12 by a string, one by the paravirtual
    disk."""
    if reason := availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    program = load_program(str(ASSETS / "guests" / "driver.s"))
    counts = [0]
    for line in trace(program, core, Options(disks=(str(IMAGE),)), steps=False):
        if isinstance(line, ExitLine) and line.asm.startswith("rep outsb"):
            counts.append(0)  # each part ends with two prints
        elif isinstance(line, ExitLine):
            counts[-1] += 1
    assert counts == [7 + 256, 0, 7 + 1, 0, 1, 0, 1]


def test_pure_holes() -> None:
    """With --pure the output differs in exactly the lines of the instructions that do not trap here."""
    if reason := availability("trap:native").reason:
        pytest.skip(f"trap:native: {reason}")
    lies = {finding.entry.name for finding in ring3.probe() if finding.lies}
    program = load_program(str(ASSETS / "guests" / "holes.s"))
    (report,) = compare(program, Options(cores=("trap:native",), pure=True)).cores
    told = {line[:20].rstrip(): line[20:] for line in report.console.splitlines()}
    wrong = {name for name in TRUTH if told[name] != TRUTH[name]}
    assert wrong == {n for n in TRUTH if ENTRIES.get(n, n) in lies and n not in WATCHED}


def test_c_guest_from_source(tmp_path: Path) -> None:
    """The C guest's build line, run here, gives a guest that prints the same."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source = ASSETS / "guests" / "cguest.c"
    line = re.search(r"gcc .*", source.read_text())
    assert line is not None
    shutil.copy(source, tmp_path)
    subprocess.run(line[0].split(), cwd=tmp_path, check=True)
    program = load_program(str(tmp_path / "cguest.elf"))
    (report,) = compare(program, Options(cores=("trap",), free=True, budget=SECONDS)).cores
    ends_as_told(CASES["cguest.elf"], report)


def test_genesis_is_its_listing() -> None:
    """The 68000 program is the one of its listing, and each word disassembles to the listing's text."""
    capstone = pytest.importorskip("capstone")
    code = genesis.image(genesis.LISTING.read_text())
    assert genesis.IMAGE.read_bytes() == code
    mode = capstone.CS_MODE_BIG_ENDIAN | capstone.CS_MODE_M68K_000
    decoder = capstone.Cs(capstone.CS_ARCH_M68K, mode)
    meant = {insn.address: insn.mnemonic for insn in decoder.disasm(code, genesis.LOAD_ADDRESS)}
    told = re.findall(
        r"^(\w{4})  [0-9a-f ]{20}  (?:\w+:)? +(?!dc)([a-z.]+) ",
        genesis.LISTING.read_text(),
        re.MULTILINE,
    )
    assert len(told) > 20
    for address, mnemonic in told:
        assert meant[int(address, 16)].partition(".")[0] == mnemonic.partition(".")[0]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (b"\r   \rwhat\r", "> what\nThere is no such command.\n"),
        (b"cat   nothing 1\r", "\nThere is no such file.\n"),
        (b"\b\bexxi\b\bps\b\bit\r", "> exit"),
        (b"help\r" * 4, "\n> help\nls, cat FILE    the disk\n"),
        (b"run\rrun\rps\r", "\npong            ended\nload            not yet run\n"),
        (b"1234567890-=[];',./`\\\r", "> 1234567890-=[];',./`\\\nThere"),
    ],
)
def test_tinyos_shell(typed: bytes, shown: str) -> None:
    """The shell handles its keys, commands and mistakes, and scrolls past the end of the screen."""
    program = load_program(str(ASSETS / "guests" / "tinyos.s"))
    options = Options(cores=("interpreter",), disks=(str(IMAGE),), input=typed + b"exit\r")
    (report,) = compare(program, options).cores
    assert (report.stop, report.exit_status) == (Stop.EXIT, 0)
    assert shown in (report.screen or "")


def test_tinyos_without_a_disk() -> None:
    """Without a disk, commands that need one say so, and the shell goes on."""
    program = load_program(str(ASSETS / "guests" / "tinyos.s"))
    options = Options(cores=("interpreter",), input=b"ls\rload\rrun\rexit\r")
    (report,) = compare(program, options).cores
    assert report.exit_status == 0
    assert (report.screen or "").count("There is no disk.") == 2


def exits_of_pings(guest: str, core: str, *, poll: bool = False, free: bool = False) -> list[int]:
    """The exits between one answer printed by ``guest`` and the next."""
    program = load_program(str(ASSETS / "guests" / guest))
    options = replace(CASES[guest].options, poll=poll, free=free)
    counts = [0] * 9
    printed = 0
    for line in trace(program, core, options, steps=False):
        if isinstance(line, ExitLine) and "outsb" in line.asm:
            words = line.detail.split()
            printed += int(words[0]) if words[1] == "x" else 1
        elif isinstance(line, ExitLine):
            counts[printed // len(answers(1))] += 1
    return counts[1 : printed // len(answers(1))]


@pytest.mark.parametrize("core", ["trap:native", pytest.param("trap:portable", marks=pytest.mark.full)])
def test_exits_of_a_ping(core: str) -> None:
    """A ping costs 41 exits through a card made for hardware, 11 through a virtio card, 1 where the
    driver looks at the queue itself, and none where the device does, too."""
    if reason := availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    assert exits_of_pings("ping.s", core) == [41, 41, 41]
    assert exits_of_pings("vping.s", core) == [11, 11, 11, 1, 1, 1, 1]
    assert exits_of_pings("vping.s", core, poll=True)[4:] == [0, 0, 0]


@pytest.mark.parametrize("core", CORE_NAMES)
def test_no_exit_of_a_polled_ping(core: str) -> None:
    """Running freely, a thread of the host's serves the queues: no exit between two answers."""
    if reason := availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    case = replace(CASES["vping.s"], poll=True)
    program = load_program(str(ASSETS / "guests" / case.guest))
    options = replace(case.options, cores=(core,), free=True, budget=SECONDS)
    (report,) = compare(program, options).cores
    ends_as_told(case, report)
    if core != "interpreter":
        assert exits_of_pings("vping.s", core, poll=True, free=True)[4:] == [0, 0, 0]


@pytest.mark.parametrize("core", ["interpreter", "trap:native"])
def test_dma_without_an_iommu(core: str) -> None:
    """Without an IOMMU the device writes over the kernel; with one a note names the address."""
    if reason := availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    program, options = load_program(str(ASSETS / "guests" / "dma.s")), CASES["dma.s"].options
    (lost,) = compare(program, replace(options, cores=(core,), virtio=("block",))).cores
    assert (lost.console, lost.exit_status) == (LOST, 0)
    (kept,) = compare(program, replace(options, cores=(core,))).cores
    assert "store to 0x31000, which the IOMMU does not let it reach" in " ".join(kept.notes)


def test_both_say_the_same() -> None:
    """What one machine says, the other prints too."""
    program = load_program(str(ASSETS / "guests" / "chat.s"))
    (report,) = compare(program, replace(CASES["chat.s"].options, cores=("interpreter",))).cores
    assert report.other is not None
    assert report.other.console == report.console == CASES["chat.s"].console


def test_doorbells() -> None:
    """On KVM, running freely, a kick is no exit: a driver that looks at its queue has none, also where
    the device waits to be told. Each kick is a device access as ever; --slow has none of that."""
    if reason := availability("kvm").reason:
        pytest.skip(f"kvm: {reason}")
    case = CASES["vping.s"]
    program = load_program(str(ASSETS / "guests" / case.guest))
    options = replace(case.options, cores=("kvm", "interpreter"), free=True, budget=SECONDS)
    kvm, other = compare(program, options).cores
    ends_as_told(case, kvm)
    assert kvm.device_accesses == other.device_accesses
    assert RUNG in kvm.notes
    assert RUNG not in other.notes
    (slow,) = compare(program, replace(options, cores=("kvm",), slow=True)).cores
    ends_as_told(case, slow)
    assert slow.exits_by_reason["mmio"] == kvm.exits_by_reason["mmio"] + 9
    assert exits_of_pings("vping.s", "kvm", free=True)[4:] == [0, 0, 0]
