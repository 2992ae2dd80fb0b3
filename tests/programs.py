"""Your own programs on every core: ``python -m tests.programs FOLDER`` runs each program of a folder.

A program is any file that Ringscope starts: a static Linux program, a unikernel, a kernel, a bare ELF
file. Each runs freely on every core that is asked for; a Linux program is run by this host as well, and
its output and status there are what the cores are held against. For any other program that is the first
core. With ``--exact N`` the cores are also compared after each of the first N instructions.

Beside a program NAME may lie NAME.args, its arguments, and NAME.input, its standard input. If the
folder has a folder ``files``, Linux programs may read what is in it.

Exit code: 0 if all agree, else 1.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from cores.engines import registry
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.machine.report import CoreReport
from cores.programs import elf
from cores.programs.loader import load_program
from cores.programs.program import Program, StartOptions
from cores.runs.compare import compare

_COLUMN = 22


@dataclass(frozen=True, slots=True)
class Ran:
    """One run. output: what came out on the console. ending: in words."""

    where: str
    output: str
    ending: str
    seconds: float

    def beside(self, other: Ran) -> str:
        """The run in a few words, where ``other`` is what it should be."""
        if (self.output, self.ending) == (other.output, other.ending):
            return f"same, {self.seconds:.2f} s"
        return "other output" if self.ending == other.ending else self.ending


@dataclass(frozen=True, slots=True)
class Given:
    """A program of the folder, and what it is run with."""

    path: Path
    program: Program
    start: StartOptions
    typed: bytes


def programs(folder: Path) -> Iterator[Given | str]:
    """The folder's programs, by name; for an ELF file that cannot be started, a sentence."""
    files = folder / "files"
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix in (".args", ".input"):
            continue
        content = path.read_bytes()
        if not content.startswith(elf.MAGIC):
            continue
        arguments, typed = _beside(path, ".args").strip(), _beside(path, ".input")
        try:
            plain = load_program(str(path))
            linux = plain.format == "linux" or "__libc_start_main" in plain.symbols  # as in musl's
            start = StartOptions(
                arguments, linux=linux, files=str(files) if linux and files.is_dir() else ""
            )
            yield Given(path, load_program(str(path), options=start), start, typed)
        except InputError as error:
            yield str(error)


def _beside(path: Path, ending: str) -> bytes:
    file = Path(f"{path}{ending}")
    return file.read_bytes() if file.exists() else b""


def on_this_host(given: Given, seconds: float) -> Ran:
    """Run a Linux program natively, with the environment that the guest kernel gives it."""
    words = shlex.split(given.start.append.decode("utf-8", "surrogateescape"))
    began = perf_counter()
    try:
        done = subprocess.run(
            [str(given.path), *words], executable=given.path.resolve(), input=given.typed, check=False,
            cwd=given.start.files or None, env={"PATH": "/", "HOME": "/"}, timeout=seconds,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Ran("this host", "", f"failed: {error}", perf_counter() - began)
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    output = done.stdout.decode("latin-1")
    return Ran("this host", output, f"exit {status}", perf_counter() - began)


def on_core(given: Given, core: str, seconds: float) -> Ran | None:
    """Run freely on one core; None where it is not available."""
    options = Options(
        cores=(core,), free=True, budget=seconds, input=given.typed, start=given.start
    )  # fmt: skip
    (report,) = compare(given.program, options).cores
    return _ran(report) if report.available else None


def _ran(report: CoreReport) -> Ran:
    status = "" if report.exit_status is None else f" {report.exit_status}"
    reason = f" ({report.reason})" if report.reason else ""
    return Ran(report.core, report.console, f"{report.stop}{status}{reason}", report.seconds)


def exactly(given: Given, cores: list[str], steps: int) -> str:
    """The result of comparing the cores after each of the first ``steps`` instructions."""
    options = Options(cores=tuple(cores), budget=steps, input=given.typed, start=given.start)
    report = compare(given.program, options)
    if report.equivalent is None:
        return "nothing to compare"
    at = report.divergence.instruction if report.divergence else 0
    return "equal" if report.equivalent else f"differ at instruction {at:,}"


def run(folder: Path, cores: list[str], seconds: float, steps: int) -> int:
    """Run all programs of a folder and print a table."""
    ran = wrong = 0
    heads = ["this host", *cores, *(["exact"] if steps else [])]
    print("".join(name.ljust(_COLUMN) for name in ("program", *heads)).rstrip())
    for given in programs(folder):
        if isinstance(given, str):
            print(given)
            continue
        ran += 1
        reference = on_this_host(given, seconds) if given.program.format == "linux" else None
        cells = ["-" if reference is None else f"{reference.ending}, {reference.seconds:.2f} s"]
        for core in cores:
            here = on_core(given, core, seconds)
            reference = reference or here
            cells.append("not here" if here is None or reference is None else here.beside(reference))
        if steps:
            cells.append(exactly(given, cores, steps))
        good = all(
            cell == "not here" or cell.startswith(("same", "equal", "nothing")) for cell in cells[1:]
        )
        wrong += not good
        print("".join(cell.ljust(_COLUMN) for cell in (given.path.name, *cells)).rstrip(), flush=True)
    print(f"{ran} programs, {wrong} of them not everywhere the same")
    return 1 if wrong or not ran else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.programs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--cores", default=",".join(registry.CORE_NAMES), metavar="A,B")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--exact", type=int, default=0, metavar="N", help="instructions")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: no such folder")
    cores = arguments.cores.split(",")
    if unknown := [core for core in cores if core not in registry.ACCEPTED_NAMES]:
        parser.error(f"no core is called {unknown[0]}; there are {', '.join(registry.ACCEPTED_NAMES)}")
    return run(arguments.folder, cores, arguments.seconds, arguments.exact)


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    sys.exit(main())
