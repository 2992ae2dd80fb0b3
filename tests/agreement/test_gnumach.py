"""A real operating system's kernel, GNU Mach as Debian builds it, against QEMU.

RINGSCOPE_GNUMACH names a folder with the unpacked kernels of Debian's package gnumach-image-1.8-486,
``gnumach-i386`` and ``gnumach-amd64``; CI fetches them. QEMU's loader takes the first one alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cores.engines import registry
from cores.lockstep.options import Options
from cores.programs.loader import load_program
from cores.programs.program import StartOptions
from cores.runs.compare import compare

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

ARGUMENTS, END = "console=com0", "loaded with the kernel!"
SECONDS = 900.0
KERNELS = ("gnumach-i386", "gnumach-amd64")
OF_THE_MACHINE = re.compile(
    r"biosmem|vm_page|pci|Probing PCI|ide\d?[: ]|hd\d|intnull|Floppy|floppy|FDC|probing|Partition|RTC"
    r"|lpr|Controller|BM-DMA"
)
"""Lines that tell of memory and of devices, in which QEMU's PC and the platform differ."""


def kernel(name: str) -> Path:
    """The kernel; the test is skipped where it is not here."""
    path = Path(os.environ.get("RINGSCOPE_GNUMACH", "/nowhere")) / name
    if not path.exists():
        pytest.skip(f"RINGSCOPE_GNUMACH names no folder with {name}")
    return path


def told(console: str) -> list[str]:
    """The lines that the kernel would write on any PC."""
    lines = (re.sub(r"\x1b\[K|[\r\0]", "", line).strip() for line in console.split("\n"))
    return [line for line in lines if line and not OF_THE_MACHINE.match(line)]


def on_qemu(path: Path) -> str:
    qemu = shutil.which("qemu-system-i386")
    if qemu is None:
        pytest.skip("qemu-system-i386 is not installed")
    command = [qemu, "-accel", "tcg", "-m", "256", "-kernel", str(path), "-append", ARGUMENTS]
    command += ["-serial", "stdio", "-display", "none", "-monitor", "none", "-no-reboot"]
    shown = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while END.encode() not in shown and (some := os.read(process.stdout.fileno(), 4096)):
            shown += some
        process.kill()
    return shown.decode("latin-1")


def on_core(path: Path, core: str) -> str:
    """The console of one core, to the same line."""
    here = registry.availability(core)
    if not here.available:
        pytest.skip(f"{core}: {here.reason}")
    start = StartOptions(append=ARGUMENTS.encode())
    program = load_program(str(path), options=start)
    options = Options(cores=(core,), free=True, budget=SECONDS, until=END, start=start)
    (report,) = compare(program, options).cores
    if report.limit:
        pytest.skip(f"{core}: {report.reason}")
    return report.console


@pytest.mark.parametrize("core", ["interpreter", "trap:native", "kvm"])
@pytest.mark.parametrize("name", KERNELS)
def test_boots_as_far_as_on_qemu(name: str, core: str) -> None:
    """It boots to the end that it has without servers, and says on the way what it says on QEMU."""
    shown = told(on_core(kernel(name), core))
    assert shown[0].startswith("GNU Mach 1.8")
    assert shown[-1].endswith(END)
    if name == KERNELS[0]:
        assert shown == told(on_qemu(kernel(name)))
