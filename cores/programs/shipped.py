"""The guests that come with Ringscope, and their assembled images.

On hosts without Keystone, a shipped guest runs from its image: ``assets/images/NAME.bin`` with the
entry, symbols and lines in ``NAME.json``. ``python -m assets.build`` writes both from the source; a
test holds them equal.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cores.programs.assembler.image import Image

ASSETS = Path(__file__).resolve().parents[2] / "assets"
"""The directory of assets, beside this package in a source tree and installed alike."""


def guests() -> tuple[Path, ...]:
    """The sources of the shipped guests, by name."""
    return tuple(sorted((ASSETS / "guests").glob("*.s")))


def programs() -> tuple[Path, ...]:
    """All shipped programs, by name: these sources, and binaries made by other assemblers."""
    others = [path for ending in ("*.elf", "*.m68k") for path in (ASSETS / "guests").glob(ending)]
    return tuple(sorted((*guests(), *others)))


def image_of(source: bytes) -> Image | None:
    """The image of a shipped guest, recognized by its source text; None for any other source."""
    return _images().get(_digest(source))


@cache
def _images() -> dict[str, Image]:
    found = {}
    for description in (ASSETS / "images").glob("*.json"):
        fields = json.loads(description.read_text())
        lines = {int(address): line for address, line in fields["lines"].items()}
        code = description.with_suffix(".bin").read_bytes()
        found[fields["source_sha256"]] = Image(code, fields["entry"], fields["symbols"], lines)
    return found


def describe(source: bytes, image: Image) -> str:
    """The JSON beside an image."""
    fields = {
        "source_sha256": _digest(source),
        "entry": image.entry,
        "symbols": image.symbols,
        "lines": image.lines,
    }
    return json.dumps(fields, indent=1) + "\n"


def _digest(source: bytes) -> str:
    """SHA-256 of the text with its line ends normalized: a checkout may have changed them."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()


@dataclass(frozen=True, slots=True)
class Description:
    """A shipped guest, from the comment at the beginning of its source. name: as a user gives it.
    title: the comment's first sentence. disk: path of the disk image that it needs, or "". nets,
    virtio: networks and virtio devices that it needs, as ``--net`` and ``--virtio`` name them. other:
    the program of the other machine on a hub, as ``--with`` names it, or ""."""

    name: str
    path: Path
    title: str
    disk: str
    nets: tuple[str, ...] = ()
    virtio: tuple[str, ...] = ()
    other: str = ""


NEEDS = re.compile(r"\. Needs((?: --[a-z]+ [^\s]*[^\s.,])+)[.,]?(?= |$)")
"""The words of a guest's comment that say with which options it is run."""


def descriptions() -> tuple[Description, ...]:
    """All shipped programs, by name."""
    return tuple(map(description, programs()))


def source_of(path: Path) -> Path:
    """The source of a shipped program that begins with its description; the program itself if none is
    known."""
    beside = (path.with_suffix(ending) for ending in (".s", ".c", ".lst"))
    places = (*beside, path.with_suffix("") / "kernel" / "main.c")
    return next((place for place in places if place.is_file()), path)


def description(path: Path) -> Description:
    """Of one of ``programs``."""
    source = source_of(path)
    text = source.read_text(encoding="utf-8")
    first = text.split("\n\n" if source.suffix == ".lst" else "\n#\n", 1)[0]
    comment = " ".join(line.strip(" #/*") for line in first.split("\n"))
    title = re.split(r"(?<=\.)\s", comment.partition(": ")[2], maxsplit=1)[0]
    found = NEEDS.search(comment)
    words = found[1].split() if found else []
    needs = list(zip(words[::2], words[1::2], strict=True))
    disk = next((str(ASSETS.parent / value) for option, value in needs if option == "--disk"), "")
    nets = tuple(value for option, value in needs if option == "--net")
    virtio = tuple(one for option, value in needs if option == "--virtio" for one in value.split(","))
    other = next((value for option, value in needs if option == "--with"), "")
    return Description(path.stem, path, title[:1].upper() + title[1:], disk, nets, virtio, other)
