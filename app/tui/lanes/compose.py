"""The regions of the screen, each with its rows: pure, from a scene. The screen gives each region to
its widget and knows nothing of what is in it."""

from __future__ import annotations

from dataclasses import dataclass

from app.tui.lanes import layout, sizes, ways
from app.tui.lanes.facts import fact_rows, label, names, short, twins, with_reasons
from app.tui.lanes.header import header_row, program_name
from app.tui.lanes.layout import lanes, plan
from app.tui.lanes.output import output_rows
from app.tui.lanes.program import Shown, program_rows, program_rule
from app.tui.lanes.projector import projector_facts
from app.tui.lanes.reasons import log_rows, reason_rows
from app.tui.lanes.registers import own_count, own_facts, own_rows, register_rows, title_rule
from app.tui.lanes.scene import Scene, emulates
from app.tui.lanes.track import track_rows
from app.tui.lanes.ways import conversation_rows, ways_rows
from app.tui.rows.rows import EMPTY, Row, fit, printable, row

REGIONS = (
    "header", "facts", "track", "rule", "notes", "program", "lower", "registers", "latest", "output",
)  # fmt: skip
"""From above; timeline and keys, a row each, are below them."""

_FACTS = ("names", "who", "general", "privileged", "ring", "left")
BELOW = 2
"""Rows of timeline and keys."""
LEAST_CODE = 2
"""Rows of the program at least."""


@dataclass(frozen=True, slots=True)
class Picture:
    """rows: by region. addresses: of the program's rows. top: to be given back in the next scene."""

    rows: dict[str, list[Row]]
    addresses: list[int | None]
    top: int | None


def picture(scene: Scene) -> Picture:
    """All but the timeline and the keys."""
    if scene.width < sizes.LEAST_WIDTH or scene.height < sizes.LEAST_HEIGHT:
        return _too_small(scene)
    if scene.projector:
        return _projector(scene)
    if scene.alone:
        return _alone(scene)
    if scene.own:
        return _own(scene)
    if scene.inside:
        return _inside(scene)
    if scene.lesson:
        return _lesson(scene)
    return _free(scene) if scene.free else _session(scene)


def _too_small(scene: Scene) -> Picture:
    need = f"{sizes.LEAST_WIDTH} columns and {sizes.LEAST_HEIGHT} rows"
    words = [
        "",
        " Make the window larger, please:",
        f" {need} at least,",
        f" it has {scene.width} and {scene.height}.",
    ]
    height = max(0, scene.height - BELOW)
    rows = [row((fit(line, scene.width), "strong")) for line in words]
    return Picture({"header": _exactly(rows, height)}, [], scene.top)


def _exactly(rows: list[Row], height: int) -> list[Row]:
    return (rows + [EMPTY] * max(0, height - len(rows)))[:height]


def _facts(scene: Scene, *more: str) -> list[Row]:
    facts = fact_rows(scene)
    return with_reasons(scene, [facts[name] for name in (*_FACTS, *more)])


def notes_rows(scene: Scene) -> list[Row]:
    """What must be said above the program: errors, a breakpoint, an end, the parting."""
    signs = {"bad": "!", "stop": "◆", "end": "■"}
    rows = [
        row((f" {signs[sort]} ", "bad" if sort != "end" else "strong"), printable(words))
        for sort, words in scene.messages
    ]
    d = scene.s.divergence
    if d is not None:
        asm = "" if not d.asm else printable(d.asm if scene.width >= 110 else d.asm.split()[0])
        odd = _odd_one(scene)
        rows.append(
            row(
                (f" ≠ They parted at instruction {d.instruction + 1:,}: ", "bad"), (asm, "strong"),
                f" answers otherwise on {odd}." if odd else " was not the same on all.",
                ("   d", "key"), (" goes there" if scene.width >= 96 else " there", "dim"),
            )
        )  # fmt: skip
    return rows


def _odd_one(scene: Scene) -> str:
    """The machine that alone has another value; "" where that is not one."""
    d = scene.s.divergence
    values = {} if d is None else {core: repr(value) for core, value in d.values.items()}
    for lane in scene.lanes:
        mine = values.get(lane.core)
        others = {value for core, value in values.items() if core != lane.core}
        if mine is not None and len(values) > 2 and len(others) == 1 and mine not in others:
            return ways.name_of(scene, lane)
    return ""


def _program(scene: Scene, rows: dict[str, list[Row]], height: int, *, output: bool) -> Shown:
    """The rule, the notes, and the program in what is left of ``height`` rows."""
    notes = notes_rows(scene)[: max(0, height - 2)]
    shown = program_rows(scene, height - len(notes))
    rows["rule"] = [program_rule(scene, output=output)]
    rows["notes"], rows["program"] = notes, shown.rows
    return shown


def lower_rows(scene: Scene, height: int) -> list[Row]:
    """The rule of the lower part, and ``height`` rows."""
    view = scene.view
    if scene.moving and view in ("ways", "conversation") and not scene.parted:
        view = "reasons"  # no single instruction can be told of
    match view:
        case "conversation":
            found = conversation_rows(scene, height)
        case "reasons":
            found = reason_rows(scene, height)
        case "log":
            found = log_rows(scene, height)
        case _:
            found = ways_rows(scene)
    return _exactly(found, height + 1)


def _session(scene: Scene) -> Picture:
    listed = scene.view in ("reasons", "log")
    sentences = max(3, len(scene.lanes))
    p = plan(scene.width, scene.height, layout.list_rows(scene.height) if listed else sentences)
    rows = {"header": [header_row(scene)], "facts": _facts(scene, *(("bar",) if p.bar else ()))}
    if p.track:
        rows["track"] = track_rows(scene)
    apart = p.extra >= 3
    shown = _program(scene, rows, p.code + (0 if apart else p.extra), output=not apart)
    rows["lower"] = lower_rows(scene, p.lower)
    rows["registers"] = ([title_rule(scene)] if p.regrule else []) + register_rows(scene, p.regs)
    if apart:
        _output(scene, rows, p.extra)
    return Picture(rows, shown.addresses, shown.top)


def _output(scene: Scene, rows: dict[str, list[Row]], extra: int) -> None:
    """What the guest prints, and above it the latest exits where there is room for some.

    The share depends on the kind of output, not on its length: else it would jump while it grows."""
    screen = scene.reference.screen is not None
    output = extra - 1 if extra < 9 else min(extra - 6, 12 if screen else 4)
    rest = extra - 1 - output
    if rest >= 4:
        rows["latest"] = _exactly(log_rows(scene, rest - 1, key="l"), rest)
    rows["output"] = output_rows(scene, output + (rest if rest < 4 else 0))


def _free(scene: Scene) -> Picture:
    """Running freely: no line jumps about; counts, rates and reasons do."""
    height = scene.height
    room = height - layout.FIXED - 1
    listed = min(7 if height < 30 else 10, room - LEAST_CODE)
    rest = room - listed
    output = 0 if rest < 14 else min(12, rest // 2)
    code = rest - (output + 1 if output else 0)
    rows = {"header": [header_row(scene)], "facts": _facts(scene, "rates")}
    shown = _program(scene, rows, code, output=not output)
    view = scene.view if scene.view in ("log", "reasons") else "reasons"
    found = log_rows(scene, listed) if view == "log" else reason_rows(scene, listed)
    rows["lower"] = _exactly(found, listed + 1)
    if output:
        rows["output"] = output_rows(scene, output)
    return Picture(rows, shown.addresses, shown.top)


def _own(scene: Scene) -> Picture:
    rows = {"header": [header_row(scene)], "facts": own_facts(scene)}
    room = scene.height - 1 - len(rows["facts"]) - 1 - 1 - BELOW
    code = max(3, room - own_count(scene)) if scene.height >= 40 else 3
    shown = _program(scene, rows, code, output=True)
    rows["registers"] = own_rows(scene, room - code)
    return Picture(rows, shown.addresses, shown.top)


def _alone(scene: Scene) -> Picture:
    left = row(("Program", "strong"), ("  " + program_name(scene.s), "dim"))
    exits = [
        EMPTY if (m := lane.machine) is None
        else row((short(m.exits), "soft-bold" if emulates(m) else "host-bold"))
        for lane in scene.lanes
    ]  # fmt: skip
    rows = {
        "header": [header_row(scene)],
        "facts": [_titled(scene, left), lanes(scene, label(scene, "exits so far"), exits)],
    }
    shown = program_rows(scene, scene.height - 1 - 2 - 4 - BELOW)
    rows["program"] = shown.rows
    rows["lower"] = _exactly(ways_rows(scene), 4)
    return Picture(rows, shown.addresses, shown.top)


def _titled(scene: Scene, left: Row) -> Row:
    cells = [
        row((f"{lane.number} ", "dim"), (names(lane, scene.lane - 3, twins(scene, lane)), "strong"))
        for lane in scene.lanes
    ]
    return lanes(scene, row(" ", *left), cells)


def _inside(scene: Scene) -> Picture:
    """Memory, tables, devices, rings in place of three ways and registers, never of the lanes."""
    rows = {"header": [header_row(scene)], "facts": _facts(scene)}
    room = scene.height - 1 - len(rows["facts"]) - 1 - BELOW
    needed = len(scene.inside)
    while needed and scene.inside[needed - 1] == EMPTY:
        needed -= 1
    most = inside_height(scene.width, scene.height)
    body = min(most, -(-max(needed, 8) // 6) * 6)  # in steps, so that it seldom changes
    shown = _program(scene, rows, room - body, output=False)
    rows["lower"] = _exactly(list(scene.inside), body)
    return Picture(rows, shown.addresses, shown.top)


def inside_height(width: int, height: int) -> int:
    """Rows that the inside of a machine has, its rule included."""
    room = height - 1 - len(_FACTS) - 1 - BELOW
    return max(room - (7 if height < 36 else 12), min(room - LEAST_CODE, 4))


def lesson_height(height: int) -> int:
    """Rows of a lesson at most, its rule included."""
    room = height - 1 - len(_FACTS) - 1 - BELOW
    return min((max(6, height // 3) if height < 30 else height // 2) + 1, room - LEAST_CODE)


def _lesson(scene: Scene) -> Picture:
    """A lesson in place of three ways and, below forty rows, of the registers."""
    rows = {"header": [header_row(scene)], "facts": _facts(scene)}
    body = _exactly(list(scene.lesson), max(4, min(len(scene.lesson), lesson_height(scene.height))))
    room = scene.height - 1 - len(rows["facts"]) - 1 - len(body) - BELOW
    if room >= 11:
        rows["track"] = track_rows(scene)
        room -= 3
    if room >= 16:
        rows["registers"] = [title_rule(scene), *register_rows(scene, 2)]
        room -= 3
    shown = _program(scene, rows, room, output=True)
    rows["lower"] = body
    return Picture(rows, shown.addresses, shown.top)


def _projector(scene: Scene) -> Picture:
    rows = {"header": [header_row(scene)], "facts": projector_facts(scene)}
    told = ways_rows(scene, keys=False)
    spaced: list[Row] = told[:1]
    for line in told[1:]:
        spaced += [EMPTY, line]
    lower = 2 + 2 * max(3, len(scene.lanes))
    room = scene.height - 1 - len(rows["facts"]) - 1 - 1  # there is no timeline
    if room - lower < LEAST_CODE:
        spaced, lower = told, 1 + len(scene.lanes)
    shown = _program(scene, rows, room - lower, output=True)
    rows["lower"] = _exactly(spaced, lower)
    return Picture(rows, shown.addresses, shown.top)
