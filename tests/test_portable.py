"""The program can be imported and run without the modules that Windows lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WITHOUT_POSIX = """
import asyncio, importlib, pkgutil, subprocess, sys, tempfile
import textual.app, textual.pilot  # they import what they need on this host
for name in ("fcntl", "termios", "tty", "pty", "resource"):
    sys.modules[name] = None  # from here on, importing it fails
sys.path.insert(0, sys.argv[1])
import app, cores, lessons
for package in (app, cores, lessons):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
from app.main import main
sys.exit(main(["compare", "hello", "--cores", "interpreter", "--json"]))
"""

LINUX_ALONE = ("cores.engines.ptrace", "cores.engines.kvm")
"""What the registry imports only where it can be."""


def test_without_the_modules_of_posix() -> None:
    """Without POSIX modules only the engines of Linux cannot be imported, and a guest runs."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_POSIX, str(ROOT)], capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    failed, brace, report = done.stdout.partition("{")
    others = [line for line in failed.splitlines() if not line.startswith(LINUX_ALONE)]
    assert others == []
    assert "Hello from ring 0" in brace + report
