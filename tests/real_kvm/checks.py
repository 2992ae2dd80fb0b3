"""The checks that tests/real_kvm/run makes inside its machine: doctor, comparisons, and pytest.

    checks.py                all parts but _NAMED, and "N passed, N failed, N skipped" as the last line
    checks.py PART...        only these parts, by the names in PARTS
    checks.py [PART...] TEST WORD...    from the first other word on: pytest with these words

All comparisons are made by one process, since Python takes some 5 s to start here. The tests of many
cores run on the interpreter and on kvm alone (RINGSCOPE_TEST_CORES). What is TCG's own fault is
deselected by name (deselected.txt, each with its reason). Which forms of the opcode sweep it executes
wrongly is said in forms.txt.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
_ASSEMBLED = ("hello", "tour", "tasks", "holes", "swap")
GUESTS = (*(f"assets/images/{name}.bin" for name in _ASSEMBLED), "cguest")
"""From their images: Keystone takes its time here, and has an end set to it."""
NPT = Path("/sys/module/kvm_amd/parameters/npt")
SLOW = 60
"""Seconds of a free guest's budget: an exit costs 0.3 ms here, and one of them makes 67,124."""
TESTS = {
    "engine": ("tests/cores/engines/kvm",),
    "contract": ("tests/contract", "-k", "kvm"),
    "guests": ("tests/agreement/test_guests.py", "-k", "kvm"),
    "irqfd": ("tests/agreement/test_irqfd.py", "-k", "not mechanisms"),
    "modes": ("tests/agreement/test_modes.py",),
    "opcodes": ("tests/agreement/test_opcodes.py", "-k", "kvm"),
    "mechanisms": ("tests/agreement/test_mechanisms.py",),
}
"""The parts that are tests, as words for pytest."""
_NAMED = frozenset({"opcodes", "mechanisms", "lessons"})
"""The parts that run only when they are named: QEMU 10.0 has crashed in the first, and the others are
slow."""
_WBINVD = "QEMU's TCG executes WBINVD at CPL 3, where it should be refused"
_NOT_HERE = {
    "08-kernel-as-process.md": _WBINVD,
    "12-hardware.md": _WBINVD,
    "11-real-system.md": "a whole boot in lockstep takes more than the half hour that it was given",
}
"""Lessons that TCG cannot show, each with the reason."""
PYTEST = ("-rs", "-p", "no:cacheprovider", "-n", "2", "--timeout", "3000")
Result = tuple[str, bool]
"""What was checked, and whether it holds."""
Counts = tuple[int, int, int]
"""Passed, failed, skipped."""


def ringscope(*words: str) -> dict[str, object]:
    """The JSON output of a command."""
    from app.main import main

    said, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints):
        main([*words, "--json"])
    try:
        answer = json.loads(said.getvalue())
    except json.JSONDecodeError:
        print(said.getvalue()[-2000:], complaints.getvalue()[-2000:])
        return {}
    assert isinstance(answer, dict)
    return answer


def doctor() -> Iterator[Result]:
    """Check that a KVM with hardware support lacks no ability."""
    cores = ringscope("doctor").get("cores")
    if not isinstance(cores, list):
        yield "doctor", False
        return
    (kvm,) = (core for core in cores if core["core"] == "kvm")
    yield f"doctor: kvm runs here ({kvm['reason'] or 'it does'})", kvm["available"]
    for ability in kvm["abilities"]:
        yield f"doctor: {ability['name']}: {ability['consequence']}", ability["present"]


def comparisons() -> Iterator[Result]:
    """Compare each guest on the interpreter and on KVM, step for step and free."""
    left_out = deselected()
    for guest in GUESTS:
        for mode in ((), ("--free", "--budget", str(SLOW))):
            name = " ".join(("compare", guest, *mode))
            if name in left_out:
                continue
            answer = ringscope("compare", guest, "--cores", "interpreter,kvm", *mode)
            cores = answer.get("cores")
            ends = [f"{c['core']}: {c['stop']} {c['reason'] or ''}" for c in cores] if (
                isinstance(cores, list)
            ) else []  # fmt: skip
            whole = answer.get("equivalent") is True and not any(": error" in end for end in ends)
            yield f"{name} ({'; '.join(ends)})", whole


def lessons() -> Iterator[Result]:
    """Hold each lesson of the course against the machines here."""
    from app.main import main
    from lessons.format.numbering import course_files

    for path in course_files():
        if path.name in _NOT_HERE:
            print(f"skipped check {path.name}: {_NOT_HERE[path.name]}")
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(["check", str(path), "--timeout", "600"])
        if code:
            print(said.getvalue()[-2000:])
        yield f"check {path.name}", code == 0


CHECKS: dict[str, Callable[[], Iterator[Result]]] = {
    "doctor": doctor, "compare": comparisons, "lessons": lessons,
}  # fmt: skip
PARTS = (*CHECKS, *TESTS)


def deselected() -> list[str]:
    """The tests that deselected.txt names for this machine."""
    shadowed = NPT.exists() and NPT.read_text().strip() in ("N", "0")
    text = (HERE / "deselected.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line.removeprefix("npt=0 ") for line in lines if shadowed or not line.startswith("npt=0 ")]


def checked(check: Callable[[], Iterator[Result]]) -> Counts:
    """Print the results of a check, and count them."""
    passed = failed = 0
    began = time.monotonic()
    for name, holds in check():
        took, began = time.monotonic() - began, time.monotonic()
        print("ok    " if holds else "FAILED", name, f"{took:.1f} s", flush=True)
        passed, failed = passed + holds, failed + (not holds)
    return passed, failed, 0


def tests(*words: str) -> Counts:
    """Run pytest."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.xml")
        command = [sys.executable, "-m", "pytest", *PYTEST, f"--junitxml={log}", *words]
        environment = os.environ | {
            "RINGSCOPE_HOSTS_FAULTS": str(HERE / "forms.txt"),
            "RINGSCOPE_TEST_CORES": "interpreter,kvm",
        }
        code = subprocess.run(command, check=False, env=environment).returncode
        if not log.exists():
            return 0, 1, 0
        suite = ElementTree.parse(log).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    return int(suite["tests"]) - failed - skipped, failed or int(code not in (0, 5)), skipped


def main(words: list[str]) -> None:
    named = 0
    while named < len(words) and words[named] in PARTS:
        named += 1
    daily = [part for part in PARTS if part not in _NAMED]
    parts, rest = words[:named] or ([] if words else daily), words[named:]
    leaving_out = [f"--deselect={name}" for name in deselected()]
    total = (0, 0, 0)
    for part in (*parts, *(["pytest"] if rest else [])):
        began = time.monotonic()
        if part in CHECKS:
            counts = checked(CHECKS[part])
        else:
            counts = tests(*(rest if part == "pytest" else (*TESTS[part], *leaving_out)))
        print(f"== {part}: {time.monotonic() - began:.0f} s", flush=True)
        total = (total[0] + counts[0], total[1] + counts[1], total[2] + counts[2])
    print("{} passed, {} failed, {} skipped".format(*total))


if __name__ == "__main__":
    main(sys.argv[1:])
