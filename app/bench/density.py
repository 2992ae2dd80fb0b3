"""The cost of an instruction against the density of exits: an emulator, trap-and-emulate, KVM.

An emulator pays at each instruction, the others at each exit: there an instruction costs what the CPU
takes for it, and its share of an exit. Two instructions leave the guest: CLI, for which only
trap-and-emulate has to be left; and OUT, for which all have to be, since the devices are in the VMM,
the emulator's too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from . import guests
from .execution import _free, _refusal
from .figures import Figure, Result, Spread, pinned

CORES = ("interpreter", "trap:native", "kvm")
KINDS = {"cli": "fa", "out": "e6e9"}
"""Instructions that may leave the guest, with their bytes: `cli`, `out 0xe9, al`."""
DENSITIES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Instructions for each one of that kind, about."""
LONG_ENOUGH, TOO_LONG = 0.04, 0.5
"""Seconds of a run: a shorter one would measure its beginning and end, a longer one is made once."""
MOST_ROUNDS = 1 << 22
TIMES = 3
Curve = Sequence[tuple[float, float]]
"""Points: instructions for each exit, nanoseconds an instruction."""


def density() -> list[Result]:
    """A figure for each kind, core and density."""
    found: list[Result] = []
    for core in CORES:
        if refusal := _refusal("density", core):
            found.append(refusal)
            continue
        with pinned():
            found += [_figure(kind, core, wanted) for kind in KINDS for wanted in DENSITIES]
    return found


def _figure(kind: str, core: str, wanted: int) -> Figure:
    inner = max((wanted - guests.ROUND) // 2, 1)
    instructions = 2 * inner + guests.ROUND
    rounds, values = 4, list[float]()
    while len(values) < TIMES:
        seconds = _free(guests.apart(KINDS[kind], inner, rounds), core).seconds
        if seconds < LONG_ENOUGH and rounds < MOST_ROUNDS:
            rounds *= 2 if seconds > LONG_ENOUGH / 16 else 16
            continue
        values.append(seconds / (rounds * instructions) * 1e9)
        if seconds > TOO_LONG:
            break
    what = f"an instruction, where one in {wanted:,} is {kind.upper()}"
    return Figure(f"density:{kind}:{core}:{wanted}", what, "ns", Spread.of(values))


def curves(results: Sequence[Result]) -> dict[str, dict[str, Curve]]:
    """The curves by kind and core."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for result in results:
        if isinstance(result, Figure) and result.name.startswith("density:"):
            kind, _, rest = result.name.removeprefix("density:").partition(":")
            core, _, wanted = rest.rpartition(":")
            points = found.setdefault(kind, {}).setdefault(core, [])
            points.append((float(wanted), result.value.median))
    return {kind: dict(cores) for kind, cores in found.items()}


def crossing(one: Curve, other: Curve) -> float | None:
    """Instructions for each exit from which on ``one`` is cheaper than ``other``: where the curves
    cross, between two points by straight lines on logarithmic scales. 0 where it always is; None
    where it never is, or they cross more than once."""
    theirs = dict(other)
    points = [(x, math.log(y / theirs[x])) for x, y in one if x in theirs]
    signs = [difference < 0 for _, difference in points]
    if not points or not signs[-1] or signs != sorted(signs):
        return None
    if signs[0]:
        return 0.0
    at = signs.index(True)
    (x0, y0), (x1, y1) = points[at - 1], points[at]
    return math.exp(math.log(x0) + (math.log(x1) - math.log(x0)) * y0 / (y0 - y1))


def sentences(kind: str, found: Mapping[str, Curve]) -> list[str]:
    """Of each core beside the emulator, from where on it is cheaper."""
    emulator = found.get("interpreter")
    said = []
    for core, curve in found.items():
        if core == "interpreter" or emulator is None:
            continue
        where = crossing(curve, emulator)
        if where:
            said.append(
                f"{core} is cheaper than the emulator where fewer than one instruction in about "
                f"{float(f'{where:.1g}'):,.0f} is {kind.upper()}."
            )
        elif where is None:
            said.append(f"{core} is not cheaper than the emulator from any density on.")
        else:
            said.append(f"{core} is cheaper than the emulator at every density.")
    return said


NAMES = {"interpreter": "e emulator", "trap:native": "t trap", "kvm": "k kvm"}
WIDTH, HEIGHT = 61, 15


def chart(kind: str, found: Mapping[str, Curve]) -> str:
    """The curves on logarithmic scales, for a terminal: e the emulator, t trap-and-emulate, k KVM."""
    costs = [math.log10(y) for curve in found.values() for _, y in curve]
    low, high = math.floor(min(costs)), max(math.ceil(max(costs)), math.floor(min(costs)) + 1)
    first, last = math.log10(DENSITIES[0]), math.log10(DENSITIES[-1])
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for core, curve in found.items():
        points = [(math.log10(x), math.log10(y)) for x, y in curve]
        for column in range(WIDTH):
            y = _between(points, first + (last - first) * column / (WIDTH - 1))
            row = round((high - y) / (high - low) * (HEIGHT - 1))
            letter = NAMES[core][0]
            grid[row][column] = letter if grid[row][column] == " " else "*"  # two in one place
    steps = {round((high - n) / (high - low) * (HEIGHT - 1)): n for n in range(low, high + 1)}
    labels = {row: f"{10.0**n:,g} ns" for row, n in steps.items()}
    lines = [
        f"{labels.get(i, ''):>10} {'┤' if i in labels else '│'}{''.join(row)}".rstrip()
        for i, row in enumerate(grid)
    ]
    gap = (WIDTH - 1) // (len(DENSITIES) - 1)
    words = ["1 in 10", *(f"{n:,}" for n in DENSITIES[1:-1]), "million"]
    ticks = "".join(word.ljust(gap) for word in words)
    title = f"cost of an instruction, one in how many is {kind.upper()}: "
    return "\n".join([
        title + ", ".join(NAMES[core] for core in found), *lines,
        f"{'':10} └{('┬' + '─' * (gap - 1)) * (len(DENSITIES) - 1)}┬", f"{'':12}{ticks}".rstrip(),
    ])  # fmt: skip


def _between(points: Sequence[tuple[float, float]], x: float) -> float:
    """The curve's height at x, by a straight line between its points."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1 + 1e-9:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]
