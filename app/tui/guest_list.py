"""The guests that come with Ringscope."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cores.programs.shipped import NEEDS, description, programs, source_of

TEACHING = {
    "hello": "a line, by letters",
    "primes": "primes below 2000",
    "tasks": "a kernel, 2 programs",
    "tour": "all it may not do",
    "tinyos": "type into it",
    "pico": "a UNIX to type into",
    "file": "a file by its name",
    "driver": "three drivers",
    "dma": "a disk that may not",
    "ping": "a card for hardware",
    "www": "fetches a page",
    "chat": "two machines talk",
    "vping": "a card that is none",
    "swap": "more memory than is",
    "holes": "what never traps",
    "cguest": "written in C",
    "genesis": "another CPU",
}
"""The guests in the order in which they teach, each in at most 20 characters for a narrow screen."""


@dataclass(frozen=True, slots=True)
class Guest:
    """path: what is run. source: where a person reads it. summary: the first line of the comment it
    begins with. story: the other lines. disk: the image that it needs, None for most.
    nets, virtio: networks and virtio devices that it needs."""

    path: Path
    source: Path
    summary: str = ""
    story: tuple[str, ...] = ()
    disk: Path | None = None
    nets: tuple[str, ...] = ()
    virtio: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.stem


def shipped() -> list[Guest]:
    """The shipped guests in teaching order, others behind them by name; each with the summary and the
    story from its source."""
    order = {name: at for at, name in enumerate(TEACHING)}
    paths = sorted(programs(), key=lambda path: (order.get(path.stem, len(order)), path.stem))
    return [_guest(path) for path in paths]


def disk_of(path: str) -> str | None:
    """The image that a shipped guest needs; None for others."""
    wanted = Path(path).resolve()
    disk = next((guest.disk for guest in shipped() if guest.path.resolve() == wanted), None)
    return None if disk is None else str(disk)


def _guest(path: Path) -> Guest:
    source = source_of(path)
    try:
        comment = _comment(source.read_text(encoding="utf-8", errors="replace"), source.suffix)
    except OSError as error:
        return Guest(path, source, f"cannot be read: {error.strerror}")
    if not comment:
        return Guest(path, source)
    first = comment[0].removeprefix(f"{path.stem}:").strip()
    needs, what = NEEDS.search(first), description(path)
    disk = Path(what.disk) if what.disk else None
    summary = (first if needs is None else first[: needs.start()]).rstrip(".")
    begin = comment.index("") if needs and "" in comment else 0  # the rest of a line about the disk
    return Guest(path, source, summary, tuple(comment[begin + 1 :]), disk, what.nets, what.virtio)


def _comment(text: str, ending: str) -> list[str]:
    """The lines of the comment that a source begins with; a listing begins with plain words."""
    lines: list[str] = []
    for line in text.splitlines():
        if ending == ".lst":
            if not line and len(lines) > 1:  # its first paragraph says what it is
                break
            lines.append(line)
        elif line.startswith(("#", "/*", " *")):
            lines.append(line.lstrip("#/* ") if ending == ".c" else line[1:].removeprefix(" "))
        else:
            break
    return lines
