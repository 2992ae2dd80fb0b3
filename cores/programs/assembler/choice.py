"""Which assembler there is: Keystone, else GNU as, else LLVM; or the one that the environment names.

Keystone has no wheel but for x86-64, and its last release is of 2020. The others are programs: GNU as
under the names that Debian and Homebrew give the one for x86-64, and LLVM's in whichever form there is.
llvmlite is none of them: on other hosts than x86 it has no parser for x86 assembly.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cores.errors import InputError
from cores.programs.assembler import keystone, objects
from cores.programs.assembler.image import Image

VARIABLE = "RINGSCOPE_ASSEMBLER"
KEYSTONE, GNU, LLVM = "keystone", "gnu", "llvm"
NAMES = (KEYSTONE, GNU, LLVM)
HINT = (
    "install GNU as for x86-64 (Debian: binutils-x86-64-linux-gnu, Homebrew: x86_64-elf-binutils),"
    " LLVM or clang, or `pip install ziglang`"
)
_TARGET = "x86_64-unknown-linux-gnu"
_MAC_TOOLS = ("/Library/Developer/CommandLineTools", "/Applications/Xcode.app")


@dataclass(frozen=True, slots=True)
class Assembler:
    """name: one of NAMES. command: starts it, () for Keystone. title: for the user. named: the
    environment asks for it."""

    name: str
    command: tuple[str, ...]
    title: str
    named: bool = False


def chosen() -> Assembler | None:
    """The assembler that the environment names, else the first that there is; None: there is none.
    Raises InputError where the named one is not here."""
    name = os.environ.get(VARIABLE, "").strip().lower()
    if not name:
        return next((found for each in NAMES if (found := find(each))), None)
    if name not in NAMES:
        raise InputError(f"{VARIABLE} is {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name!r}")
    found = find(name)
    if found is None:
        raise InputError(f"{VARIABLE} asks for {name}, which is not installed here")
    return Assembler(found.name, found.command, found.title, named=True)


def assemble(source: str, path: str, base: int) -> Image:
    """The image of ``source`` by the chosen assembler. Raises InputError."""
    assembler = chosen()
    if assembler is None:
        raise InputError(f"there is no assembler here: {HINT}", path)
    if assembler.name == KEYSTONE:
        return keystone.assemble(source, path, base)
    return objects.assemble(source, path, base, assembler.command)


def find(name: str) -> Assembler | None:
    """The assembler with this name, if it is installed."""
    if name == KEYSTONE:
        return Assembler(KEYSTONE, (), "Keystone") if keystone.installed() else None
    return _gnu() if name == GNU else _llvm()


@cache
def _gnu() -> Assembler | None:
    for program in ("x86_64-linux-gnu-as", "x86_64-elf-as", "as"):
        path = shutil.which(program)
        if path and (program != "as" or _is_gnu_for_x86(path)):
            return Assembler(GNU, (path, "--64"), f"GNU as ({program})")
    return None


def _is_gnu_for_x86(path: str) -> bool:
    """Whether `as` is the GNU assembler for this architecture: on macOS it is clang, on ARM for ARM."""
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"GNU assembler" in done.stdout and b"x86_64" in done.stdout


@cache
def _llvm() -> Assembler | None:
    if path := shutil.which("llvm-mc"):
        return Assembler(LLVM, (path, "-filetype=obj", f"-triple={_TARGET}"), "LLVM (llvm-mc)")
    tail = ("-c", "-x", "assembler", "-Wno-everything")
    if (path := shutil.which("clang")) and not _is_stub(path):
        return Assembler(LLVM, (path, f"--target={_TARGET}", *tail), "LLVM (clang)")
    if find_spec("ziglang"):
        command = (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-none", *tail)
        return Assembler(LLVM, command, "LLVM (Zig's clang)")
    return None


def _is_stub(path: str) -> bool:
    """Whether it is macOS's /usr/bin/clang without the tools behind it: it would open a window."""
    if platform.system() != "Darwin" or not path.startswith("/usr/bin/"):
        return False
    return not any(Path(tools).exists() for tools in _MAC_TOOLS)
