"""The checks that tests/real_kvm/run makes inside its machine: doctor, comparisons, and pytest.

    checks.py             all of them, and "N passed, N failed, N skipped" as the last line
    checks.py compare     doctor and the comparisons alone
    checks.py tests       the tests alone
    checks.py WORDS...    pytest with these words alone

What is TCG's own fault is deselected by name (deselected.txt, each with its reason). Which forms of the
opcode sweep it executes wrongly is said in forms.txt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
_ASSEMBLED = ("hello", "tour", "tasks", "holes", "swap")
GUESTS = (*(f"assets/images/{name}.bin" for name in _ASSEMBLED), "cguest")
"""From their images: Keystone takes its time here, and has an end set to it."""
NPT = Path("/sys/module/kvm_amd/parameters/npt")
SLOW = 60
"""Seconds of a free guest's budget: an exit costs 0.3 ms here, and one of them makes 67,124."""
PLACES = ("tests/cores/engines/kvm", "tests/contract", "tests/agreement")
PYTEST = ("-rs", "-p", "no:cacheprovider", "-n", "2", "--timeout", "3000")
Result = tuple[str, bool]
"""What was checked, and whether it holds."""


def ringscope(*words: str) -> dict[str, object]:
    """The JSON output of a command."""
    command = [sys.executable, "-m", "app", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        print(done.stdout[-2000:], done.stderr[-2000:])
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


def deselected() -> list[str]:
    """The tests that deselected.txt names for this machine."""
    shadowed = NPT.exists() and NPT.read_text().strip() in ("N", "0")
    text = (HERE / "deselected.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line.removeprefix("npt=0 ") for line in lines if shadowed or not line.startswith("npt=0 ")]


def tests(*words: str) -> tuple[int, int, int]:
    """Run pytest; gives (passed, failed, skipped)."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.xml")
        command = [sys.executable, "-m", "pytest", *PYTEST, f"--junitxml={log}", *words]
        environment = os.environ | {"RINGSCOPE_HOSTS_FAULTS": str(HERE / "forms.txt")}
        code = subprocess.run(command, check=False, env=environment).returncode
        if not log.exists():
            return 0, 1, 0
        suite = ElementTree.parse(log).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    return int(suite["tests"]) - failed - skipped, failed or int(code not in (0, 5)), skipped


def main(words: list[str]) -> None:
    passed = failed = skipped = 0
    if words in ([], ["compare"]):
        for check in (doctor, comparisons):
            for name, holds in check():
                print("ok    " if holds else "FAILED", name, flush=True)
                passed, failed = passed + holds, failed + (not holds)
    if words in ([], ["tests"]):
        words = [*PLACES, "-k", "kvm", *(f"--deselect={name}" for name in deselected())]
    counts = tests(*words) if words and words != ["compare"] else (0, 0, 0)
    print(f"{passed + counts[0]} passed, {failed + counts[1]} failed, {skipped + counts[2]} skipped")


if __name__ == "__main__":
    main(sys.argv[1:])
