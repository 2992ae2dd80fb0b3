"""Suites that nobody here wrote: ``python -m tests.suites FOLDER`` runs each kernel of a folder.

A kernel is any file that starts by Multiboot, built elsewhere (kvm-unit-tests, QEMU's system tests).
Each runs freely on every core that is asked for, and on QEMU where it is installed; shown are its lines
that begin with PASS, FAIL or SKIP, and how it ended. Beside a kernel NAME may lie NAME.args, its
command line, and NAME.env or the folder's ``environment``, a module: kvm-unit-tests read how the
machine is made from one (NR_CPUS=1, MEMSIZE=256, TEST_DEVICE=1, MEMLIMIT=256, BOOTLOADER=0).

Exit code: 0 if no core has a FAIL that QEMU has not, else 1.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cores.engines import registry
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.programs.loader import load_program
from cores.programs.program import Program, StartOptions
from cores.runs.compare import compare

VERDICTS = ("PASS", "FAIL", "SKIP")
RAM = 256 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one machine has shown. where: a core, or "qemu". ending: in words."""

    where: str
    lines: tuple[str, ...]
    ending: str

    @property
    def failures(self) -> frozenset[str]:
        return frozenset(line for line in self.lines if line.startswith("FAIL"))

    def __str__(self) -> str:
        counts = (f"{sum(line.startswith(v) for line in self.lines)} {v}" for v in VERDICTS)
        return f"  {self.where:<14} {', '.join(counts)}; {self.ending}"


def kernels(folder: Path) -> Iterator[tuple[Path, Program, StartOptions]]:
    """The files of the folder that start by Multiboot."""
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        options = StartOptions(_beside(path, ".args"), _modules(path))
        try:
            program = load_program(str(path), RAM, options=options)
        except InputError:
            continue  # no kernel: its arguments, its source
        if program.format == "multiboot":
            yield path, program, options


def _beside(path: Path, ending: str) -> bytes:
    file = Path(f"{path}{ending}")
    return file.read_bytes().strip() if file.exists() else b""


def _modules(path: Path) -> tuple[str, ...]:
    places = (Path(f"{path}.env"), path.parent / "environment")
    return tuple(f'"{place}"' for place in places if place.exists())[:1]


def on_core(program: Program, core: str, seconds: float) -> Outcome:
    """Run freely on one core."""
    (report,) = compare(program, Options(cores=(core,), free=True, budget=seconds)).cores
    if not report.available:
        return Outcome(core, (), f"not here: {report.reason}")
    status = "" if report.exit_status is None else f" {report.exit_status}"
    reason = f" ({report.reason})" if report.reason else ""
    return Outcome(report.core, _verdicts(report.console), f"{report.stop}{status}{reason}")


def on_qemu(path: Path, options: StartOptions, seconds: float) -> Outcome | None:
    """Run on QEMU's TCG; None where it is not installed."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        return None
    command = [
        qemu, "-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot",
        "-m", str(RAM >> 20), "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
        "-kernel", str(path), "-append", options.append.decode("latin-1"),
    ]  # fmt: skip
    if options.modules:
        command += ["-initrd", options.modules[0].strip('"')]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as late:
        return Outcome("qemu", _verdicts((late.stdout or b"").decode("latin-1")), "timeout")
    refused = done.stderr.decode("latin-1").strip().splitlines()
    ending = f"exit {done.returncode >> 1}" if done.returncode & 1 else f"ended {done.returncode}"
    if refused and not done.stdout:
        ending = refused[-1]
    return Outcome("qemu", _verdicts(done.stdout.decode("latin-1")), ending)


def _verdicts(console: str) -> tuple[str, ...]:
    lines = (line.strip() for line in console.splitlines())
    return tuple(line for line in lines if line.startswith(VERDICTS))


def run(folder: Path, cores: list[str], seconds: float) -> int:
    """Run all kernels of a folder and print what they show."""
    worse = found = 0
    for path, program, options in kernels(folder):
        found += 1
        print(path.name, flush=True)
        reference = on_qemu(path, options, seconds)
        if reference is not None:
            print(reference, flush=True)
        known = frozenset() if reference is None else reference.failures
        for core in cores:
            outcome = on_core(program, core, seconds)
            print(outcome, flush=True)
            for line in sorted(outcome.failures - known):
                print(f"    {line}", flush=True)
                worse += 1
    print(f"{found} kernels, {worse} failures that QEMU has not")
    return 1 if worse or not found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--cores", default=",".join(registry.CORE_NAMES), metavar="A,B")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: no such folder")
    return run(arguments.folder, arguments.cores.split(","), arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
