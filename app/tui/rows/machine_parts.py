"""The parts of a machine's pane: pure functions from a snapshot to rows of text."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from app.text.marks import Mark, mark
from app.tui.rows.glyphs import Glyphs
from app.tui.rows.registers import program_counter, register_file
from app.tui.rows.rows import EMPTY, Row, fit, fit_row, printable, raised, row, spread, width_of
from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot
from cores.pc.stop import Stop

KINDS = {"interpreter": "EMULATOR", "trap": "TRAP AND EMULATE", "kvm": "KVM"}
"""Titles of the kinds of core; KVM's: see ``title``."""

SHORT_NAMES = {"fs_base": "fsb", "gs_base": "gsb", "efer": "efer"}
GENERAL_WIDTH = 22
"""' rax 0000000000000048*': a mark, three letters, sixteen digits, a mark."""
SYSTEM_WIDTH = 13
"""'cr0 80050033*'."""
GUTTER = 7


@dataclass(frozen=True, slots=True)
class View:
    """Display state of a pane, besides the machine's own state.

    number: the key that shows and hides it. differs: registers in which the cores disagree.
    equal: does it agree with the first core (None: it is the first, or nothing was compared)?
    rate: instructions a second, None while nothing runs; stepped: that is the pace of single steps, not
    the mechanism's own. top: address of the first code row.
    cursor: address of the line that keys, or a lesson, point at; None without one. pointed: registers
    that a lesson points at.
    """

    number: int = 1
    focused: bool = False
    differs: frozenset[str] = frozenset()
    equal: bool | None = None
    rate: float | None = None
    stepped: bool = True
    top: int | None = None
    breakpoints: frozenset[int] = frozenset()
    cursor: int | None = None
    pointed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """Layout of a pane: rows of each part, and columns of the registers."""

    columns: int
    system_column: bool
    registers: int
    headline: int
    system: int
    ring_row: bool
    code: int
    console: int
    counter: bool
    gaps: int


def kind(core: str) -> str:
    """The family of a core: "interpreter", "trap" or "kvm"; also its role in the palette."""
    family = core.partition(":")[0]
    return family if family in KINDS else "interpreter"


def title(core: str, ring_zero: RingZero) -> str:
    """Title of a machine; KVM is called hardware only where it has hardware support."""
    if kind(core) == "kvm" and ring_zero is RingZero.GUEST_MODE:
        return "HARDWARE"
    if kind(core) == "kvm" and ring_zero is RingZero.INTERPRETED:
        return "KVM WITHOUT HARDWARE"
    return KINDS[kind(core)]


def cursor_line(m: MachineSnapshot, cursor: int | None) -> int | None:
    """Index of the code line at the cursor, else at the next instruction; None: neither is in sight."""
    addresses = [line.address for line in m.code]
    for address in (cursor, program_counter(m)):
        if address in addresses:
            return addresses.index(address)
    return None


def code_top(m: MachineSnapshot, rows: int, top: int | None, cursor: int | None = None) -> int | None:
    """The address of the first code row: the old one for as long as the cursor, or without one the
    next instruction, stays in sight, so that stepping moves the mark and not the text."""
    addresses = [line.address for line in m.code]
    now = cursor_line(m, cursor)
    if now is None:
        return addresses[0] if addresses else None
    below = 0 if cursor is not None else max(1, rows // 4)
    if top in addresses and addresses.index(top) <= now < addresses.index(top) + rows - below:
        return top
    return addresses[max(0, min(now - rows // 3, len(addresses) - rows))]


def _value(m: MachineSnapshot, name: str) -> int:
    return m.registers.get(name, 0)


def _cell(m: MachineSnapshot, view: View, name: str, digits: int, width: int, glyphs: Glyphs) -> Row:
    """Name, value and the mark of what happened to it, ``width`` cells wide."""
    value = _value(m, name)
    text = f"{value:0{digits}x}" if digits else f"{value:x}"
    label = SHORT_NAMES.get(name, name)
    reads = name in m.reads and m.stop is None
    mark, role = " ", "text"
    if name in view.differs:
        mark, role = glyphs.unequal, "bad"
    elif name in m.changed:
        mark, role = glyphs.changed, "changed"
    elif value == 0:
        role = "dim"
    general = digits > 0
    head: list[tuple[str, str]] = [(f"{label:<3}", "read" if reads else "dim"), (" ", "text")]
    pointed = name in view.pointed
    if general:
        head.insert(0, (glyphs.cursor, "key") if pointed else (glyphs.read if reads else " ", "dim"))
    room = width - 1 - sum(len(part) for part, _ in head)
    if len(text) > room:
        text = glyphs.more + text[-(room - 1) :]
    cell = fit_row((*head, (text, role), (mark, role)), width)
    return raised(cell) if pointed else cell


def register_rows(m: MachineSnapshot, view: View, p: Plan, glyphs: Glyphs) -> list[Row]:
    """The general registers in columns, the system registers beside them where they fit."""
    file = register_file(m)
    cells = file.general if p.system else file.general + file.spare  # 3 x 6 leaves two over
    rows: list[Row] = []
    for y in range(p.registers):
        parts: list[tuple[str, str]] = []
        for x in range(p.columns):
            at = x * p.registers + y
            if x:
                parts.append((" ", "text"))
            if at < len(cells):
                parts += _cell(m, view, cells[at], file.digits, GENERAL_WIDTH, glyphs)
        if p.system_column:
            names = file.system if p.registers >= len(file.system) else file.system[file.outer :]
            if y < len(names):
                parts += [(" ", "text"), *_cell(m, view, names[y], 0, SYSTEM_WIDTH, glyphs)]
        rows.append(tuple(parts))
    return rows


def system_per_row(width: int) -> int:
    """Number of system registers in one row."""
    return max(1, (width + 1) // (SYSTEM_WIDTH + 2))


def system_rows(m: MachineSnapshot, view: View, p: Plan, width: int, glyphs: Glyphs) -> list[Row]:
    """The system registers in rows of their own."""
    system = register_file(m).system
    if p.system_column:  # the others stand in it
        selectors: list[tuple[str, str]] = [(" ", "text")]
        for name in system[: register_file(m).outer]:
            selectors += [*_cell(m, view, name, 0, 8, glyphs), (" ", "text")]
        return [tuple(selectors)]
    per_row = system_per_row(width)
    rows: list[Row] = []
    for y in range(p.system):
        parts: list[tuple[str, str]] = [(" ", "text")]
        for name in system[y * per_row : (y + 1) * per_row]:
            parts += [*_cell(m, view, name, 0, SYSTEM_WIDTH, glyphs), ("  ", "text")]
        rows.append(tuple(parts))
    return rows


def flag_rows(m: MachineSnapshot, view: View, p: Plan, width: int, glyphs: Glyphs) -> list[Row]:
    """The flags, each at its place; then the ring, as the guest believes and as it is."""
    file = register_file(m)
    value = _value(m, file.flags_in)
    parts: list[tuple[str, str]] = [(" ", "dim")]
    for name, bit in file.flags:
        up = value >> bit & 1
        parts += [(name.upper() if up else name, "strong" if up else "dim"), (" ", "text")]
    if file.flags_in in view.differs:
        parts.append((glyphs.unequal, "bad"))
    else:
        parts.append((glyphs.changed if file.flags_in in m.changed else " ", "changed"))
    flags = tuple(parts)
    if p.ring_row:
        return [flags, row(" ", *ring_words(m))]
    return [spread(flags, row(*ring_words(m), " "), width)]


def ring_words(m: MachineSnapshot) -> Row:
    modes = register_file(m).modes
    if modes is not None:
        return row((modes[m.ring > 0], "strong"), (", simulated", "dim"))
    if m.real_ring is not None and m.real_ring != m.ring:
        return row((f"ring {m.ring}", "strong"), (", really ", "dim"), (f"{m.real_ring}", "strong"))
    return row((f"ring {m.ring}", "strong"), (f", {_ring_how(m)}", "dim"))


def _ring_how(m: MachineSnapshot) -> str:
    """The means by which the guest has its ring, where no other ring is the real one."""
    match m.ring_zero:
        case RingZero.GUEST_MODE:
            return "guest mode"
        case RingZero.INTERPRETED:
            return "for real" if m.real_ring is not None else "interpreted"
        case RingZero.UNKNOWN:
            return "in KVM"
        case RingZero.SIMULATED | RingZero.DEPRIVILEGED:
            return "for real" if m.real_ring is not None else "simulated"


def short_count(n: int) -> str:
    """A count in at most five cells."""
    for limit, divisor, unit in (
        (10_000, 1, ""),
        (1_000_000, 1_000, "k"),
        (1_000_000_000, 1_000_000, "M"),
    ):
        if n < limit:
            return f"{n // divisor:,}{unit}"
    return f"{n // 1_000_000_000:,}G"


def comment_of(source: str) -> str:
    """The comment of a source line: Keystone begins one with '#'."""
    quote = ""
    for at, char in enumerate(source):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#":
            return source[at:].strip()
    return ""


def code_rows(m: MachineSnapshot, view: View, width: int, count: int, glyphs: Glyphs) -> list[Row]:
    """Instructions from ``view.top`` on. A machine that the host had to stop says why instead."""
    if m.stop is not None and m.reason:
        story = [row((" " + line, "bad")) for line in textwrap.wrap(printable(m.reason), width - 2)]
        if m.stop is Stop.ERROR or len(story) > count - 2:
            return (story + [EMPTY] * count)[:count]
        return [*_lines(m, view, width, count - len(story), glyphs), *story]
    return _lines(m, view, width, count, glyphs)


def _lines(m: MachineSnapshot, view: View, width: int, count: int, glyphs: Glyphs) -> list[Row]:
    if not m.code:
        return [row((" no instruction can be read at rip", "dim"))] + [EMPTY] * (count - 1)
    top = code_top(m, count, view.top, view.cursor)
    first = next((i for i, line in enumerate(m.code) if line.address == top), 0)
    lines = m.code[first : first + count]
    rows = [code_row(m, line, view, width, glyphs) for line in lines]
    return rows + [EMPTY] * (count - len(rows))


def code_row(m: MachineSnapshot, line: CodeLine, view: View, width: int, glyphs: Glyphs) -> Row:
    """Address, instruction, the source's comment, and the gutter."""
    here = line.address == program_counter(m) and m.stop is None
    address = f"{line.address:6x}"
    mark = glyphs.next if here else glyphs.breakpoint if line.address in view.breakpoints else " "
    gutter, gutter_role = gutter_of(m, line, glyphs)
    room = width - 2 - len(address) - 2 - GUTTER
    comment = printable(comment_of(line.source))
    text = printable(line.text)
    column = max(min(22, room // 2), width_of(text) + 1)  # where comments begin, if the text lets them
    if not comment or room - column < 8:
        column = room
    leaves, data = here and gutter_role == "exit", line.kind == "data"
    parts = row(
        (mark, "exit" if leaves else "strong" if here else "bad" if mark != " " else "text"),
        (glyphs.cursor if line.address == view.cursor else " ", "key"),
        (address + "  ", "text" if here else "dim"),
        (fit(text, column, glyphs.more), "strong" if here else "dim" if data else "text"),
        (fit(comment, room - column - 1, glyphs.more) + " " if column < room else "", "comment"),
        (fit(gutter, GUTTER), gutter_role),
    )
    return raised(parts) if here or line.address == view.cursor else parts


def gutter_of(m: MachineSnapshot, line: CodeLine, glyphs: Glyphs) -> tuple[str, str]:
    """Symbol and role of an instruction's mark, with its count of exits; "" on an interpreter."""
    count = f" {short_count(line.exits)}" if line.exits else ""
    match mark(m, line):
        case Mark.NONE:
            return "", "dim"
        case Mark.LEAVES:
            return f" {glyphs.exits}{count}", "exit"
        case Mark.SILENT:
            return f" {glyphs.silent}{count}", "exit"
        case Mark.DIRECT:
            return f" {glyphs.direct}", "faint"
        case Mark.INTERPRETED:
            return f" {glyphs.dot}", "faint"


def console_rows(m: MachineSnapshot, width: int, count: int, glyphs: Glyphs) -> list[Row]:
    """The end of the guest's output; the VGA screen once the guest has written there."""
    if count <= 0:
        return []
    name = "console " if m.screen is None else "screen  "
    text = m.console if m.screen is None else m.screen
    room = width - len(name) - 1
    lines: list[str] = []
    for line in text[-room * (count + 1) * 4 :].split("\n"):
        clean = printable(line.expandtabs(4))
        lines += [clean[i : i + room] for i in range(0, max(1, len(clean)), room)]
    if m.screen is None:
        lines[-1] = (lines[-1] + "_")[:room]
        while len(lines) > count and lines[-1] == "_":  # rather a line of text than an empty one
            lines.pop()
    lines = lines[-count:]
    rows = [
        row((" " + (name if y == 0 else " " * len(name)), "dim"), line) for y, line in enumerate(lines)
    ]
    return rows + [EMPTY] * (count - len(rows))


def counter_row(m: MachineSnapshot, view: View, width: int) -> Row:
    """Instructions and exits; the rate while it runs."""
    narrow = width < 46
    unit = " instr" if narrow else " instructions" if m.instructions != 1 else " instruction"
    if m.instructions is None:
        left = row((" not counted: the CPU ran on its own" if not narrow else " not counted", "dim"))
    else:
        left = row((f" {m.instructions:,}", "strong"), (unit, "dim"))
    right: Row = row((f"{m.exits:,}", "strong"), (" exit " if m.exits == 1 else " exits ", "dim"))
    if view.rate and not narrow:
        how = " in steps" if view.stepped and width >= 56 else ""
        left = (*left, (f"  {rate_words(view.rate)}{how}", "dim"))
    elif m.bridged and not narrow:
        left = (*left, (f"  {m.bridged:,} bridged", "dim"))
    return spread(left, right, width)


def rate_words(rate: float) -> str:
    """Instructions a second, in three digits."""
    for limit, divisor, unit in ((1e3, 1.0, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M")):
        if rate < limit:
            shown = rate / divisor
            return f"{shown:.1f}{unit}/s" if shown < 100 and unit else f"{shown:.0f}{unit}/s"
    return f"{rate / 1e9:.1f} G/s"
