"""Keystone, run in a child process (cores/programs/assembler/keystone_child.py)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cores.errors import InputError
from cores.programs.assembler import outcome
from cores.programs.assembler.image import Image
from cores.programs.assembler.mnemonics import is_mnemonic
from cores.programs.assembler.parser import Assembly, mistake, parse

CPU_LIMIT = 10
"""Seconds of CPU time. 10,000 lines take 0.1 s; on some invalid sources Keystone never returns."""
PATIENCE = 300
"""Seconds that may pass, however busy the computer is; and on hosts that limit no CPU time."""

OUT_OF_TIME = -getattr(signal, "SIGXCPU", 0) or None
"""Exit code of a process that has met its limit of CPU time (setrlimit(2))."""


def installed() -> bool:
    """Whether Keystone is installed. It has no wheel for some machines."""
    return find_spec("keystone") is not None


def assemble(source: str, path: str, base: int) -> Image:
    """The image of ``source`` for address ``base``. Raises InputError with the line of a mistake."""
    assembly = parse(source, path, is_mnemonic, base)
    units = assembly.units
    try:
        answer, code = run_once(path, base, [u.text for u in units])
    except BrokenDown as failure:
        raise _culprit(failure, assembly, path) from None
    if "errno" in answer:
        raise outcome.refusal(assembly, answer["errno"], answer["unit"], path)
    return outcome.image(assembly, code, answer["addresses"], path, base)


class BrokenDown(InputError):
    """Keystone's process crashed, as on `mov ah, r8b`."""


def _culprit(failure: BrokenDown, assembly: Assembly, path: str) -> InputError:
    """The statement at which Keystone crashes, by bisection: the last of the shortest crashing
    prefix."""
    units = assembly.units
    good, bad = 0, len(units)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            run_once(path, 0x100000, [u.text for u in units[:middle]])
            good = middle
        except BrokenDown:
            bad = middle
    return mistake(failure.reason, units[bad - 1].statement, path)


def run_once(path: str, base: int, units: list[str]) -> tuple[dict[str, Any], bytes]:
    """Run a new Keystone process once: its answer and the image."""
    question = json.dumps({"base": base, "units": units}).encode()
    child = Path(__file__).with_name("keystone_child.py")
    # -P: this file's folder has modules with the names of standard ones.
    command = [sys.executable, "-P", "-X", "utf8", str(child), str(CPU_LIMIT)]
    try:
        done = subprocess.run(
            command, input=question, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"Keystone, the assembler, found no end in {PATIENCE} s", path) from None
    except OSError as error:
        raise InputError(f"the assembler cannot be started: {error.strerror}", path) from None
    if done.returncode == OUT_OF_TIME:
        raise InputError(f"Keystone, the assembler, found no end in {CPU_LIMIT} s of CPU time", path)
    head, newline, code = done.stdout.partition(b"\n")
    if done.returncode or not newline:
        raise BrokenDown("Keystone, the assembler, broke down over this", path)
    return json.loads(head), code
