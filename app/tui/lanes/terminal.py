"""The guest's terminal as rows: its screen, and beside it what each key set off on the machines."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from app.text import narration
from app.tui.lanes.facts import fact_rows, short, time_away, with_reasons
from app.tui.lanes.header import header_row
from app.tui.lanes.layout import rule
from app.tui.lanes.program import program_rows, program_rule
from app.tui.lanes.scene import Scene, emulates, kind
from app.tui.lanes.source import brief
from app.tui.lanes.track import track_rows
from app.tui.rows.rows import EMPTY, Row, beside, fit, fit_row, printable, row, spread, width_of
from cores.machine.report import MachineSnapshot
from cores.vmm.trace import UNCOUNTED, ExitEvent
from cores.x86.isa.instruction import Reason

GLASS_WIDTH, GLASS_HEIGHT = 80, 25
"""The VGA text screen."""
LEAST_BILL = 34
"""Columns beside the screen below which the keys' exits are not shown."""
BELOW = 2
"""Rows of timeline and keys."""
SHORT = {"interpreter": "EMULATOR", "trap": "TRAP", "kvm": "KVM"}


@dataclass(frozen=True, slots=True)
class Keystroke:
    """A key that was typed, and the events that it set off. name: as shown. first: by core, the number
    of the first event after it. events: by core, those until the guest slept again. settled: it has."""

    name: str
    first: dict[str, int]
    events: dict[str, tuple[ExitEvent, ...]]
    settled: bool = False


def until_sleep(events: tuple[ExitEvent, ...]) -> tuple[tuple[ExitEvent, ...], bool]:
    """The events from a key to the guest's next sleep after it has read the key; and whether there was
    one. The timer's interrupts that come later are no work of the key's."""
    has_read = False
    for at, event in enumerate(events):
        if event.reason is Reason.HLT and has_read:
            return events[: at + 1], True
        has_read |= event.reason is Reason.IO and any(d in event.detail for d in ("keyboard", "UART"))
    return events, False


@dataclass(frozen=True, slots=True)
class Typing:
    """What the screen knows of the keyboard. keys: the keystrokes, the newest last. prefixed: Ctrl+]
    was pressed, and the next key decides. console: the console is wanted, where there is a screen, too.
    """

    keys: tuple[Keystroke, ...] = ()
    prefixed: bool = False
    console: bool = False

    def glass(self, m: MachineSnapshot) -> str | None:
        """The text of the VGA screen, None where the console is shown."""
        return None if self.console and has_both(m) else m.screen


def has_both(m: MachineSnapshot) -> bool:
    """Does the guest write to the screen, and to a console or serial port as well?"""
    return m.screen is not None and bool(m.console)


def terminal_rows(scene: Scene, typing: Typing) -> dict[str, list[Row]]:
    """The regions of the screen but for timeline and keys."""
    facts = fact_rows(scene)
    rows = {
        "header": [header_row(scene)],
        "facts": with_reasons(scene, [facts["names"], facts["left"]]),
    }
    screen = typing.glass(scene.reference)
    wanted = GLASS_HEIGHT if screen is not None else max(8, scene.height // 2)
    room = scene.height - BELOW - 3 - 1  # for the screen, and for more above it
    spare = room - min(wanted, room)
    if spare >= 2:
        shown = [facts[name] for name in ("names", "who", "ring", "left")]
        rows["facts"] = with_reasons(scene, shown)
        spare -= 2
    if spare >= 3 and not scene.free:
        rows["track"] = track_rows(scene)
        spare -= 3
    if spare >= 5:
        rows["rule"] = [program_rule(scene, output=False)]
        rows["program"] = program_rows(scene, spare - 1).rows
    used = sum(map(len, rows.values()))
    height = scene.height - BELOW - used - 1
    rows["glass"] = [_title(scene, typing), *_glass(scene, typing, height)]
    return rows


def _title(scene: Scene, typing: Typing) -> Row:
    screen = typing.glass(scene.reference)
    what = "The guest's screen" if screen is not None else "The guest's console"
    ended = all(m.stop is not None and not m.awaits_key for m in scene.s.machines)
    if typing.prefixed:
        words = "Ctrl+]: now Esc sends Esc to the guest, any other key leaves"
        if has_both(scene.reference):
            other = "console" if screen is not None else "screen"
            words = f"Ctrl+]: now Esc sends Esc, Tab shows the {other}, any other key leaves"
    elif ended:
        words = "the guest has ended"
    elif any(m.awaits_key for m in scene.s.machines):
        words = "it waits for a key: type"
    elif any(m.takes_keys for m in scene.s.machines):
        words = "it takes keys: type"
    else:
        words = (
            "your keys go to the guests" if len(scene.s.machines) > 1 else "your keys go to the guest"
        )
    right = EMPTY if typing.prefixed else row(("Esc", "key"), (" takes them back", "dim"))
    return rule(scene, row((what, "strong"), (f"  {words}", "host-bold")), right, focus=True)


def _glass(scene: Scene, typing: Typing, height: int) -> list[Row]:
    """The screen's last rows, and what the keys set off at its right."""
    m = scene.reference
    screen = typing.glass(m)
    if screen is not None:
        lines = screen.split("\n")[:GLASS_HEIGHT]
        last = max(len(lines), 1 + (m.cursor[0] if m.cursor is not None else 0))
        lines += [""] * (last - len(lines))
        above = max(0, len(lines) - height)
        lines = lines[above:]
        lines += [""] * (min(height, GLASS_HEIGHT) - len(lines))
        left = [row((f"{printable(line):<{GLASS_WIDTH}}"[:GLASS_WIDTH], "screen")) for line in lines]
        if m.cursor is not None and 0 <= (at := m.cursor[0] - above) < len(left):
            left[at] = _with_cursor(left[at], m.cursor[1])
    else:
        left = [row(line) for line in _console(m, min(GLASS_WIDTH, scene.width), height)]
    side = scene.width - GLASS_WIDTH - 4
    if side < LEAST_BILL:
        return (left + [EMPTY] * height)[:height]
    indented = [((" ", "text"), *line) for line in left]
    right = side_rows(scene, typing.keys, side, height)
    return (beside(indented, right, GLASS_WIDTH + 3) + [EMPTY] * height)[:height]


def _with_cursor(line: Row, column: int) -> Row:
    """A row of the screen with the cell of the cursor in the other colours; blank, it is a line, which
    is seen without colours, too."""
    text = line[0][0]
    cell = text[column : column + 1]
    cursor = (cell if cell.strip() else "_", "cursor")
    return ((text[:column], "screen"), cursor, (text[column + 1 :], "screen"))


def _console(m: MachineSnapshot, width: int, height: int) -> list[str]:
    """The end of the console, with a cursor behind it."""
    text = m.console[-width * height * 2 :]
    lines: list[str] = []
    for line in text.split("\n"):
        clean = printable(line.expandtabs(8).replace("\r", ""))
        lines += [clean[i : i + width] for i in range(0, max(1, len(clean)), width)]
    lines[-1] = f"{lines[-1]}_"[:width]
    return lines[-height:]


def side_rows(scene: Scene, keys: tuple[Keystroke, ...], width: int, height: int) -> list[Row]:
    """A key a row with its exits on each machine; below, the newest key's, one by one."""
    machines = [m for m in scene.machines if not emulates(m)]
    if not machines:
        words = "An emulator's guest is never left, whatever is typed."
        return [row((line, "dim")) for line in textwrap.wrap(words, width)]
    cell = 18
    machines = machines[: max(1, (width - 8) // cell)]
    names = [(fit(SHORT[kind(m.core)], cell), "strong") for m in machines]
    rows: list[Row] = [row(("A key    ", "dim"), *names)]
    if not keys:
        words = "Type, and see what each key sets off."
        return [*rows, *(row((line, "dim")) for line in textwrap.wrap(words, width))]
    for key in keys[-max(3, height // 3) :]:
        rows.append(
            row((fit(_ending(key.name, 8), 9), "key"), *(_total(key, m.core, cell) for m in machines))
        )
    m = machines[0]
    newest = next((key for key in reversed(keys) if key.events.get(m.core)), None)
    if newest is None:
        return rows
    what = f" on {SHORT[kind(m.core)]}, exit by exit"
    rows += [EMPTY, row((_ending(newest.name, width - len(what)) + what, "strong"))]
    groups = _groups(newest.events[m.core])
    room = max(1, height - len(rows))
    if len(groups) > room:
        groups, rest = groups[: room - 1], len(groups) - room + 1
        return [*rows, *(_group(group, width) for group in groups), row((f"and {rest} more", "dim"))]
    return rows + [_group(group, width) for group in groups]


def _ending(name: str, width: int) -> str:
    """The name, or its end, in so many cells."""
    return name if width_of(name) <= width else "…" + name[1 - width :].strip()


def _total(key: Keystroke, core: str, width: int) -> tuple[str, str]:
    events = [e for e in key.events.get(core, ()) if e.reason not in UNCOUNTED]
    if not events:
        return fit("…" if not key.settled else "none", width), "dim"
    away = time_away(sum(e.ns for e in events))
    return fit(f"{short(len(events)):>5} × {away:>7}{'' if key.settled else ' …'}", width), "host"


def _groups(events: tuple[ExitEvent, ...]) -> list[list[ExitEvent]]:
    """Events in a row that are alike, together."""
    groups: list[list[ExitEvent]] = []
    for event in events:
        if groups and (groups[-1][0].reason, groups[-1][0].rip) == (event.reason, event.rip):
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


def _group(group: list[ExitEvent], width: int) -> Row:
    event = group[0]
    asm = printable(brief(narration.instruction_text(event)) or event.detail)
    right = row((f"{len(group):>4} × {time_away(sum(e.ns for e in group)):>7}", "host"))
    left = row((f"{event.reason.value:<11}", "host"), fit(asm, max(1, width - 26), "…"))
    return spread(fit_row(left, max(0, width - 14)), right, width)
