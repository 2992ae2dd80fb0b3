"""The player: a lesson's place in its script, and the machines there.

A front end calls ``proceed`` again and again and shows the events that come out. It waits for its
reader where ``at_stop`` is true, gives ``answer`` while ``question`` is not None, and may at any time
go ``back``, ``jump``, or let the reader take over the machines and ``rejoin`` afterwards. Nothing
here draws, prints or waits. All calls come from the thread that owns the stage.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import random
import re

from cores.errors import InputError
from cores.plural import counted
from lessons.format.expressions import Expression, ExpressionError, Value, parse
from lessons.format.parser import PLACEHOLDER
from lessons.format.script import (
    Ask,
    Expect,
    Focus,
    Heading,
    Image,
    Item,
    Lesson,
    Load,
    Move,
    Note,
    Pause,
    Quote,
    Show,
    Text,
)
from lessons.play import memory_text, questions
from lessons.play.events import (
    Asked,
    Begun,
    Broken,
    Ended,
    Event,
    Kept,
    LeftOut,
    Loaded,
    Looked,
    Moved,
    Noted,
    Paused,
    Pictured,
    Quoted,
    Said,
    Shown,
    Verdict,
)
from lessons.play.moves import LONGEST_FREE_RUN, Progress
from lessons.play.stage import AnyStage, Place
from lessons.play.values import Absent, Scene, find, formatted, written


class Player:
    """One reader's way through one lesson.

    position: index of the next item. moving: the machines are on their way; call ``proceed`` again.
    question: waits for ``answer``. numbers: what the seed chose. ended: nothing comes any more.
    """

    def __init__(self, lesson: Lesson, stage: AnyStage, seed: int | None = None) -> None:
        self.lesson = lesson
        self.stage = stage
        self._headings = lesson.headings
        chance = random.Random(seed)
        self.numbers: dict[str, Value] = {
            name: values[0] if seed is None else chance.choice(values)
            for name, values in lesson.vary.items()
        }
        self.position = 0
        self.question: Ask | None = None
        self.moving: Move | None = None
        self.ended = False
        self.now = self.before = stage.snapshot()
        self._answer: str | None = None
        self._verdict_due: Ask | None = None
        self._said = False
        self._stops: list[tuple[int, Place]] = []
        self._left: tuple[int, Place] | None = None

    @property
    def step(self) -> tuple[int, str]:
        """Number, from 1, and title of the present step; 0 before the first."""
        passed = bisect.bisect_left(self._headings, self.position, key=lambda pair: pair[0])
        return passed, self._headings[passed - 1][1].title if passed else ""

    @property
    def at_stop(self) -> bool:
        """Should the reader be waited for? After words, before the machines or the subject change."""
        if self.question or self.moving or self._verdict_due or not self._said:
            return False
        if self.position >= len(self.lesson.items):
            return True
        return isinstance(self.lesson.items[self.position], Heading | Move | Load | Pause)

    @property
    def pausing(self) -> float:
        """Seconds of the pause that comes next, 0 without one."""
        item = self.lesson.items[self.position] if self.position < len(self.lesson.items) else None
        return item.seconds if isinstance(item, Pause) else 0.0

    @property
    def conceals(self) -> bool:
        """Would marks in the code (leaves the guest, would not trap) answer a question? True until the
        first question about the present guest has been answered, if the machines answer one."""
        items = self.lesson.items
        loads = [0, *(i for i, item in enumerate(items) if isinstance(item, Load)), len(items)]
        here = bisect.bisect_left(loads, self.position, 1)
        for index in range(loads[here - 1], loads[here]):
            item = items[index]
            if isinstance(item, Ask) and item.is_prediction:
                waiting = self.question is not None or self._verdict_due is not None
                return self.position <= index + int(waiting)
        return False

    # Forwards

    def proceed(self, seconds: float = math.inf) -> list[Event]:
        """One item of the script, or a move of the machines for at most so long.

        Raises InputError where the lesson is wrong, RingscopeError where the host fails."""
        if self.question is not None:
            return []
        if self.moving is not None:
            return self._work(seconds)
        if self.position >= len(self.lesson.items):
            self.ended = True
            return [Ended()]
        item = self.lesson.items[self.position]
        if not self._stops or self.at_stop:
            self._stops.append((self.position, self.stage.place()))
        self.position += 1
        try:
            if isinstance(item, Text) and item.when is not None and not self.scene().value(item.when):
                return []
            self._said = isinstance(item, Text | Quote | Image | Show) or (
                self._said and not isinstance(item, Heading | Move | Load | Pause)
            )
            return self._perform(item)
        except Absent as absent:
            return self._leave_out(item, str(absent).partition(" ")[0])
        except ExpressionError as error:
            raise InputError(str(error), self.lesson.path, item.line) from None

    def _perform(self, item: Item) -> list[Event]:
        match item:
            case Heading(title=title):
                return [Begun(title, self.step[0], len(self._headings))]
            case Text(markdown=markdown):
                return [Said(self.fill(markdown))]
            case Move():
                self._begin(item)
                return []
            case Load(setup=setup):
                self.stage.load(setup)
                self.now = self.before = self.stage.snapshot()
                return [Loaded(setup.guest, setup.pure)]
            case Focus(kind=kind, target=target):
                return [Looked(kind, target, self._look(kind, target))]
            case Show():
                return [self._show(item)]
            case Ask():
                return self._ask(item)
            case Expect():
                return self._expect(item)
            case Note(text=text):
                return [Noted(self.fill(text))]
            case Pause(seconds=seconds):
                return [Paused(seconds)]
            case Quote(place=place, code=code, look=look):
                return [Quoted(place, code, self.fill(look))]
            case Image(file=file, alt=alt):
                return [Pictured(file, self.fill(alt))]

    def _show(self, item: Show) -> Shown:
        if item.core and item.core not in self.stage.cores:
            raise Absent(f"{item.core} is not here")
        lines = {}
        if item.address is not None:
            address = self.stage.address(str(self._number(item.address)))
            tell = memory_text.walk if item.view == "pages" else memory_text.dump
            for core in [item.core] if item.core else self._cores():
                lines[core] = tell(self.stage.machine(core), address)
        return Shown(item.view, item.core, self.now, lines, marks=not self.conceals)

    def _leave_out(self, item: Item, core: str) -> list[Event]:
        """Leave out a part for lack of a core; the machines still go where it would lead."""
        if isinstance(item, Ask) and item.then is not None:
            self._begin(item.then)
        return [LeftOut(item.line, core)]

    # Moving

    def _begin(self, move: Move) -> None:
        times = self._number(move.times) if move.times else 1
        if times < 0:
            raise ExpressionError(f"not so many times: {times}")
        self.before = self.stage.snapshot()
        self.stage.moves.begin(move, times)
        self.moving = move

    def _work(self, seconds: float) -> list[Event]:
        assert self.moving is not None
        progress = self.stage.moves.work(seconds)
        self.now = self.stage.snapshot()
        if progress is Progress.MOVING:
            return []
        move, self.moving = self.moving, None
        if progress is Progress.MISSED:
            return [Broken(move.line, self._missed(move)), *self._settle()]
        return [Moved(self.before, self.now), *self._settle()]

    def _missed(self, move: Move) -> str:
        """What was not reached, and how far the machines went."""
        wanted = f"{move.until.value} {move.text}".strip()
        if move.free:
            return (
                f"no end in {LONGEST_FREE_RUN:g} seconds at full speed; a guest that never ends is run"
                " with seconds = 1 in place of end = true"
            )
        done = max((m.instructions or 0 for m in self.now.machines), default=0)
        return f"never reached in {counted(done, 'instruction')}: {wanted}"

    def _settle(self) -> list[Event]:
        ask, self._verdict_due = self._verdict_due, None
        return [] if ask is None else self._verdict(ask)

    # Questions

    def _ask(self, ask: Ask) -> list[Event]:
        for expression in [*(c.when for c in ask.choices), *([ask.number] if ask.number else [])]:
            for core in sorted(expression.cores - self.stage.cores):
                raise Absent(f"{core} is not here")
        asked = Asked(self.fill(ask.question), tuple(self.fill(c.text) for c in ask.choices))
        self.question = ask
        return [asked]

    def answer(self, given: str | None) -> list[Event]:
        """The learner's answer: a letter, a number, or None to be shown. Raises ValueError with what
        would be an answer."""
        ask = self.question
        if ask is None:
            return []
        if given is not None:
            given = questions.read(ask, given)
        self.question, self._answer, self._verdict_due = None, given, ask
        if ask.then is not None:
            try:
                self._begin(ask.then)
            except ExpressionError as error:
                raise InputError(str(error), self.lesson.path, ask.line) from None
            return []
        return self._settle()

    def _verdict(self, ask: Ask) -> list[Event]:
        try:
            found = questions.judge(ask, self.scene(), self._answer)
            words = self._explanation(found.why, ask.why)
            question, truth = self.fill(ask.question), self.fill(found.truth)
        except questions.Ambiguous as error:
            return [Broken(ask.line, str(error))]
        except ExpressionError as error:
            raise InputError(str(error), self.lesson.path, ask.line) from None
        self._said = True
        return [Verdict(question, self._answer, found.right, truth, words)]

    def _explanation(self, *parts: str) -> str:
        """Join the parts, without those that speak of a core that is not here."""
        said = []
        for part in parts:
            with contextlib.suppress(Absent):
                said.append(self.fill(part.strip()))
        return " ".join(filter(None, said))

    # Values

    def scene(self, more: dict[str, Value] | None = None) -> Scene:
        """The present moment, for expressions."""
        return Scene(self.now, self.before, self.stage.peek, self.numbers | (more or {}))

    def fill(self, markdown: str) -> str:
        """Fill in the values of a paragraph. Raises ExpressionError."""
        if markdown.startswith("```"):
            return markdown
        scene = self.scene()

        def value(found: re.Match[str]) -> str:
            return formatted(scene.value(parse(found.group(1))), found.group(2) or "")

        return PLACEHOLDER.sub(value, markdown)

    def _number(self, expression: Expression) -> int:
        value = self.scene().value(expression)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ExpressionError(f"no whole number: {expression.text} is {value!r}")
        return int(value)

    def _look(self, kind: str, target: str) -> tuple[tuple[str, str], ...]:
        match kind:
            case "pane":
                if target not in self.stage.cores:
                    raise Absent(f"{target} is not here")
                return ()
            case "line":
                address = self.stage.line_address(int(target))
                if address is None:
                    raise ExpressionError(f"line {target} of the guest has no instruction")
                return (("at", f"{address:#x}"),)
            case "address" | "symbol":
                address = self.stage.address(target)
                found = [(core, self.stage.peek(core, target, 8).hex(" ")) for core in self._cores()]
                return (("at", f"{address:#x}"), *found)
            case "event":
                words = parse(f"new.each.exits.{target}" if target != "any" else "new.each.exits")
                return tuple((core, self._written(words.text, core)) for core in self._cores())
        return tuple((core, self._written(f"each.{target}", core)) for core in self._cores())

    def _cores(self) -> list[str]:
        return [core for core in ("interpreter", "trap", "kvm") if find(self.now, core)]

    def _written(self, text: str, core: str) -> str:
        return written(self.scene().value(parse(text.replace("each", core, 1))))

    # Expectations

    def _expect(self, item: Expect) -> list[Event]:
        events: list[Event] = []
        kept = 0
        scene = self.scene()
        for claim in item.claims:
            try:
                true, core = scene.holds(claim.expression)
            except Absent as absent:
                events.append(LeftOut(claim.line, str(absent).partition(" ")[0]))
                continue
            except ExpressionError as error:
                raise InputError(str(error), self.lesson.path, claim.line) from None
            kept += true
            if not true:
                events.append(Broken(claim.line, self._contradiction(claim.text, core)))
        return [Kept(kept), *events]

    def _contradiction(self, text: str, core: str) -> str:
        """The expectation in words, and the values that were found instead."""
        expression = parse(text)
        found = []
        for name in expression.names:
            there = [core.partition(":")[0] if part == "each" else part for part in name]
            value = self.scene().lookup(tuple(there))
            found.append(f"{'.'.join(there)} is {value if isinstance(value, int) else repr(value)}")
        return f"expected {text}; {', '.join(dict.fromkeys(found))}"

    # Elsewhere

    def back(self) -> bool:
        """Go back to where the present turn began, from there to the one before; False at the first."""
        if not self._stops:
            return False
        self._return_to(*self._stops.pop())
        return True

    def jump(self, name: str) -> None:
        """Go to a step by its title or number. Raises ValueError when there is none."""
        headings = self.lesson.headings
        wanted = name.strip().casefold()
        found = [
            index
            for number, (index, heading) in enumerate(headings, 1)
            if wanted in (str(number), heading.title.casefold())
        ]
        if not found:
            raise ValueError(f"no step is called {name!r}; there are 1 to {len(headings)}")
        self._return_to(0, Place(self.lesson.setup, 0))
        self._stops.clear()
        while self.position < found[0] or self.question or self.moving:
            if self.question is not None:
                self.answer(None)
            else:
                self.proceed()
        self._said = False

    def take_over(self) -> None:
        """The reader drives the machines from here on; ``rejoin`` comes back to this place."""
        self._left = (self.position, self.stage.place())

    def rejoin(self) -> None:
        """Back to the script, and the machines to where they were then."""
        if self._left is not None:
            question = self.question
            self._return_to(*self._left)
            self.question, self._left = question, None

    def _return_to(self, position: int, place: Place) -> None:
        self.stage.return_to(place)
        self.now = self.before = self.stage.snapshot()
        self.position = position
        self.question = self.moving = self._verdict_due = None
        self.ended = self._said = False
