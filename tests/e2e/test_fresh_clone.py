"""`./run` and `./test` from a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GREETING = "Hello from ring 0, or so I believe."
TOOLS = ("sh", "dirname", "basename", "cksum", "mkdir", "cat", "rm", "sleep")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The sources as a clone has them, without environment, caches and history."""
    target = tmp_path / "clone"
    ignored = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def start(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env=environment | more,
    )  # fmt: skip


def tools(tmp_path: Path, python: str = "") -> str:
    """A PATH with the scripts' tools, and a python3 of the test's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    if python:
        (folder / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (folder / "python3").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("python", "complaint"),
    [
        ("", "run: needs Python 3.11 or later, and finds none\n"),
        ("exit 1", "run: needs Python 3.11 or later, and finds none\n"),
        (
            'case "$*" in *ensurepip*) exit 1 ;; esac\nexit 0',
            "run: needs the package python3-venv (for python3)\n",
        ),
    ],
)
def test_what_is_missing(python: str, complaint: str, clone: Path, tmp_path: Path) -> None:
    """Without Python, with an old one, and without venv, one line names the missing part."""
    done = start([str(clone / "run")], PATH=tools(tmp_path, python))
    assert done.returncode == 2
    assert done.stderr.split("once ...\n")[-1] == complaint
    assert not (clone / ".venv/.lock").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(clone: Path, tmp_path: Path) -> None:
    """In a read-only clone one line says so."""
    clone.chmod(0o555)
    done = start([str(clone / "run")])
    clone.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr.startswith("run: cannot write to")


@pytest.mark.full
def test_run_from_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    """Two first starts at once set the environment up once; the next start finds it ready."""
    command = [str(clone / "run"), "compare", "hello", "--cores", "interpreter"]
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    first = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [process.communicate() for process in first]
    assert [process.returncode for process in first] == [0, 0], outputs
    assert all(GREETING in out for out, _ in outputs)
    again = start([str(clone / "run")])
    assert (again.returncode, again.stderr) == (0, "")
    assert GREETING in again.stdout
