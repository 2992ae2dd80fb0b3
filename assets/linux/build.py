"""Builds the guest kernel from its source: ``python -m assets.linux.build`` writes ``kernel.elf``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
KERNEL = HERE / "kernel.elf"

_COMMAND = (
    "gcc", "-O2", "-std=gnu11", "-masm=intel", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
    "-Wno-unused-function", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-pic",
    "-fno-strict-aliasing", "-fno-tree-loop-distribute-patterns", "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none", "-mgeneral-regs-only", "-mno-red-zone", "-nostdlib", "-static", "-no-pie",
    "-Wl,-T,kernel.ld", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096", "entry.S", "kernel.c",
)  # fmt: skip
"""SSE registers are the program's: the kernel saves none, so it may use none."""


def build(target: Path) -> None:
    """Compile and link the kernel. Raises subprocess.CalledProcessError, FileNotFoundError."""
    subprocess.run((*_COMMAND, "-o", str(target)), cwd=HERE, check=True, capture_output=True)


def compiled_by(image: bytes) -> str:
    """The major version of the gcc that has compiled an image, from its .comment section."""
    found = re.search(rb"GCC: \([^)]*\) (\d+)\.", image)
    return found.group(1).decode() if found else ""


def main() -> None:
    build(KERNEL)
    print(f"{KERNEL.name}: {KERNEL.stat().st_size} bytes, by gcc {compiled_by(KERNEL.read_bytes())}")


if __name__ == "__main__":
    main()
