"""Assembles every guest, and those of the lessons, into assets/images: ``python -m assets.build``."""

from __future__ import annotations

from pathlib import Path

from cores.programs import shipped
from cores.programs.assembler.keystone import assemble
from cores.programs.program import LOAD_ADDRESS


def lesson_guests() -> list[Path]:
    """The guests that lie beside the lessons."""
    lessons = shipped.ASSETS.parent / "lessons"
    return sorted([*(lessons / "course" / "guests").glob("*.s"), *(lessons / "template").glob("*.s")])


def main() -> None:
    for source in (*shipped.guests(), *lesson_guests()):
        content = source.read_bytes()
        image = assemble(content.decode(), source.name, LOAD_ADDRESS)
        target = shipped.ASSETS / "images" / source.stem
        target.with_suffix(".bin").write_bytes(image.code)
        target.with_suffix(".json").write_text(shipped.describe(content, image))
        print(f"{source.name}: {len(image.code)} bytes")


if __name__ == "__main__":
    main()
