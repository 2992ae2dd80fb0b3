"""Banner between the top row and the machines: the first divergence, an error, a
question of the program's. Takes no room while there is nothing to say."""

from __future__ import annotations

from app.tui.rows.glyphs import Glyphs
from app.tui.rows.rows import EMPTY, Row, fit, printable, row
from cores.machine.report import Divergence

from .line_view import LineView


def value_words(name: str, value: int | str | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value}" if name == "exit_status" else f"{value:x}"
    return repr(value[-24:]) if name in ("console", "screen") else str(value)


def divergence_rows(d: Divergence, width: int, glyphs: Glyphs) -> list[Row]:
    """The divergence in two rows: the instruction, and the values that differ."""
    where = f"`{d.asm}` at {d.rip:x}" if d.asm else f"at {d.rip:x}"
    head = row(
        (f" {glyphs.unequal} ", "bad"),
        ("The machines part", "bad"),
        (f" after {d.instruction:,} instruction{'s' * (d.instruction != 1)}, by ", "text"),
        (where, "strong"),
        (f": {', '.join(d.differs[:6])}{' ...' if len(d.differs) > 6 else ''} differ", "text")
        if len(d.differs) != 1
        else (f": {d.differs[0]} differs", "text"),
    )
    name = d.differs[0] if d.differs else ""
    values = ", ".join(f"{core} {value_words(name, v.get(name))}" for core, v in d.values.items())
    return [head, row((fit(f"   {name}: {values}", width, glyphs.more), "dim"))] if name else [head]


class Banner(LineView):
    """Up to three rows."""

    DEFAULT_CSS = "Banner { width: 1fr; height: 0; }"

    def __init__(self) -> None:
        super().__init__(id="banner")
        self.divergence: Divergence | None = None
        self.error = self.reached = ""

    def show(self, divergence: Divergence | None, error: str, reached: str = "") -> None:
        """reached: the breakpoint at which the machines have stopped."""
        self.divergence, self.error, self.reached = divergence, error, reached
        anything = divergence or error or reached
        height = len(self.compose_rows(self.app.size.width, 9)) if anything else 0
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height
        self.redraw()

    def tip(self, x: int, y: int) -> str:
        if self.divergence is not None and not self.error:
            return (
                "The first instruction after which the machines differ, and in what. d goes there;"
                " from then on nothing is compared."
            )
        return ""

    def compose_rows(self, width: int, height: int) -> list[Row]:
        rows: list[Row] = []
        if self.error:
            rows.append(
                row((" ! ", "bad"), (fit(printable(self.error), width - 3, self.glyphs.more), "text"))
            )
        if self.reached:
            mark = (f" {self.glyphs.breakpoint} ", "bad")
            rows.append(row(mark, "Stopped at the breakpoint: ", (printable(self.reached), "strong")))
        if self.divergence is not None:
            rows += divergence_rows(self.divergence, width, self.glyphs)
        return rows or [EMPTY]
