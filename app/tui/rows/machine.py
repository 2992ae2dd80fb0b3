"""One machine as rows of text: pure functions from a snapshot to what its pane shows.

registers    16 general ones; beside or under them the system registers, as the width allows
flags        every flag at its own place, in capitals where set: nothing moves when one changes
code         around the next instruction; the gutter at the right tells what leaves the guest
console      the end of what the guest has printed, or its VGA screen
counters     instructions, exits, rate
"""

from __future__ import annotations

from app.tui.rows.glyphs import Glyphs
from app.tui.rows.machine_parts import (
    GENERAL_WIDTH,
    SYSTEM_WIDTH,
    Plan,
    View,
    code_rows,
    console_rows,
    counter_row,
    flag_rows,
    kind,
    register_rows,
    system_per_row,
    system_rows,
)
from app.tui.rows.machine_parts import title as title_of
from app.tui.rows.registers import X86, program_counter, register_file
from app.tui.rows.rows import EMPTY, Row, boxed, fit, fit_row, row, row_width, spread
from cores.machine.report import MachineSnapshot
from cores.pc.stop import Stop


def plan(width: int, height: int) -> Plan:
    """Share out a pane's inside. Depends on its size alone, so that the layout never jumps."""
    columns = 3 if width >= 3 * GENERAL_WIDTH + 4 else 2 if width >= 2 * GENERAL_WIDTH + 1 else 1
    registers = -(-len(X86.general) // columns)
    beside = width >= columns * (GENERAL_WIDTH + 1) + SYSTEM_WIDTH and registers >= 8
    ring_row = width < 48
    system_rows = 0 if beside else -(-len(X86.system) // system_per_row(width))
    if beside and registers < len(X86.system):
        system_rows = 1  # the selectors, under the columns
    shares = {"code": 3, "console": 1, "headline": 0, "system": 0, "gaps": 0}
    left = height - registers - 2 - ring_row - 4
    wishes = (
        ("headline", 2), ("code", 2), ("gaps", 1), ("console", 1), ("system", system_rows),
        ("gaps", 1), ("code", 2), ("console", 1), ("gaps", 1), ("code", 2), ("code", 2),
        ("code", 2), ("console", 1), ("code", 6), ("console", 2), ("code", 6), ("console", 3),
        ("code", 8), ("console", 8),
    )  # fmt: skip
    for part, rows in wishes:
        if rows and left >= rows:
            shares[part] += rows
            left -= rows
    code, console, counter = shares["code"] + left, shares["console"], True
    if code < 1:  # rather an instruction than the console
        code, console = code + console, 0
    if code < 1:  # the counts go into the frame
        code, counter = code + 1, False
    if code < 1:  # and the last registers out of sight
        registers = max(0, registers + code - 1)
    return Plan(
        columns, beside, registers, shares["headline"], shares["system"], ring_row,
        max(1, code), console, counter, shares["gaps"],
    )  # fmt: skip


def parts(p: Plan) -> list[str]:
    """The part in each row of a pane, from its title to its foot; "" for an empty row."""
    body = ["headline"] * p.headline
    body += [""] * (p.gaps >= 3)
    body += ["registers"] * p.registers + ["system"] * p.system + ["flags"] * (1 + p.ring_row)
    body += [""] * (p.gaps >= 1) + ["code"] * p.code
    body += [""] * (p.gaps >= 2) + ["console"] * p.console + ["counter"] * p.counter
    return ["title", *body, "foot"]


def pane_rows(m: MachineSnapshot, view: View, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The whole pane, frame included, in exactly width x height cells."""
    hue = kind(m.core)
    inner = width - 4
    p = plan(inner, height - 2)
    body: list[Row] = []
    if p.headline:
        home = f"Registers: {m.where}" if m.where else ""
        if len(home) > inner:
            home = f"In {m.where}"
        headlines = (m.label[:1].upper() + m.label[1:], home)
        body += [row((fit(words, inner, glyphs.more), "dim")) for words in headlines]
    if p.gaps >= 3:
        body.append(EMPTY)
    body += register_rows(m, view, p, glyphs)
    if p.system:
        body += system_rows(m, view, p, inner, glyphs)
    body += flag_rows(m, view, p, inner, glyphs)
    if p.gaps >= 1:
        body.append(EMPTY)
    body += code_rows(m, view, inner, p.code, glyphs)
    if p.gaps >= 2:
        body.append(EMPTY)
    body += console_rows(m, inner, p.console, glyphs)
    if p.counter:
        body.append(counter_row(m, view, inner))
    title = row(
        (f" {view.number} ", "dim"), (title_of(m.core, m.ring_zero), hue), ("  " + m.core + " ", "dim"),
    )  # fmt: skip
    rows = boxed(title, body, width, height, glyphs, "dim" if view.focused else "faint")
    rows[-1] = foot_row(m, view, width, glyphs, counts=not p.counter)
    return rows


def stop_words(m: MachineSnapshot) -> str:
    """The end of a machine, in words."""
    match m.stop:
        case None:
            return ""
        case Stop.EXIT:
            return f"exited with status {m.exit_status}"
        case Stop.POWEROFF:
            return "powered off"
        case Stop.HALTED:
            return "halted: nothing will wake it"
        case Stop.SHUTDOWN:
            return "shut down: triple fault"
        case Stop.BUDGET:
            return "stopped: its budget is spent"
        case Stop.ERROR:
            return "the host could not go on"


def foot_row(
    m: MachineSnapshot, view: View, width: int, glyphs: Glyphs, *, counts: bool = False
) -> Row:
    """The lower edge of the frame: how the machine ended, and whether it agrees with the first.
    counts: there is no room for them elsewhere."""
    border = "dim" if view.focused else "faint"
    _, _, bl, br = glyphs.corners
    parts: list[tuple[str, str]] = []
    if m.stop is not None:
        role = "bad" if m.stop in (Stop.ERROR, Stop.SHUTDOWN) else "strong"
        parts = [(f" {stop_words(m)} ", role)]
    if counts:
        done = "not counted" if m.instructions is None else f"{m.instructions:,} instr"
        parts.append((f" {done}  {m.exits:,} exit{'s' * (m.exits != 1)} ", "text"))
    agree: Row = EMPTY
    if view.equal is not None:
        agree = row((f" {glyphs.equal} ", "good") if view.equal else (f" {glyphs.unequal} ", "bad"))
    left = fit_row(tuple(parts), min(row_width(tuple(parts)), width - 9))
    rest = glyphs.across * (width - 4 - row_width(left) - row_width(agree))
    return ((bl + glyphs.across, border), *left, (rest, border), *agree, (glyphs.across + br, border))


def line_row(m: MachineSnapshot, view: View, width: int, glyphs: Glyphs) -> Row:
    """A machine shrunk to one row."""
    hue = kind(m.core)
    place = f"  {register_file(m).pc} {program_counter(m):x}" if m.stop is None else ""
    left = row(
        (f" {view.number} ", "dim"),
        (title_of(m.core, m.ring_zero), hue),
        (f"  {m.core}", "dim"),
        place,
        (f"  {stop_words(m)}" if m.stop is not None else "", "strong"),
    )
    mark: Row = row("   ")
    if view.equal is not None:
        mark = row((f" {glyphs.equal} ", "good") if view.equal else (f" {glyphs.unequal} ", "bad"))
    unit = "instructions" if width >= 96 else "instr"
    count = "not counted" if m.instructions is None else f"{m.instructions:,} {unit}"
    right = row((f"{count}  {m.exits:,} exit{'s' * (m.exits != 1)} ", "text"), *mark)
    room = width - row_width(right) - 2
    if row_width(left) > room:
        left = (*fit_row(left, room - 1), (glyphs.more, "dim"))
    return spread(left, right, width)
