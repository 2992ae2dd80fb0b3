"""Assembles the boot code: ``python -m cores.pc.boot.build_bootcode``, where Keystone is installed."""

from __future__ import annotations

from cores.pc.boot.disk_bootcode import HERE, ORIGINS
from cores.programs.assembler.keystone import assemble


def main() -> None:
    for part, origin in ORIGINS.items():
        source = HERE / f"{part}.s"
        image = assemble(source.read_text(), source.name, origin)
        source.with_suffix(".bin").write_bytes(image.code)
        print(f"{source.name}: {len(image.code)} bytes")


if __name__ == "__main__":
    main()
