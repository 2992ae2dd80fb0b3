"""Assembles the boot code: ``python -m cores.boot``, wherever Keystone is installed."""

from __future__ import annotations

from ..assembler import assemble
from . import HERE, ORIGINS


def main() -> None:
    for part, origin in ORIGINS.items():
        source = HERE / f"{part}.s"
        image = assemble(source.read_text(), source.name, origin)
        source.with_suffix(".bin").write_bytes(image.code)
        print(f"{source.name}: {len(image.code)} bytes")


if __name__ == "__main__":
    main()
