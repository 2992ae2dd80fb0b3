"""Events of a player: a closed union of everything that a reader is shown."""

from __future__ import annotations

from dataclasses import dataclass

from cores.machine.report import SessionSnapshot


@dataclass(frozen=True, slots=True)
class Begun:
    """A named step begins. number: from 1."""

    title: str
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Said:
    """A paragraph, its values filled in."""

    markdown: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The machines have been somewhere. before, now: the two moments."""

    before: SessionSnapshot
    now: SessionSnapshot


@dataclass(frozen=True, slots=True)
class Loaded:
    """Other machines are here."""

    guest: str
    pure: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A view is to be shown. core: whose, "" for all. lines: core -> what it says, for the views that
    only the machines themselves can give (pages, memory). marks: may the code say which instructions
    leave the guest? False while that would answer a question (``Player.conceals``)."""

    view: str
    core: str
    snapshot: SessionSnapshot
    lines: dict[str, tuple[str, ...]]
    marks: bool = True


@dataclass(frozen=True, slots=True)
class Looked:
    """Something to look at. value: what stands there, by core; empty for a pane."""

    kind: str
    target: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question; the answer goes to ``Player.answer``. choices: empty where a number is wanted."""

    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a question. given: the learner's, None when none was given. right: was it?"""

    question: str
    given: str | None
    right: bool
    answer: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Quoted:
    """Source of Ringscope's. look: what to look at in it; said before it."""

    place: str
    code: str
    look: str = ""


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture: the path of its file, and in words what it shows."""

    file: str
    alt: str


@dataclass(frozen=True, slots=True)
class Noted:
    text: str


@dataclass(frozen=True, slots=True)
class Paused:
    seconds: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something was left out, for lack of a core."""

    line: int
    core: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An expectation that held, with how many claims were checked."""

    claims: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The machines did not do what the lesson says. line: of the claim."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    pass


Event = (
    Begun | Said | Moved | Loaded | Shown | Looked | Asked | Verdict | Quoted | Pictured | Noted
    | Paused | LeftOut | Kept | Broken | Ended
)  # fmt: skip
