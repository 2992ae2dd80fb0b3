"""The figures as a table for people, and for the README."""

from __future__ import annotations

from .figures import Figure, Result, Skipped, Spread

HEADINGS = ("", "measured", "median", "baseline", "median", "ratio", "target")


def text(machine: dict[str, str | int], results: list[Result]) -> str:
    """The machine, the table, and what could not be measured."""
    rows = [HEADINGS, *(_row(r) for r in results if isinstance(r, Figure))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = (2, 4, 5)
    lines = [
        "  ".join(
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([_header(machine), "", *(lines if len(rows) > 1 else []), *_skipped(results)])


def markdown(machine: dict[str, str | int], results: list[Result]) -> str:
    """The table in Markdown for the README, without the spreads of the figures, and below it a line for
    each measurement that is missing in it."""
    lines = [
        _header(machine), "",
        "| | measured | | baseline | | ratio | target |", "|---|---|--:|---|--:|--:|---|",
    ]  # fmt: skip
    for figure in results:
        if isinstance(figure, Figure):
            ratio = _ratio(figure.ratio) if figure.ratio else ""
            base = _median(figure.base, figure.unit) if figure.base else ""
            value = _median(figure.value, figure.unit)
            cells = (figure.name, figure.what, value, figure.baseline, base, ratio, _target(figure))
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {line}" for line in skipped)] if (skipped := _skipped(results)) else []
    return "\n".join(lines)


def _skipped(results: list[Result]) -> list[str]:
    """What could not be measured, and why."""
    return [f"{r.name}: not here: {r.reason}" for r in results if isinstance(r, Skipped)]


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name, figure.what, _value(figure.value, figure.unit),
        figure.baseline, _value(figure.base, figure.unit) if figure.base else "",
        _ratio(figure.ratio) if figure.ratio else "",
        _target(figure),
    )  # fmt: skip


def _header(machine: dict[str, str | int]) -> str:
    return f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['kernel']}, Python {machine['python']}"


def _target(figure: Figure) -> str:
    if figure.limit is None:
        return ""
    return f"{figure.limit} {'met' if figure.limit.met(figure) else 'missed'}"


def _median(spread: Spread, unit: str) -> str:
    return f"{spread.median:,.{_digits(spread)}f} {unit}"


def _digits(spread: Spread) -> int:
    return 0 if spread.median >= 100 else 1 if spread.median >= 10 else 2


def _value(spread: Spread, unit: str) -> str:
    numbers = [spread.median, spread.low, spread.high]
    median, low, high = (f"{number:,.{_digits(spread)}f}" for number in numbers)
    return f"{median} {unit}" if low == high else f"{median} {unit} ({low}-{high})"


def _ratio(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"
