"""A lesson as plain text: for terminals without a screen, for readers that speak, for recordings."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator

from app.text import narration
from app.text.marks import Mark, mark
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot, SessionSnapshot
from cores.plural import counted
from cores.x86.registers import STATE_NAMES
from lessons.format.parser import TERM
from lessons.format.script import Lesson
from lessons.play.events import (
    Asked,
    Begun,
    Broken,
    Ended,
    Event,
    Kept,
    LeftOut,
    Loaded,
    Looked,
    Moved,
    Noted,
    Paused,
    Pictured,
    Quoted,
    Said,
    Shown,
    Verdict,
)
from lessons.play.values import Hex, find, next_address, short

WIDTH = 78
_LINK = re.compile(r"\[([^\]\n]+)\]\((https?://[^)\s]+)\)")
_BOLD = re.compile(r"\*\*([^*]+)\*\*|(?<!\*)\*([^*\n]+)\*")
_MARKS = {
    Mark.NONE: "", Mark.LEAVES: "<=>", Mark.SILENT: "~", Mark.DIRECT: "|", Mark.INTERPRETED: ".",
}  # fmt: skip
_REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip", "rflags")


def heading(lesson: Lesson) -> str:
    number = f"Lesson {lesson.number}: " if lesson.number else ""
    title = f"{number}{lesson.title}"
    return f"{title}\n{'=' * len(title)}\n\n{wrap(lesson.summary)}"


def event(event: Event, width: int = WIDTH) -> str:
    """The text of an event of the player; "" for none. width: columns; sentences are wrapped here and
    nowhere else. A question and its choices are one text, not to be divided between two pages."""
    match event:
        case Begun(title, number, total):
            return f"\n{number}/{total}  {title}\n{'-' * (len(title) + 5)}"
        case Said(markdown):
            return paragraph(markdown, width)
        case Moved(before, now):
            return _moved(before.machines, now.machines)
        case Loaded(guest, pure):
            how = ", with --pure: what does not trap by itself runs unseen" if pure else ""
            return wrap(f"[The machines begin anew, with {guest.rsplit('/', 1)[-1]}{how}.]", "", width)
        case Shown():
            return textwrap.indent("\n".join(map(_cut, _shown(event))), "    ")
        case Looked(kind, target, values):
            return wrap(f"[{words}]" if (words := looked(kind, target, values)) else "", "", width)
        case Asked(question, choices):
            lines = [wrap(f"? {plain(question)}", "  ", width)]
            lines += [
                wrap(f"  {'abcdef'[i]}) {plain(choice)}", "     ", width)
                for i, choice in enumerate(choices)
            ]
            return "\n".join(lines)
        case Verdict(given=given, right=right, answer=answer, explanation=explanation):
            if given is None:
                judged = "Answer:"
            else:
                judged = "Right:" if right else f"You said {given}. It was"
            end = "" if answer[-1:] in (".", "?", "!") else "."
            return wrap(f"{judged} {plain(answer)}{end} {plain(explanation)}", "", width)
        case Quoted(place, code, look):
            said = f"{wrap(plain(look), '', width)}\n\n" if look else ""
            return f"{said}{place}\n\n" + "\n".join(_source(code, width))
        case Pictured(alt=alt):
            return wrap(f"[A picture: {plain(alt)}]", "", width)
        case LeftOut(core=core):
            return f"[A part about {core} is left out: it cannot run here.]"
        case Broken(line, message):
            return wrap(f"[Line {line} of this lesson is not true here: {message}]", "", width)
        case Noted() | Paused() | Kept() | Ended():
            return ""


def looked(kind: str, target: str, values: tuple[tuple[str, str], ...]) -> str:
    """What stands where the lesson points; "" for a pane, which a text does not have."""
    if not values:
        return ""
    told = dict(values)
    place = told.pop("at", "")
    what = {"register": target, "event": f"Exits for {target}", "line": f"Line {target}"}.get(
        kind, f"At {target}"
    )
    if place and target != place:
        what += f" ({place})"
    if len(told) > 1 and len(set(told.values())) == 1:
        return f"{what}: {next(iter(told.values()))} on all machines"
    return f"{what}{': ' if told else ''}{', '.join(f'{v} on {core}' for core, v in told.items())}"


def paragraph(markdown: str, width: int = WIDTH) -> str:
    """A paragraph, wrapped; code keeps its lines, and each item of a list begins on one of its own."""
    lines = markdown.split("\n")
    if lines[0].startswith("```"):
        return textwrap.indent("\n".join(lines[1:-1]), "    ")
    if lines[0].startswith(("- ", "1. ")):
        items = re.split(r"\n(?=- |\d+\. )", markdown)
        return "\n".join(
            wrap(plain(item), "   " if item[0].isdigit() else "  ", width) for item in items
        )
    if lines[0].startswith("|"):
        return plain(markdown)
    return wrap(plain(markdown), "", width)


def plain(markdown: str) -> str:
    """Remove the signs for emphasis and glossary words; a link's address stands behind it."""
    text = _LINK.sub(r"\1 (\2)", markdown)
    return TERM.sub(r"\1", _BOLD.sub(lambda found: found.group(1) or found.group(2), text))


def wrap(text: str, indent: str = "", width: int = WIDTH) -> str:
    return textwrap.fill(
        " ".join(text.split()) if not text.startswith(" ") else text, width,
        subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _source(code: str, width: int) -> Iterator[str]:
    """Lines of code, indented; what is too long goes on below. Comments are filled anew."""
    lines = code.replace("  # fmt: skip", "").splitlines()
    for is_comment, group in itertools.groupby(lines, lambda line: line.lstrip().startswith("#")):
        if is_comment:
            comment = list(group)
            words = " ".join(line.lstrip(" #") for line in comment)
            yield _folded(words, _indent(comment[0]) + "# ", _indent(comment[0]) + "# ", width)
        else:
            yield from (_folded(line, _indent(line), _indent(line) + " " * 8, width) for line in group)


def _indent(line: str) -> str:
    return " " * (4 + len(line) - len(line.lstrip()))


def _folded(words: str, first: str, others: str, width: int) -> str:
    return textwrap.fill(
        words.lstrip(), width, initial_indent=first, subsequent_indent=others,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _cut(line: str) -> str:
    """A line of a view, which is indented by four."""
    return line if len(line) <= WIDTH - 4 else line[: WIDTH - 7] + "..."


def _moved(before: tuple[MachineSnapshot, ...], now: tuple[MachineSnapshot, ...]) -> str:
    """A line for each machine: how far it is, and what it has cost."""
    lines = []
    for old, new in zip(before, now, strict=True):
        counted = f"at instruction {new.instructions:>7,}" if new.instructions is not None else ""
        ended = "" if new.stop is None else f", ended with {_stop(new)}"
        head = f"  {short(new.core):<12} {counted or 'not counted':<22}: "
        words = f"{_left(old.exits, new.exits)}{ended}"
        lines.append(textwrap.fill(head + words, WIDTH, subsequent_indent=" " * len(head)))
    return "\n".join(lines)


def _left(before: int, now: int) -> str:
    """The exits of a machine: since the last stop, and in all where that is another number."""
    if before == 0 or now < before:
        return _exits(now)
    return f"{_exits(now - before)} since the last stop, {now:,} in all"


def _exits(number: int) -> str:
    return counted(number, "exit") if number else "no exit"


def _stop(machine: MachineSnapshot) -> str:
    if machine.stop is None:
        return ""
    status = "" if machine.exit_status is None else f" {machine.exit_status}"
    return f"{machine.stop.value}{status}"


def _shown(shown: Shown) -> list[str]:
    if shown.lines:
        return _by_core(shown.lines)
    return view(shown.view, shown.snapshot, shown.core, marks=shown.marks)


def view(name: str, snapshot: SessionSnapshot, core: str = "", *, marks: bool = True) -> list[str]:
    """The lines of a view. core: of that machine alone. marks: code says what leaves the
    guest, and has its comments."""
    machines = list(snapshot.machines)
    if core:
        machines = [m for m in [find(snapshot, core)] if m is not None]
    match name:
        case "dialogue":
            return [line for machine in machines for line in _dialogue(machine)]
        case "log":
            return [line for machine in machines for line in _log(machine)]
        case "chart":
            return [line for machine in machines for line in _chart(machine)]
        case "registers":
            return _registers(machines)
        case "code":
            return _code(machines[0] if core else machines[min(1, len(machines) - 1)], marks=marks)
        case "console":
            said = {short(m.core): tuple(m.console.splitlines()) for m in machines}
            return _by_core({core: lines or ("(empty)",) for core, lines in said.items()})
        case "screen":
            return _by_core({short(m.core): tuple((m.screen or "").splitlines()) for m in machines})
        case _:
            return _rings(machines)


def _by_core(lines: dict[str, tuple[str, ...]]) -> list[str]:
    """Equal on all machines: said once."""
    if len(lines) > 1 and len(set(lines.values())) == 1:
        lines = {"on all": next(iter(lines.values()))}
    shown = []
    for core, said in lines.items():
        shown.append(f"{core}:")
        for line in said:
            parts = textwrap.wrap(line, 72, break_on_hyphens=False, replace_whitespace=False)
            shown += [f"  {part}" for part in parts] or [""]
    return shown


def _dialogue(machine: MachineSnapshot) -> list[str]:
    if not machine.events:
        return [] if machine.core == "interpreter" else [f"{short(machine.core)}: no exit yet"]
    newest = machine.events[-1]
    lines = [f"on {machine.core}, exit {machine.exits:,}:"]
    for line in narration.dialogue(newest, machine):
        lines += textwrap.wrap(
            f"{line.speaker + ':':<10}{line.text}", WIDTH - 4, subsequent_indent=" " * 10,
            initial_indent="  ",
        )  # fmt: skip
    return lines


def _log(machine: MachineSnapshot) -> list[str]:
    uncounted = "" if machine.instructions is not None else " (- : instructions not counted)"
    heading = f"{short(machine.core)}: {counted(machine.exits, 'exit')}; the newest{uncounted}:"
    lines = [heading] if machine.exits else []
    for event in machine.events[-6:]:
        what = narration.subject(event)
        count = "-" if event.n is None else f"{event.n:,}"
        lines.append(f"  {count:>7}  {event.reason.value:<10}  {what:<24} {event.detail}")
    return lines


def _chart(machine: MachineSnapshot) -> list[str]:
    if not machine.exits_by_reason:
        return [f"{short(machine.core)}: no exits"]
    most = max(machine.exits_by_reason.values())
    lines = [f"{short(machine.core)}: {counted(machine.exits, 'exit')}"]
    for reason, count in sorted(machine.exits_by_reason.items(), key=lambda pair: -pair[1]):
        lines.append(f"  {reason:<11}{count:>6,}  {'#' * max(1, round(40 * count / most))}")
    return lines


def _registers(machines: list[MachineSnapshot]) -> list[str]:
    lines = [" " * 8 + "".join(f"{short(m.core):>20}" for m in machines)]
    foreign = [name for name in machines[0].registers if name not in STATE_NAMES]
    for name in foreign or _REGISTERS:
        values = "".join(
            f"{str(Hex(m.registers[name])) + ('*' if name in m.changed else ' '):>20}" for m in machines
        )
        lines.append(f"{name:<8}{values}")
    return [*lines, "in hexadecimal; * changed by the last move"]


def _code(machine: MachineSnapshot, *, marks: bool) -> list[str]:
    rip = next_address(machine)
    here = next(
        (i for i, line in enumerate(machine.code) if line.address == rip),
        len(machine.code) if machine.stop is not None else 0,
    )
    signs = "> is next"
    if machine.core != "interpreter" and marks:
        known = (Mark.DIRECT, Mark.LEAVES, Mark.INTERPRETED if machine.core == "kvm" else Mark.SILENT)
        signs += "".join(f", {_MARKS[one]} {one.value}" for one in known)
    lines = [f"{short(machine.core)}: {signs}"]
    for line in machine.code[max(0, here - 3) : here + 6]:
        arrow = ">" if line.address == rip else " "
        sign = _MARKS[mark(machine, line)] if marks else ""
        comment = _comment(line.source) if marks else ""
        lines.append(f"{arrow} {line.address:x}  {sign:<4}{line.text:<30} {comment}".rstrip())
    return lines


def _comment(source: str) -> str:
    return source[source.index("#") :] if "#" in source else ""


def _rings(machines: list[MachineSnapshot]) -> list[str]:
    lines = [f"{'':<14}{'the guest believes':<22}it really runs"]
    for machine in machines:
        believed = f"ring {machine.ring}"
        lines.append(f"{short(machine.core):<14}{believed:<22}{_really(machine)}")
    return lines


def _really(m: MachineSnapshot) -> str:
    """The ring of this CPU that executes the guest now, in words."""
    match m.ring_zero:
        case RingZero.GUEST_MODE:
            return f"in ring {m.ring} of the CPU's guest mode"
        case RingZero.INTERPRETED if m.ring == 0:
            return "nowhere: the kernel interprets it"
        case RingZero.UNKNOWN:
            return "in KVM; the host does not say how"
        case _:
            return "nowhere: it is data" if m.real_ring is None else f"in ring {m.real_ring}"
