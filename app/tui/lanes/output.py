"""The end of what the guest prints, or of its screen. Where the machines' outputs differ, each has its
own, named."""

from __future__ import annotations

from app.tui.lanes.layout import rule
from app.tui.lanes.scene import Scene
from app.tui.lanes.ways import name_of
from app.tui.rows.rows import EMPTY, Row, fit, printable, row
from cores.machine.report import MachineSnapshot
from cores.pc.stop import Stop


def text_of(m: MachineSnapshot) -> str:
    return m.console if m.screen is None else m.screen


def output_rows(scene: Scene, height: int) -> list[Row]:
    """The rule, then ``height`` rows."""
    shown = scene.reference
    what = "What the guest's screen shows" if shown.screen is not None else "What the guest prints"
    several = len({text_of(m) for m in scene.machines}) > 1
    how = "  each machine's own" if several else _sameness(scene)
    rows = [rule(scene, row((what, "strong"), (how, "dim")), row(("v", "key"), (" in full", "dim")))]
    if several:
        for lane in scene.lanes:
            if lane.machine is not None:
                end = _tail(text_of(lane.machine), 1, scene.width - 20)[-1]
                rows.append(row(" ", (fit(name_of(scene, lane), 18), "strong"), end))
    else:
        rows += [row(" ", line) for line in _tail(text_of(shown), height, scene.width - 2)]
    return (rows + [EMPTY] * height)[: height + 1]


def _sameness(scene: Scene) -> str:
    """A machine that the host has stopped prints no more: it is not counted."""
    shown = len(scene.machines)
    going = sum(m.stop is not Stop.ERROR for m in scene.machines)
    if going < 2:
        return ""
    if going < shown:
        return f"  the same on the {going} that could go on"
    return f"  the same on all {({2: 'two', 3: 'three', 4: 'four'}).get(shown, str(shown))}"


def _tail(text: str, count: int, width: int) -> list[str]:
    lines: list[str] = []
    for line in text[-width * (count + 1) * 4 :].rstrip(" ").split("\n"):
        clean = printable(line.expandtabs(4)).rstrip()
        lines += [clean[i : i + width] for i in range(0, max(1, len(clean)), width)]
    lines[-1] = (lines[-1] + "_")[:width]
    while len(lines) > count and lines[-1] == "_":
        lines.pop()
    return lines[-count:]
