"""Assembles all guests, lessons' and lab's too, into assets/images: ``python -m assets.build``."""

from __future__ import annotations

from pathlib import Path

from cores.programs import shipped
from cores.programs.assembler.keystone import assemble
from cores.programs.program import LOAD_ADDRESS


def lesson_guests() -> list[Path]:
    """The guests that lie beside the lessons, and those of the lab."""
    lessons = shipped.ASSETS.parent / "lessons"
    folders = (lessons / "course" / "guests", lessons / "template", shipped.ASSETS / "lab")
    return sorted(source for folder in folders for source in folder.glob("*.s"))


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
