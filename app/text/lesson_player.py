"""A lesson played as text: at a terminal with questions and keys, elsewhere straight to its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from app.recording.asciicast import Recording, reading_time
from app.teacher.audience import Audience, bars
from app.teacher.reader import Reading
from app.text import lesson as lesson_text
from app.text.reports import clean
from lessons import glossary
from lessons.format.script import Lesson
from lessons.play.events import Begun, Event, Paused, Verdict
from lessons.play.player import Player
from lessons.play.stage import AnyStage, open_stage

KEYS = """\
  Enter    on                            b        back
  j STEP   jump to a step (number, name) t        take over the machines
  ? WORD   what a word means             q        end"""

MACHINE_KEYS = """\
  n or Enter  one instruction            b        one back
  e           to the next exit           r        registers
  c           code                       d        the last exit as a dialogue
  l           back to the lesson"""

_STAND_IN = """[The trap core's guest cannot run on this computer's own CPU. A stand-in plays that CPU:
software at ring 3, with the same refusals. Where the lesson says "the real CPU", think of it.]"""


class Stopped(Exception):
    """The reader has had enough."""


class PlainPlay:
    """One reading. interactive: a person answers and presses keys. speed: play by itself
    at so many times a reader's speed; 0: wait for keys, or nothing. audience: a class that follows."""

    def __init__(
        self, lesson: Lesson, *, interactive: bool, speed: float = 0.0, seed: int | None = None,
        recording: Recording | None = None, audience: Audience | None = None,
    ) -> None:  # fmt: skip
        self.lesson = lesson
        self.interactive = interactive
        self.speed = speed
        self.seed = seed
        self.recording = recording
        self.reading = Reading(lesson, remembers=interactive, audience=audience)

    def run(self) -> bool:
        """Play it; False when the reader ended it early."""
        self._print(lesson_text.heading(self.lesson))
        with (
            contextlib.closing(open_stage(self.lesson.setup)) as stage,
            self.reading,
        ):
            missing = [core for core in self.lesson.needs if core not in stage.cores]
            if missing:
                reasons = dict(stage.snapshot().unavailable)
                for core in missing:
                    why = next((r for c, r in reasons.items() if c.startswith(core)), "not asked for")
                    self._print(f"This lesson needs the core {core}, which cannot run here: {why}.")
                return True
            self._absences(stage)
            player = Player(self.lesson, stage, self.seed)
            if self.interactive and not self.speed:
                self._print(f"At each prompt:\n{KEYS}")
            try:
                while not player.ended:
                    if player.at_stop or player.question:
                        self.reading.at(player)
                    if player.at_stop:
                        self._wait(player)
                    events = self._answer(player) if player.question else player.proceed()
                    self.reading.heard(player, events)
                    for event in events:
                        self._show(event)
            except Stopped:
                return False
        return True

    def _absences(self, stage: AnyStage) -> None:
        for core, reason in stage.snapshot().unavailable:
            words = f"[{core} cannot run here: {reason}. The lesson goes on without it.]"
            self._print(lesson_text.wrap(words))
        if any(machine.core == "trap:portable" for machine in stage.snapshot().machines):
            self._print(lesson_text.wrap(_STAND_IN))

    # Output

    def _show(self, event: Event) -> None:
        if isinstance(event, Begun) and self.recording:
            self.recording.marker(event.title)
        if isinstance(event, Verdict):
            self._votes()
        text = lesson_text.event(event)
        if text:
            self._print(text)
        if isinstance(event, Paused):
            self._sleep(event.seconds)

    def _print(self, text: str) -> None:
        text = clean(text)
        print(text, end="\n\n", flush=True)
        if self.recording:
            self.recording.output(text + "\n\n")
        self._sleep(reading_time(text), recorded=True)

    def _sleep(self, seconds: float, *, recorded: bool = False) -> None:
        if self.recording and not recorded:
            self.recording.wait(seconds)
        if self.speed and self.interactive:
            time.sleep(seconds / self.speed)

    # Input

    def _wait(self, player: Player) -> None:
        """Wait at a stop until the reader wants to go on."""
        if not self.interactive or self.speed:
            return
        while True:
            word, _, rest = self._input("> ").strip().partition(" ")
            match word:
                case "":
                    return
                case "b":
                    if player.back():
                        return
                    print("This is the beginning.")
                case "j":
                    try:
                        player.jump(rest)
                        return
                    except ValueError as error:
                        print(error)
                case "t":
                    self._take_over(player)
                case "?" if rest:
                    print(_explained(rest))
                case _:
                    print(KEYS)

    def _votes(self) -> None:
        """Print what the class has answered."""
        audience = self.reading.audience
        if audience is not None and (votes := audience.votes()) is not None:
            print(bars(votes), end="\n\n")

    def _answer(self, player: Player) -> list[Event]:
        if not self.interactive or self.speed:
            return player.answer(None)
        votes = ", v: the votes so far" if self.reading.audience is not None else ""
        while True:
            word = self._input(f"your prediction (Enter to be shown{votes}) > ").strip()
            if word == "v" and votes:
                self._votes()
                continue
            if word.startswith("?") and len(word) > 1:
                print(_explained(word[1:]))
                continue
            try:
                return player.answer(word or None)
            except ValueError as error:
                print(f"The answer is {error}.")

    def _input(self, prompt: str) -> str:
        try:
            word = input(prompt)
        except EOFError:
            raise Stopped from None
        if word.strip() == "q":
            raise Stopped
        return word

    def _take_over(self, player: Player) -> None:
        """The reader drives; afterwards the machines return to where the lesson left them."""
        print(f"The machines are yours.\n{MACHINE_KEYS}")
        player.take_over()
        session = player.stage.session
        moves: dict[str, Callable[[], object]] = {
            "": session.step,
            "n": session.step,
            "b": session.step_back,
            "e": lambda: session.next_exit(limit=5.0),
        }
        views = {"r": "registers", "c": "code", "d": "dialogue"}
        while (word := self._input("machines > ").strip()) != "l":
            if word in moves:
                moves[word]()
                word = "c"
                if self.reading.audience is not None:
                    self.reading.audience.moved(session.snapshot(), marks=not player.conceals)
            if word in views:
                print("\n".join(lesson_text.view(views[word], session.snapshot())))
            else:
                print(MACHINE_KEYS)
        player.rejoin()


def _explained(word: str) -> str:
    found = glossary.explain(word.strip())
    if found is None:
        return f"The glossary has no {word.strip()!r}. It has: {'; '.join(glossary.terms())}."
    return lesson_text.wrap(f"{found[0]}: {lesson_text.plain(found[1])}", "  ")
