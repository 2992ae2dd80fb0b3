"""World switches as a sequence diagram (SVG): what passes between the guest, the CPU, the host's kernel
and the VMM at an exit that has happened.

`trace` draws of each core's exits the first for each reason, in the order of the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from app.text import narration
from cores.machine.report import ExitLine
from cores.vmm.trace import ExitEvent

COLUMN, MARGIN, LINE = 210, 90, 30
"""Distance of two lifelines, from the picture's edge to the first, and of two messages."""
FONTS = "ui-monospace,'Cascadia Mono','DejaVu Sans Mono',Menlo,Consolas,monospace"
MOST_LETTERS = 62
STYLE = (
    "svg{background:#fff}text{fill:#1f2328;font-size:12px;paint-order:stroke;stroke:#fff;"
    "stroke-width:4px}.name{font-weight:bold;font-size:13px}"
    ".dim{fill:#59636e}.life{stroke:#59636e;stroke-dasharray:3 4}.way{stroke:#1f2328;fill:none}"
    ".head{fill:#1f2328}.host{stroke:#9a6700;stroke-width:6;stroke-opacity:.35}"
    "@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#e6edf3;stroke:#0d1117}"
    ".dim{fill:#9198a1}"
    ".life{stroke:#9198a1}.way{stroke:#e6edf3}.head{fill:#e6edf3}.host{stroke:#d29922}}"
)
GUEST, CPU, KERNEL, VMM = range(4)
_ACTORS = {
    "trap:native": ("guest", "CPU, ring 3", "host's kernel", "VMM (Ringscope)"),
    "trap:portable": ("guest", "Unicorn, ring 3", "", "VMM (Ringscope)"),
    "kvm": ("guest", "KVM's vCPU", "host's kernel", "VMM (Ringscope)"),
}


UNTRIED = "found before it ran"
"""Beginning of ``ExitLine.handled`` where the CPU was not given the instruction."""


@dataclass(frozen=True, slots=True)
class Message:
    """source, target: lifelines; the same for something that one does alone."""

    source: int
    target: int
    text: str


def diagram(exits: Iterable[tuple[str, ExitEvent]]) -> str:
    """The picture of these exits, each with its core. Those of an emulator, which has none, are left
    out."""
    drawn = Sequence()
    for number, (core, event) in enumerate(exits, 1):
        drawn.core(core, number)
        drawn.line(
            ExitLine(
                event.n, event.rip, event.code, narration.instruction_text(event), event.place.mode,
                str(event.reason), event.detail, event.handled, event.ring, event.ns, event.vmm_ns,
            )
        )  # fmt: skip
    return drawn.ending()


class Sequence:
    """A format of ``trace`` (app/text/trace_formats.py)."""

    def __init__(self) -> None:
        self._core = ""
        self._seen: set[str] = set()
        self._parts: list[str] = []
        self._y = 16

    def heading(self) -> str:
        return ""

    def core(self, name: str, number: int) -> str:
        self._core, self._seen = name, set()
        return ""

    def line(self, exit: ExitLine) -> str:
        if exit.reason not in self._seen and self._core in _ACTORS:
            self._seen.add(exit.reason)
            self._draw(exit)
        return ""

    def ending(self) -> str:
        width, height = 2 * MARGIN + 3 * COLUMN + 60, self._y + 10
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="{FONTS}">\n<style>{STYLE}</style>\n'
            + "\n".join(self._parts or ['<text x="20" y="24">The guest was never left.</text>'])
            + "\n</svg>\n"
        )

    def _draw(self, exit: ExitLine) -> None:
        place = narration.progress(exit.n)
        title = f"{self._core}: {exit.reason}, at {exit.rip:x}, {place}: {exit.ns / 1000:,.1f} µs"
        self._text(20, self._y + 8, title, "name")
        top = self._y + 34
        actors = _ACTORS[self._core]
        messages = _messages(self._core, exit)
        bottom = top + LINE * (len(messages) + 1)
        for i, actor in enumerate(actors):
            if actor:
                self._text(_x(i), top, actor, "name", middle=True)
                self._parts.append(_line(_x(i), top + 8, _x(i), bottom, "life"))
        y = top + LINE
        woken = next(i for i, message in enumerate(messages) if message.target == VMM)
        self._parts.append(_line(_x(VMM), y + woken * LINE, _x(VMM), bottom - LINE, "host"))
        for message in messages:
            self._message(message, y)
            y += LINE
        self._y = bottom + 26

    def _message(self, message: Message, y: int) -> None:
        start, end = _x(message.source), _x(message.target)
        if start == end:
            self._text(start + 10, y + 4, message.text, anchor="end" if start == _x(VMM) else "")
            return
        way = 1 if end > start else -1
        self._parts.append(_line(start, y, end - 7 * way, y, "way"))
        self._parts.append(f'<path class="head" d="M{end} {y}l{-9 * way} -4.5v9z"/>')
        self._text(min(start, end) + 12, y - 6, message.text)

    def _text(
        self, x: float, y: float, text: str, kind: str = "", *, middle: bool = False, anchor: str = ""
    ) -> None:
        text = text if len(text) <= MOST_LETTERS + 40 else f"{text[: MOST_LETTERS + 37]}..."
        look = f' class="{kind}"' if kind else ""
        if middle or anchor:
            look += f' text-anchor="{anchor or "middle"}"'
            x -= 20 if anchor == "end" else 0
        self._parts.append(f'<text x="{x:g}" y="{y:g}"{look}>{escape(text)}</text>')


def _messages(core: str, exit: ExitLine) -> list[Message]:
    """What passes, in order. Why the CPU stopped, and what the VMM did, are in the event's words."""
    begins = Message(GUEST, CPU, exit.asm) if exit.asm else Message(CPU, CPU, exit.detail)
    answer = f"{exit.detail or 'does it'}: {exit.vmm_ns / 1000:,.1f} µs"
    match core:
        case "trap:native":
            way = [
                Message(CPU, KERNEL, exit.handled),
                Message(KERNEL, VMM, "ptrace: the guest stopped"),
            ]
            back = Message(VMM, GUEST, "enters it again, by ptrace")
        case "kvm":
            way = [Message(CPU, KERNEL, exit.handled), Message(KERNEL, VMM, "KVM_RUN returns")]
            back = Message(VMM, GUEST, "enters it again: KVM_RUN")
        case _:
            way = [Message(CPU, VMM, exit.handled)]
            back = Message(VMM, GUEST, "enters it again")
    if exit.handled.startswith(UNTRIED):
        return [Message(VMM, VMM, f"{exit.asm}: {exit.handled}"), Message(VMM, VMM, answer), back]
    return [begins, *way, Message(VMM, VMM, answer), back]


def _x(lifeline: int) -> int:
    return MARGIN + COLUMN * lifeline


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}"/>'
