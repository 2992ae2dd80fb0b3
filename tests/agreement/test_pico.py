"""pico, the small UNIX: its shell on every core, its panic, and that it is what its sources say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from assets import pico
from cores.engines.registry import availability
from cores.lockstep.options import Options
from cores.machine.report import CompareReport
from cores.pc.stop import Stop
from cores.programs.loader import load_program
from cores.runs.compare import compare

BOOTED = "pico: a disk with 11 files\nType `help` for what there is.\n$ "
TYPED = (
    b"cat readme | wc\nps\nspin a & spin b\ngrow 60\ncrash null\ncrash cli\ncrash call\necho alive\n"
)
ANSWERS = (
    "5 lines, 57 words, 293 bytes\n",
    " pid parent state pages slices program\n",
    "3 pages; 60 calls deep 18\n",
    ": a page fault at 0x4000a9, of address 0x0: killed\n",
    ": something that only the kernel may do at 0x",
    "the kernel said no\n",
    "\nalive\n",
)


def run(core: str, **how: object) -> CompareReport:
    """Run it on the interpreter and on another core; skip where that core cannot."""
    here = availability(core)
    if not here.available:
        pytest.skip(f"{core}: {here.reason}")
    cores = tuple(dict.fromkeys(("interpreter", core)))
    report = compare(
        load_program(str(pico.KERNEL)), Options(cores=cores, disks=(str(pico.DISK),), **how)
    )  # type: ignore[arg-type]
    for one in report.cores:
        if one.core == "kvm" and one.stop is Stop.ERROR:
            pytest.skip(f"kvm: {one.reason}")
    return report


@pytest.mark.parametrize(
    "core",
    ["trap:native", *(pytest.param(core, marks=pytest.mark.full) for core in ("trap:portable", "kvm"))],
)
def test_boot_exact(core: str) -> None:
    """Up to the shell's prompt, where it waits for a key for ever, all cores have one state."""
    report = run(core)
    assert report.divergence is None
    for one in report.cores:
        assert one.stop is Stop.HALTED, one.reason
        assert one.console.endswith(BOOTED)
        assert one.screen.endswith(BOOTED.rstrip())
    assert report.cores[0].instructions < 20_000
    if core.startswith("trap"):
        assert report.cores[1].exits < 200


@pytest.mark.parametrize(
    "core",
    [
        "interpreter",
        "trap:native",
        *(pytest.param(core, marks=pytest.mark.full) for core in ("trap:portable", "kvm")),
    ],
)
def test_shell_free(core: str) -> None:
    """Pipes, preemption, a growing stack, programs that are killed; the shell lives on."""
    report = run(core, free=True, budget=120.0, input=TYPED, until="\nalive\n")
    one = report.cores[-1]
    assert one.stop is Stop.UNTIL, one.reason
    for answer in ANSWERS:
        assert answer in one.console
    assert re.search("a b|b a", one.console)


@pytest.mark.full
def test_shell_exact() -> None:
    """The same in lockstep, timer interrupts and all."""
    report = run("trap:native", input=TYPED)
    assert report.divergence is None
    assert "a b a b a b a b a b $" in report.cores[1].console


def test_pure_panics() -> None:
    """Pure trap-and-emulate shows it the host's flags, and it panics in its own words."""
    report = run("trap:native", pure=True)
    assert report.divergence is not None
    assert report.divergence.asm == "pushfd"
    assert report.cores[0].console.endswith(BOOTED)
    assert report.cores[1].console.endswith("panic: the scheduler was called with interrupts on\n")
    assert report.cores[1].stop is Stop.HALTED


def test_without_a_disk() -> None:
    """It says what is missing."""
    report = compare(load_program(str(pico.KERNEL)), Options(cores=("interpreter",)))
    assert report.cores[0].console.endswith(
        "panic: there is no disk: give it one with --disk assets/disks/pico.img\n"
    )


@pytest.mark.full
def test_qemu() -> None:
    """QEMU boots the same files to the same prompt."""
    if shutil.which("qemu-system-i386") is None:
        pytest.skip("qemu-system-i386 is not installed")
    drive = f"file={pico.DISK},format=raw,index=0,snapshot=on"
    command = ["qemu-system-i386", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-m", "256",
               "-kernel", str(pico.KERNEL), "-drive", drive]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdout is not None
        console = b""
        while not console.endswith(b"$ ") and (byte := qemu.stdout.read(1)):
            console += byte
        qemu.kill()
    assert console.decode() == run("interpreter", free=True, until="$ ").cores[0].console


def _compiler() -> str:
    """This host's gcc with which 32-bit programs can be made, in its own words; skips without one."""
    if shutil.which("gcc") is None or shutil.which("ld") is None:
        pytest.skip("gcc or ld is not installed")
    probe = [
        "gcc",
        "-m32",
        "-ffreestanding",
        "-nostdlib",
        "-x",
        "c",
        "-c",
        "-o",
        "/dev/null",
        "/dev/null",
    ]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("gcc makes no 32-bit code here")
    said = subprocess.run(["gcc", "--version"], capture_output=True, check=True, text=True)
    return said.stdout.partition(" ")[2].partition("\n")[0]


def test_is_its_sources(tmp_path: Path) -> None:
    """Kernel and disk are what the compiler that made them makes of the sources."""
    here = _compiler()
    there = re.search(rb"GCC: ([ -~]+)", pico.KERNEL.read_bytes())
    assert there is not None
    if there[1].decode() != here:
        pytest.skip(f"made by gcc {there[1].decode()}, and here is {here}")
    assert pico.build(tmp_path) == (pico.KERNEL.read_bytes(), pico.DISK.read_bytes())


@pytest.mark.full
def test_sources_by_any_compiler(tmp_path: Path) -> None:
    """What another gcc makes of the sources boots as well."""
    _compiler()
    kernel, disk = pico.build(tmp_path)
    (tmp_path / "pico.elf").write_bytes(kernel)
    (tmp_path / "pico.img").write_bytes(disk)
    options = Options(cores=("interpreter",), disks=(str(tmp_path / "pico.img"),))
    (report,) = compare(load_program(str(tmp_path / "pico.elf")), options).cores
    assert report.console.endswith(BOOTED)
