"""The program once, with the lane of each machine beside it: who executes each line, and where the
guest was left, how often and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from app.tui.lanes.facts import brief, short, time_away
from app.tui.lanes.header import program_name
from app.tui.lanes.layout import first_fit, lanes, rule
from app.tui.lanes.scene import Lane, Scene, by_software, emulates, kind, role_of
from app.tui.lanes.source import Line, Listing, of_code, of_source
from app.tui.rows import places
from app.tui.rows.registers import program_counter
from app.tui.rows.rows import EMPTY, Row, fit, fit_row, printable, raised, row, row_width, width_of
from cores.machine.report import MachineSnapshot
from cores.pc.stop import Stop

_LEAVES_KVM = ("in ", "ins", "out ", "outs", "hlt")
"""Beginnings of instructions for which KVM returns to the VMM."""
COUNTED = 9
"""Cells of a lane's inside from which an exit has its time beside its count."""


def listing(scene: Scene) -> Listing:
    """The source, if the place that is shown lies in it, else the disassembly there."""
    anchor = _ended_at(scene) or scene.anchor
    source = of_source(scene.s, anchor)
    if source is not None and (anchor is None or source.row_of(anchor) is not None):
        return source
    return of_code(scene.code or scene.reference.code)


def _ended_at(scene: Scene) -> int | None:
    """The address of the instruction before the place where all machines have stopped: the guest's
    last, behind which its source may end. None where they go on, or another place is looked at."""
    m = scene.reference
    if scene.picked is not None or any(x.stop is None for x in scene.s.machines):
        return None
    ends = (line.address for line in m.code if line.address + len(line.code) == program_counter(m))
    return next(ends, None)


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows of the program, with the address of each (None: no instruction); top: number of the
    first line, to be given back in the next scene."""

    rows: list[Row]
    addresses: list[int | None]
    top: int


def program_rows(scene: Scene, height: int) -> Shown:
    """``height`` rows. As long as all that must be seen stays in sight, they begin where they began."""
    found = listing(scene)
    rows = [at for at, line in enumerate(found.lines) if _worth(scene, line, height)]
    where = {at: y for y, at in enumerate(rows)}
    marks = _Marks(scene, found)
    wanted = [where[at] for at in marks.wanted if at in where]
    old = None if scene.top is None else next((y for y, at in enumerate(rows) if at >= scene.top), None)
    top = _top(wanted, len(rows), height, old)
    shown = rows[top : top + height]
    lines = [_row(scene, found, at, marks) for at in shown]
    addresses = [found.lines[at].address for at in shown]
    empty = height - len(lines)
    return Shown(lines + [EMPTY] * empty, addresses + [None] * empty, shown[0] if shown else 0)


def _worth(scene: Scene, line: Line, height: int) -> bool:
    """Comments alone in a line, and empty lines, need room. Comments may answer a lesson's question."""
    if line.address is not None or line.label:
        return True
    if scene.quiet and line.comment and _is_comment(line):
        return False
    return height >= 14 and (bool(line.comment) or bool(line.text) or height >= 22)


def _is_comment(line: Line) -> bool:
    """Is there nothing but a comment in the line, or nothing at all?"""
    return line.address is None and not line.label and not line.text


def _top(wanted: list[int], count: int, height: int, old: int | None) -> int:
    """The first row: the old one for as long as those that are wanted (the most urgent first) stay in
    sight with one row before and after them."""
    last = max(0, count - height)
    if not wanted:
        return min(old or 0, last)
    here = wanted[0]
    near = [y for y in wanted if abs(y - here) < max(1, height - 2)]
    low, high = min(near), max(near)
    if old is not None and old <= max(0, low - 1) and high + 1 < old + height:
        return min(old, last)
    top = here - 3 * height // 5
    top = max(min(top, low - 1), high - height + 2)
    return max(0, min(top, last))


class _Marks:
    """Which rows are marked, and which must be in sight: what is picked, else what is next and done."""

    def __init__(self, scene: Scene, found: Listing) -> None:
        alive = [m for m in scene.s.machines if m.stop is None] or list(scene.s.machines)
        self.at = {m.core: found.row_of(program_counter(m)) for m in alive}
        places = {program_counter(m) for m in alive}
        self.together = len(places) <= 1
        still = not scene.moving
        self.next = (
            self.at[alive[0].core] if still and self.together and alive[0].stop is None else None
        )
        done = alive[0].done
        self.done = None
        if still and self.together and done is not None:
            self.done = found.row_of(done.address)
        self.picked = None if scene.picked is None else found.row_of(scene.picked)
        self.pointed = None if scene.pointed_at is None else found.row_of(scene.pointed_at)
        self.asked = None if scene.asked is None else found.row_of(scene.asked)
        self.breakpoints = {found.row_of(address) for address in scene.breakpoints} - {None}
        if scene.moving:
            anchor = None if scene.anchor is None else found.row_of(scene.anchor)
            self.wanted = [at for at in (self.picked, anchor) if at is not None]
        else:
            end = _ended_at(scene)
            ended = None if end is None else found.row_of(end)
            first = (self.picked, self.pointed, self.next, self.done, *self.at.values(), ended)
            self.wanted = list(dict.fromkeys(at for at in first if at is not None))
        self.own = still and not self.together


def _row(scene: Scene, found: Listing, at: int, marks: _Marks) -> Row:
    line = found.lines[at]
    here = at == marks.next
    head = _head(scene, line, at, marks)
    if _is_comment(line):  # no machine has anything in such a row
        words = fit(printable(line.comment), scene.width - row_width(head) - 1, "…")
        return row(*head, (words, "comment"))
    lit = here or at == marks.picked
    parts = [*head, *_words(scene, line, row_width(head), strong=lit or at == marks.done)]
    left = tuple(parts)
    cells = [_cell(scene, lane, found, at, marks) for lane in scene.lanes]
    if lit:
        return raised(lanes(scene, left, cells))
    if not marks.own:
        return lanes(scene, left, cells)
    out = list(fit_row(left, scene.left))
    for lane, cell in zip(scene.lanes, cells, strict=True):
        part = ((" ", "text"), *fit_row(cell, scene.lane - 1))
        out += raised(part) if marks.at.get(lane.core) == at else part
    return tuple(out)


def _head(scene: Scene, line: Line, at: int, marks: _Marks) -> Row:
    """What happens in a row: done, next, picked; a breakpoint."""
    wide = scene.width >= 100
    stop = at in marks.breakpoints
    if at == marks.picked:
        word, sign, role = "pick", "›", "key"
    elif at == marks.next:
        word, sign, role = "next", "▸", "strong"
    elif at == marks.pointed:
        word, sign, role = "look", "›", "key"
    elif at == marks.done:
        word, sign, role = "done", "" if wide else "•", "text"
    else:
        word, sign, role = "", "", "dim"
    last = ("◆", "bad") if stop else (sign or " ", role)
    head = row(" ", (f"{word:<5}" if wide else "", role), last, " ")
    if scene.width < 140 or scene.alone:
        return head
    address = " " * 11 if line.address is None else f"{line.address:>8x}"[-8:] + "   "
    return (*head, (address, "dim" if word else "faint"))


def _words(scene: Scene, line: Line, used: int, *, strong: bool) -> list[tuple[str, str]]:
    """Label, or statement and comment."""
    wide = scene.width >= 100
    room = scene.left - used
    if line.address is None and line.label:
        return [(printable(line.label) + ":", "dim")]
    indent = "  " if wide or scene.alone else "    "
    text = printable(line.text)
    room -= len(indent)
    column = max(24 if wide else 22, width_of(text) + 2)
    role = "dim" if line.kind == "data" else "strong" if strong else "text"
    comment = "" if scene.quiet else printable(line.comment)
    if not comment or room - column < 14:
        return [(indent, "dim"), (fit(text, room, "…"), role)]
    return [
        (indent, "dim"), (fit(text, column), role), (fit(comment, room - column - 1, "…"), "comment")
    ]  # fmt: skip


# A machine's cell


def _cell(scene: Scene, lane: Lane, found: Listing, at: int, marks: _Marks) -> Row:
    m = lane.machine
    line = found.lines[at]
    if m is None or m.stop is Stop.ERROR or line.kind == "data":
        return EMPTY
    if line.address is None:
        return row(" ", _spine(m, None)) if line.label and not _labels_data(found, at) else EMPTY
    who = "▸" if marks.own and marks.at.get(m.core) == at and m.stop is None else " "
    if at == marks.asked:
        return row((who, "strong"), ("?", "host-bold"))
    return ((who, "strong"), *lane_signs(scene, m, found, at))


def _labels_data(found: Listing, at: int) -> bool:
    """Is this the label of data?"""
    return next((x.kind == "data" for x in found.lines[at + 1 : at + 4] if x.address is not None), True)


def _spine(m: MachineSnapshot, address: int | None) -> tuple[str, str]:
    role = role_of(m, address)
    return ("│" if role == "cpu" else "┊" if role == "soft" else "·", role)


def lane_signs(scene: Scene, m: MachineSnapshot, found: Listing, at: int) -> Row:
    """What a line means to a machine: executed by whom, or the guest left, how often, for how long."""
    line = found.lines[at]
    room = scene.lane - 2
    site = found.site(at, m.sites)
    spine = row(_spine(m, line.address))
    if emulates(m):
        others = any(
            found.site(at, x.sites).own for x in scene.s.machines if not emulates(x)
        )  # fmt: skip
        if others and room >= 9:
            words = first_fit(room - 2, "software, stays inside", "stays inside", "inside")
            return (*spine, (" " + words, "soft"))
        return spine
    if scene.quiet and not (site.own or site.outside or site.hidden):
        return spine
    if line.kind == "silent" and kind(m.core) == "trap" and (scene.met or scene.s.pure):
        return _silent(site.own, room, pure=scene.s.pure)
    if site.own:
        return _left(site.own, site.ns, room)
    if site.outside:
        words = first_fit(room - 4 - len(short(site.outside)), "interrupts", "irq", "")
        return row(("⇄ ", "host-bold"), (short(site.outside), "host-bold"), (f"  {words}", "host"))
    if site.hidden:
        word = "page mapped" if not scene.free else "hidden faults"
        words = first_fit(room - 2, f"{short(site.hidden)} {word}", f"{short(site.hidden)} hidden", "")
        return (*spine, (f" {words}", "dim"))
    sensitive = _will_leave(m, line)
    if not scene.met and (sensitive or line.kind == "silent"):
        return row((spine[0][0], "faint"))  # nothing is foretold before the first exit
    if not sensitive:
        return spine
    return row(
        ("⇄ ", "host"), (first_fit(room - 2, "will leave", "leaves") if room >= 9 else "", "dim")
    )


def _left(count: int, ns: int, room: int) -> Row:
    """⇄, how often, how long: as much of that as there is room for."""
    shown, away = (short(count) if room >= 17 else brief(count)), time_away(ns)
    parts: Row = row(("⇄ ", "host-bold"), (shown, "host-bold"))
    rest = room - 2 - len(shown)
    if rest < len(away) + 1:
        return parts
    wide = 15  # of count and time together, so that times stand below each other
    return (*parts, (f"{away:>{min(rest, wide - len(shown))}}", "host"))


def _silent(count: int, room: int, *, pure: bool) -> Row:
    """A sensitive instruction that the CPU would not refuse in ring 3."""
    if pure:
        return row(
            ("~ ", "bad"), (first_fit(room - 2, "answers for the host", "runs unseen", "!"), "bad")
        )
    if not count:
        words = first_fit(room - 2, "must be caught", "no trap", "")
        return row(("~ ", "host-bold"), (words, "dim"))
    shown = short(count)
    words = first_fit(room - 3 - len(shown), "caught by the VMM", "VMM caught it", "caught", "")
    return row(("~ ", "host-bold"), (shown + " ", "host-bold"), (words, "host"))


def _will_leave(m: MachineSnapshot, line: Line) -> bool:
    """By the table of sensitive instructions: will the guest be left here?"""
    if kind(m.core) == "kvm":
        return line.asm.removeprefix("rep ").startswith(_LEAVES_KVM)
    return line.kind in ("privileged", "absent")


# The rule above


def legend(scene: Scene) -> Row:
    soft = any(by_software(lane.machine) is not False for lane in scene.lanes if lane.machine)
    words = (" the CPU  ", " software  ", " left the guest") if scene.width >= 100 else (
        " CPU ", " software ", " left"
    )  # fmt: skip
    parts: Row = row(("│", "cpu"), (words[0], "dim"))
    if soft:
        parts += row(("┊", "soft"), (words[1], "dim"))
    return (*parts, ("⇄", "host-bold"), (words[2], "dim"))


def program_rule(scene: Scene, *, output: bool) -> Row:
    """The title, the legend, and the end of what the guest prints where it has no part of its own."""
    name = program_name(scene.s)
    right = legend(scene)
    if scene.s.files and not scene.moving and (where := _where(scene)):
        name += f"  {where}"
    if output:
        room = max(8, min(40, scene.width - row_width(right) - width_of(name) - 34))
        right = (*right, (" ── ", "faint"), ("prints ", "dim"), (output_end(scene, room), "strong"))
    return rule(scene, row(("Program", "strong"), ("  " + name, "dim")), right)


def _where(scene: Scene) -> str:
    """The function and the file of the place that is shown, of a compiled program."""
    at = scene.anchor if scene.picked is None else scene.picked
    if at is None:
        return ""
    file = places.line(scene.s, at).partition(":")[0]
    function = places.function(scene.s, at).partition("+")[0]
    return " in ".join(printable(part) for part in (function, file) if part)


def output_end(scene: Scene, cells: int) -> str:
    """The last line that the guest has printed, or of its screen."""
    m = scene.reference
    text = m.console if m.screen is None else m.screen
    lines = [line for line in text[-4 * cells :].replace("\n", "↵\n").split("\n") if line.strip()]
    return (printable(lines[-1].rstrip()) if lines else "")[-cells:] + "_"
