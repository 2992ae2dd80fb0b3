"""Apply each mutation to a copy of the tree, and run the tests that must notice."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__")
PATIENCE = 300
"""Seconds for the tests of one mutation; a change that makes them hang has been noticed, too."""
EVERY = 8
"""In CI each eighth is tried."""


def main(words: list[str] | None = None) -> int:
    """Try the mutations asked for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only those that have such a word")
    parser.add_argument("--all", action="store_true", help="all of them instead of a handful")
    chosen = select(parser.parse_args(words))
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
        failed = [mutation for mutation in chosen if not noticed(tree, mutation)]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} mutations were noticed")
    return 1 if failed or not chosen else 0


def select(arguments: argparse.Namespace) -> list[Mutation]:
    if arguments.words:
        return [m for m in MUTATIONS if any(word in f"{m.file} {m.what}" for word in arguments.words)]
    return list(MUTATIONS if arguments.all else MUTATIONS[::EVERY])


def noticed(tree: Path, mutation: Mutation) -> bool:
    """Do the tests fail with the mutation? The tree is restored afterwards."""
    path = tree / mutation.file
    original = path.read_text()
    if original.count(mutation.old) != 1:
        print(f"DOES NOT APPLY  {mutation}: {original.count(mutation.old)} places")
        return False
    if not green(tree, mutation.tests):
        print(f"RED BEFORE      {mutation}: {' '.join(mutation.tests)}")
        return False
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        survived = green(tree, mutation.tests)
    finally:
        path.write_text(original)
    print(f"{'SURVIVED' if survived else 'noticed ':14}  {mutation}", flush=True)
    return not survived


def green(tree: Path, tests: tuple[str, ...]) -> bool:
    """Run pytest in the tree. A run without any test that passes is not green."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-n", "0", "--full", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return False
    return process.returncode == 0 and " passed" in out


if __name__ == "__main__":
    raise SystemExit(main())
