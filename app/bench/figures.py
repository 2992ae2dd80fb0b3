"""A figure and its baseline: measured in turn, several times, and told as median and spread."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median

Run = Callable[[], float]
"""One measurement: gives its figure."""

PAIRS = 5


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs, and the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Limit:
    """A target. of: "ratio" or "value". At most ``bound``, or at least if ``least``."""

    of: str
    bound: float
    least: bool = False

    def met(self, figure: Figure) -> bool | None:
        """Was the limit met? None without a limit."""
        spread = figure.ratio if self.of == "ratio" else figure.value
        if spread is None:
            return None
        return spread.median >= self.bound if self.least else spread.median <= self.bound

    def __str__(self) -> str:
        sign = "×" if self.of == "ratio" else ""
        return f"{'≥' if self.least else '≤'} {self.bound:,g}{sign}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    name: of the measurement. what: the thing measured. unit: of value and base.
    baseline: what it is held against, "" for nothing. ratio: value / base, pair by pair.
    """

    name: str
    what: str
    unit: str
    value: Spread
    baseline: str = ""
    base: Spread | None = None
    ratio: Spread | None = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A measurement that this host cannot make, and why."""

    name: str
    reason: str


Result = Figure | Skipped


def alone(
    name: str, what: str, unit: str, run: Run, limit: Limit | None = None, *, times: int = PAIRS
) -> Figure:
    """A figure without a baseline."""
    return Figure(name, what, unit, Spread.of([run() for _ in range(times)]), limit=limit)


def paired(
    name: str,
    what: str,
    unit: str,
    run: Run,
    baselines: dict[str, tuple[Run, Limit | None]],
    *,
    times: int = PAIRS,
) -> list[Result]:
    """``run`` and each of ``baselines`` (by description) in turn, ``times`` over; a figure for each.
    A first round, in which caches are filled and modules imported, is thrown away."""
    ours: list[float] = []
    bases: dict[str, list[float]] = {label: [] for label in baselines}
    for turn in range(-1, times):
        value = run()
        others = {label: base() for label, (base, _) in baselines.items()}
        if turn < 0:
            continue
        ours.append(value)
        for label, base_value in others.items():
            bases[label].append(base_value)
    return [
        Figure(
            name, what, unit, Spread.of(ours), label, Spread.of(values),
            Spread.of([a / b for a, b in zip(ours, values, strict=True)]), baselines[label][1],
        )
        for label, values in bases.items()
    ]  # fmt: skip


@contextmanager
def pinned() -> Iterator[None]:
    """Keep this thread, and what it starts, on one CPU: a stop then wakes nobody on another."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine() -> dict[str, str | int]:
    """The machine that the figures were measured on, in words."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError), open("/proc/cpuinfo") as info:
        names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cpus": os.cpu_count() or 1,
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }
