"""The machines at one moment as HTML: tables that a screen reader reads, the program once with a lane
for each machine, as on the session screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from app.text import narration
from app.text.html import escaped
from app.text.marks import Mark, mark
from cores.machine.report import CodeLine, MachineSnapshot, SessionSnapshot
from cores.x86.registers import STATE_NAMES
from lessons.play.values import next_address, short

LINES_BEFORE, LINES_AFTER = 4, 6
MOST_OUTPUT = 2000
"""Characters of a guest's output that are shown: the newest."""
_SIGNS = {
    Mark.NONE: "", Mark.LEAVES: "⇄", Mark.SILENT: "~", Mark.DIRECT: "|", Mark.INTERPRETED: ".",
}  # fmt: skip
_EVEN_IF_ZERO = frozenset({"rax", "rip", "rflags"})


def machines(now: SessionSnapshot, before: SessionSnapshot | None = None, *, marks: bool = True) -> str:
    """All machines. before: an earlier moment; exits since then are told as a dialogue. marks: may the
    code say what leaves the guest?"""
    old = {} if before is None else {m.core: m.exits for m in before.machines}
    return "".join(
        [
            _facts(now.machines), _code(now.machines, marks=marks), _registers(now.machines),
            _output(now.machines), *(_talk(m) for m in now.machines if m.exits > old.get(m.core, 0)),
        ]
    )  # fmt: skip


def _table(name: str, caption: str, head: Iterable[str], rows: Iterable[str]) -> str:
    columns = "".join(f'<th scope="col">{escaped(title)}</th>' for title in head)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}"><table class="{name}">'
        f"<caption>{caption}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(title: str, cells: Iterable[str]) -> str:
    inner = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escaped(title)}</th>{inner}</tr>'


def _facts(here: tuple[MachineSnapshot, ...]) -> str:
    def row(title: str, told: Callable[[MachineSnapshot], str]) -> str:
        return _row(title, (escaped(told(m)) for m in here))

    rows = [
        row("executed by", lambda m: m.where),
        row(
            "instructions", lambda m: "not counted" if m.instructions is None else f"{m.instructions:,}"
        ),
        row("exits", lambda m: f"{m.exits:,}"),
        row("ring, as the guest sees it", lambda m: str(m.ring)),
        row("ring of the real CPU", lambda m: "software" if m.real_ring is None else str(m.real_ring)),
    ]
    if any(m.stop is not None for m in here):
        rows.append(row("ended with", _ending))
    return _table("facts", "The machines", ["", *(short(m.core) for m in here)], rows)


def _ending(m: MachineSnapshot) -> str:
    if m.stop is None:
        return "runs"
    return m.stop.value if m.exit_status is None else f"{m.stop.value} {m.exit_status}"


def _code(here: tuple[MachineSnapshot, ...], *, marks: bool) -> str:
    """The lines around the place where the first machine stands."""
    lines: dict[int, CodeLine] = {line.address: line for m in here for line in m.code}
    places = [next_address(m) for m in here]
    known = sorted(lines)
    at = known.index(places[0]) if places[0] in lines else 0
    shown = known[max(0, at - LINES_BEFORE) : at + LINES_AFTER + 1]
    head = [*(short(m.core) for m in here), "address", "instruction", "comment"]

    def row(address: int) -> str:
        line = lines[address]
        own = {m.core: next((x for x in m.code if x.address == address), line) for m in here}
        lanes = "".join(
            f"<td>{_gutter(m, own[m.core], here=place == address, marks=marks)}</td>"
            for m, place in zip(here, places, strict=True)
        )
        current = ' class="next" aria-current="step"' if address in places else ""
        comment = line.source.partition("#")[2].strip() if marks else ""
        return (
            f"<tr{current}>{lanes}<td>{address:x}</td><td><code>{escaped(line.text)}</code></td>"
            f"<td>{escaped(comment)}</td></tr>"
        )

    legend = ", ".join(f"{sign} {found.value}" for found, sign in _SIGNS.items() if sign)
    told = f'<p class="left" aria-hidden="true">{escaped(legend)}</p>' if marks else ""
    return _table("code", "The program", head, map(row, shown)) + told


def _gutter(m: MachineSnapshot, line: CodeLine, *, here: bool, marks: bool) -> str:
    found = mark(m, line) if marks else Mark.NONE
    next_ = '<span aria-hidden="true">▶</span><span class="said">next </span>' if here else ""
    if not _SIGNS[found]:
        return next_
    sign = f'<span aria-hidden="true">{_SIGNS[found]}</span><span class="said">{found.value}</span>'
    return f"{next_}{sign}"


def _registers(here: tuple[MachineSnapshot, ...]) -> str:
    names = [n for n in here[0].registers if n in STATE_NAMES] or list(here[0].registers)
    shown = [n for n in names if n in _EVEN_IF_ZERO or any(m.registers.get(n) for m in here)]

    def cell(m: MachineSnapshot, name: str) -> str:
        value = f"{m.registers.get(name, 0):x}"
        if name not in m.changed:
            return value
        return f'<strong class="changed">{value}<span class="said"> changed</span></strong>'

    rows = [_row(name, (cell(m, name) for m in here)) for name in shown]
    return _table("registers", "Registers", ["", *(short(m.core) for m in here)], rows)


def _output(here: tuple[MachineSnapshot, ...]) -> str:
    return "".join(_shown("Console", here, [m.console for m in here])) + "".join(
        _shown("Screen", here, [m.screen or "" for m in here])
    )


def _shown(title: str, here: tuple[MachineSnapshot, ...], texts: list[str]) -> Iterator[str]:
    """What guests have written; once where it is the same on all."""
    same = len(set(texts)) == 1
    for m, written in list(zip(here, texts, strict=True))[: 1 if same else None]:
        if written:
            name = title if same else f"{title} of {short(m.core)}"
            yield f"<h3>{escaped(name)}</h3><pre>{escaped(written[-MOST_OUTPUT:])}</pre>"


def _talk(m: MachineSnapshot) -> str:
    """The newest exit of a machine, in the words of those who take part."""
    if not m.events or m.core == "interpreter":
        return ""
    lines = "".join(
        f"<dt>{escaped(line.speaker)}</dt><dd>{escaped(line.text)}</dd>"
        for line in narration.dialogue(m.events[-1], m)
    )
    return f"<h3>{escaped(short(m.core))}, exit {m.exits:,}</h3><dl>{lines}</dl>"
