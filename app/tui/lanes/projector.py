"""Large digits, for those who sit at the back: the counts of exits, three rows high."""

from __future__ import annotations

from app.tui.lanes.facts import brief, fact_rows, with_reasons
from app.tui.lanes.layout import lanes
from app.tui.lanes.scene import Scene, emulates
from app.tui.rows.rows import EMPTY, Row, row, width_of

_DIGITS = {
    "0": ("█▀█", "█ █", "█▄█"), "1": ("▄█ ", " █ ", "▄█▄"), "2": ("▀▀█", "█▀▀", "█▄▄"),
    "3": ("▀▀█", " ▀█", "▄▄█"), "4": ("█ █", "▀▀█", "  █"), "5": ("█▀▀", "▀▀█", "▄▄█"),
    "6": ("█▀▀", "█▀█", "█▄█"), "7": ("▀▀█", "  █", "  █"), "8": ("█▀█", "█▀█", "█▄█"),
    "9": ("█▀█", "▀▀█", "▄▄█"), "k": ("█ ▄", "█▀ ", "█ ▀"), "M": ("█▄█", "█▀█", "█ █"),
    ".": (" ", " ", "▄"),
}  # fmt: skip


def digits(count: int, width: int) -> list[str]:
    """Three rows; a count that is too wide in thousands."""
    for words in (f"{count}", brief(count), f"{count // 1000}k"):
        rows = [" ".join(_DIGITS[sign][y] for sign in words) for y in range(3)]
        if width_of(rows[0]) <= width:
            return rows
    return ["", words, ""]


def projector_facts(scene: Scene) -> list[Row]:
    """Names, who executes, the ring, and the exits."""
    facts = fact_rows(scene)
    numbers = [
        EMPTY if lane.machine is None else tuple(digits(lane.machine.exits, scene.lane - 1))
        for lane in scene.lanes
    ]
    labels = ("", "Exits so far:", "how often the guest was left")
    rows = [facts["names"], facts["who"], facts["ring"]]
    for y, words in enumerate(labels):
        cells = [
            row((str(number[y]), "soft" if lane.machine and emulates(lane.machine) else "host-bold"))
            if number
            else EMPTY
            for lane, number in zip(scene.lanes, numbers, strict=True)
        ]
        rows.append(lanes(scene, row(" ", words), cells))
    return with_reasons(scene, rows)
