"""A task: a lesson's file in which a student's guest is run, and held against goals.

+++                      head: title, summary, minutes; cores, vary as in a lesson
...
+++
## What to do            text for the student

```case                  how the guest is run: input, disk, pure, ram, limit, seconds; hidden
input = "{a} {b}\\n"
```

```goal                  of the case above: name, points, that, hint
name = "the sum"
points = 3
that = ["each.status == a + b"]
```
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cores.engines.registry import ACCEPTED_NAMES
from cores.errors import InputError
from cores.lockstep.options import DEFAULT_CORES
from lessons.format import parser
from lessons.format.script import Claim, Heading, Setup, Text
from lessons.format.toml_table import Table

MOST_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the guest, to its end. setup: without a guest; ``input`` may have numbers to fill in.
    limit: instructions. seconds: host time, after which the machines are stopped. free: at full speed;
    then nothing is counted. hidden: a student is not told what was different."""

    line: int
    name: str
    setup: Setup
    limit: int
    seconds: float
    free: bool
    hidden: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of the case before. hint: said when it is missed."""

    line: int
    name: str
    points: int
    claims: tuple[Claim, ...]
    hint: str


@dataclass(frozen=True, slots=True)
class Task:
    """items: the student's text and the cases with their goals, in the file's order."""

    path: str
    title: str
    summary: str
    minutes: int
    items: tuple[Heading | Text | Case | Goal, ...]
    vary: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def points(self) -> int:
        return sum(item.points for item in self.items if isinstance(item, Goal))


def parse_task(path: str) -> Task:
    """Read a task. Raises InputError."""
    lines = parser.split_lines(parser.read_text(path))
    front, body = parser.front_matter(lines, path)
    title, summary = front.string("title"), front.string("summary")
    minutes = front.integer("minutes", 1, 600)
    cores = front.strings("cores", DEFAULT_CORES)
    for core in cores:
        if core not in ACCEPTED_NAMES:
            raise front.error(
                "cores", f"no core is called {core!r}; there are {', '.join(ACCEPTED_NAMES)}"
            )
    vary = parser.varied(front)
    front.finish()
    blocks: dict[str, parser.Block[Case | Goal]] = {"case": _case, "goal": _goal}
    items = parser.parse_body(lines, body, path, Setup("", cores), blocks)
    _cases_come_first(items, path)
    return Task(path, title, summary, minutes, items, vary)


def _cases_come_first(items: tuple[Heading | Text | Case | Goal, ...], path: str) -> None:
    case: Case | None = None
    goals = 0
    for item in items:
        if isinstance(item, Case):
            case = item
        elif isinstance(item, Goal):
            goals += 1
            if case is None:
                raise InputError("a goal belongs to a ```case before it", path, item.line)
    if not goals:
        raise InputError("a task needs a ```goal with points", path)


def _case(table: Table, setup: Setup) -> Case:
    hidden, free = table.boolean("hidden"), table.boolean("free")
    name = table.string("name", "hidden" if hidden else "")
    limit = table.integer("limit", 1, 100_000_000, 1_000_000)
    seconds = table.number("seconds", 600.0, 60.0)
    made = replace(parser.read_setup(table, setup), input=parser.words(table, "input", ""))
    return Case(table.line, name, made, limit, seconds, free, hidden)


def _goal(table: Table, setup: Setup) -> Goal:
    return Goal(
        table.line, table.string("name"), table.integer("points", 0, MOST_POINTS),
        parser.read_claims(table), parser.words(table, "hint", "").strip(),
    )  # fmt: skip
