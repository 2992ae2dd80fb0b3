"""Makes pico.elf and its disk, pico.img, from assets/guests/pico: ``python -m assets.pico``.

It needs a gcc that makes 32-bit code, of GNU binutils the assembler and the linker, and no library.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from assets.disks.build import image

SOURCES = Path(__file__).resolve().parent / "guests" / "pico"
KERNEL = SOURCES.with_suffix(".elf")
DISK = Path(__file__).resolve().parent / "disks" / "pico.img"

COMPILE = (
    "gcc", "-m32", "-march=i686", "-mtune=generic", "-mgeneral-regs-only", "-std=gnu11", "-Os",
    "-Wall", "-Wextra",
"-ffreestanding", "-fno-builtin", "-fno-pic", "-fno-pie", "-fcf-protection=none",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns",
    "-ffile-prefix-map=" + str(SOURCES) + "=pico",
)  # fmt: skip
LINK = "ld", "-m", "elf_i386", "--build-id=none", "-z", "noexecstack", "-z", "max-page-size=4096"


def build(folder: Path) -> tuple[bytes, bytes]:
    """The kernel and the disk, made in ``folder``. Raises CalledProcessError where the compiler
    fails, OSError without one."""
    text = _compile(SOURCES / "text.c", folder)
    parts = sorted((SOURCES / "kernel").glob("*.[cS]"))
    objects = [_compile(part, folder) for part in parts]
    kernel = folder / "kernel.elf"
    _run(*LINK, "-T", SOURCES / "kernel" / "kernel.ld", "-o", kernel, *objects, text)
    shared = [
        text,
        *(_compile(SOURCES / "programs" / name, folder) for name in ("start.S", "library.c")),
    ]
    files = {path.name: path.read_bytes() for path in sorted((SOURCES / "files").iterdir())}
    for source in sorted((SOURCES / "programs").glob("*.c")):
        if source.stem == "library":
            continue
        program = folder / source.stem
        _run(*LINK, "-s", "-z", "noseparate-code", "-Ttext-segment=0x400000", "-o", program,
             _compile(source, folder), *shared)  # fmt: skip
        files[source.stem] = program.read_bytes()
    return kernel.read_bytes(), image(files)


def _compile(source: Path, folder: Path) -> Path:
    target = folder / f"{source.parent.name}_{source.stem}.o"
    _run(*COMPILE, "-c", source, "-o", target)
    return target


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        kernel, disk = build(Path(folder))
    KERNEL.write_bytes(kernel)
    DISK.write_bytes(disk)
    print(f"{KERNEL.name}: {len(kernel)} bytes; {DISK.name}: {len(disk)} bytes")


if __name__ == "__main__":
    main()
