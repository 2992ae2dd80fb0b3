"""The parts of a lesson: text, and blocks that drive the machines (docs/lessons.md).

A ``Lesson`` is a frozen value: parsing makes it, the player performs it, the checker checks it.
Every item remembers its line, so that whatever is wrong with it can be told as ``file:line``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cores.programs.program import DEFAULT_RAM
from lessons.format.expressions import Expression


@dataclass(frozen=True, slots=True)
class Setup:
    """The machines to make. guest: a path. cores: names as in ``--cores``. disk: a path or None.

    pure: textbook trap-and-emulate. nets: each as in ``--net``. Other fields as in
    ``cores.lockstep.options.Options``."""

    guest: str
    cores: tuple[str, ...]
    pure: bool = False
    disk: str | None = None
    input: str = ""
    ram: int = DEFAULT_RAM
    nets: tuple[str, ...] = ()
    virtio: tuple[str, ...] = ()
    poll: bool = False
    give: tuple[str, ...] = ()


class Until(Enum):
    """The condition that ends a move of the machines."""

    EXIT = "exit"
    """A machine has left its guest; ``Move.text``: for that reason, "" for any."""
    SYMBOL = "symbol"
    """The reference machine is about to execute the instruction at that symbol."""
    INSTRUCTIONS = "instructions"
    """So many instructions are completed, from the beginning."""
    OUTPUT = "output"
    """The console holds that text."""
    STEP = "step"
    """``times`` more instructions."""
    BACK = "back"
    """``times`` fewer instructions."""
    END = "end"
    """Every machine has stopped."""
    SECONDS = "seconds"
    """Each machine has run freely for so long (``Move.seconds``), or has stopped before."""


@dataclass(frozen=True, slots=True)
class Move:
    """Set the machines going. times: how often ``until`` must come true (an expression over the
    lesson's varied numbers). limit: instructions after which it counts as never reached. free: at
    full speed, each machine by itself (only to the END, or for SECONDS of host time)."""

    line: int
    until: Until
    text: str = ""
    times: Expression | None = None
    limit: int = 1_000_000
    free: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Heading:
    """The beginning of a named step."""

    line: int
    title: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, with values to be filled in at the moment when it is said. when: it is left out
    where this is false, such as what holds only on some hosts; None: always said."""

    line: int
    markdown: str
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Other machines: a new guest, or the same one once more with other options."""

    line: int
    setup: Setup


@dataclass(frozen=True, slots=True)
class Focus:
    """Something to look at. kind: pane, register, address, symbol, line or event."""

    line: int
    kind: str
    target: str


@dataclass(frozen=True, slots=True)
class Show:
    """A view of the machines. view: one of VIEWS. core: whose, "" for all. address: for ``pages``."""

    line: int
    view: str
    core: str = ""
    address: Expression | None = None


VIEWS = (
    "dialogue", "log", "chart", "registers", "code", "console", "screen", "pages", "rings", "memory",
)  # fmt: skip
FOCUSES = ("pane", "register", "address", "symbol", "line", "event")


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer. when: true afterwards if it was the right one. why: the reply to a wrong choice,
    and of the right one always."""

    line: int
    text: str
    when: Expression
    why: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """The reply to a wrong number; when: an expression that knows it as ``answer``."""

    when: Expression
    why: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A prediction. The machines make ``then``, and what happens is the answer: the choice whose
    ``when`` has come true, or the value of ``number``. why: said in any case."""

    line: int
    question: str
    then: Move | None
    choices: tuple[Choice, ...] = ()
    number: Expression | None = None
    wrong: tuple[Wrong, ...] = ()
    why: str = ""

    @property
    def is_prediction(self) -> bool:
        """Do the machines answer it? Else the lesson does (``when = "true"``)."""
        answers = [self.number] if self.number else [choice.when for choice in self.choices]
        return any(expression.is_about_machines for expression in answers)


@dataclass(frozen=True, slots=True)
class Claim:
    """An expression that must be true. text: as it was written."""

    line: int
    text: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Expect:
    line: int
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A note for the teacher."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Let it sink in. seconds: when the lesson plays by itself, at speed 1."""

    line: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Quote:
    """A part of Ringscope's own source, as it is now. place: "cores/vmm/vmm.py: Vmm.step". look: what
    to look at in it, said before it."""

    line: int
    place: str
    code: str
    look: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture. file: its path, beside the lesson. alt: what it shows, in words: a text has only
    these."""

    line: int
    file: str
    alt: str


Item = Heading | Text | Move | Load | Focus | Show | Ask | Expect | Note | Pause | Quote | Image


@dataclass(frozen=True, slots=True)
class Lesson:
    """One lesson. name: its file's, without number and ending. number: its place in the course,
    0 outside. needs: cores without which it cannot be given. vary: the numbers that a seed chooses,
    name -> the values to choose from (the first without a seed)."""

    path: str
    name: str
    number: int
    title: str
    summary: str
    minutes: int
    setup: Setup
    needs: tuple[str, ...]
    items: tuple[Item, ...]
    vary: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def headings(self) -> list[tuple[int, Heading]]:
        """The named steps, each with its item's index."""
        return [(i, item) for i, item in enumerate(self.items) if isinstance(item, Heading)]
