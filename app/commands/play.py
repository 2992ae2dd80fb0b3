"""``ringscope play LESSON``: in the interface, as text, as a recording; or the teacher's notes."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

from app import pace, terminal
from app.main import INTERRUPTED, OK
from app.numbers import decimal
from app.recording.asciicast import KIND, Recording
from app.teacher import second_terminal
from app.text import lesson as lesson_text
from app.text.lesson_player import PlainPlay
from app.text.reports import clean
from cores.atomic_file import replacing
from cores.errors import InputError
from lessons import library
from lessons.format.parser import PLACEHOLDER
from lessons.format.script import Ask, Heading, Lesson, Note

from .options import seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("lesson", metavar="LESSON", help="a name or number of `ringscope lessons`, or a file")
    add("--plain", action="store_true", help="as text; without a terminal it is played to its end")
    add("--speed", type=_speed, default=0.0, metavar="X", help="play by itself, 1 is a reader's speed")
    add("--record", metavar="FILE.cast", help="also record it (asciinema, version 2)")
    add("--overwrite", action="store_true", help="whatever the file of --record has been so far")
    add("--notes", action="store_true", help="the teacher's notes, following another terminal")
    add("--seed", type=seed, metavar="N", help="vary the questions' numbers")


def _speed(text: str) -> float:
    try:
        value = decimal(text)
    except ValueError:
        value = -1
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no speed; 1 is a reader's, 2 twice as fast")
    return value


def run(arguments: argparse.Namespace) -> int:
    if arguments.record is not None and (arguments.notes or not arguments.record.strip()):
        raise InputError(
            "--notes and --record exclude each other"
            if arguments.notes
            else "--record: no file is named"
        )
    lesson = library.find(arguments.lesson)
    if arguments.notes:
        return _notes(lesson)
    in_interface = terminal.is_capable() and not arguments.plain
    if arguments.record is None:
        if in_interface:
            return play(lesson, arguments.seed, arguments.speed)
        return _as_text(lesson, arguments, None)
    if any(_is_same(source, arguments.record) for source in (lesson.path, lesson.setup.guest)):
        raise InputError("the recording would overwrite the lesson", arguments.record)
    with _recording(arguments.record, arguments.overwrite) as file:
        if in_interface and os.name == "posix":
            from app.recording import record_tui

            return record_tui.record(lesson, file, _words(lesson, arguments))
        try:
            return _as_text(lesson, arguments, Recording(file, lesson.title, arguments.speed or 1.0))
        except KeyboardInterrupt:  # what has been played is kept
            return INTERRUPTED


@contextlib.contextmanager
def _recording(path: str, overwrite: bool) -> Iterator[TextIO]:
    """The file of a recording. Raises InputError where it cannot be written."""
    try:
        with replacing(path, KIND, overwrite=overwrite) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
            try:
                yield text
                text.flush()
            finally:
                with contextlib.suppress(OSError):  # told by the flush above
                    text.detach()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"cannot be written: {error.strerror or error}", path) from None


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _as_text(lesson: Lesson, arguments: argparse.Namespace, recording: Recording | None) -> int:
    PlainPlay(
        lesson, interactive=terminal.is_there(), speed=arguments.speed, seed=arguments.seed,
        recording=recording,
    ).run()  # fmt: skip
    return OK


def _words(lesson: Lesson, arguments: argparse.Namespace) -> list[str]:
    """The command line without the options of the recording."""
    words = ["play", os.path.abspath(lesson.path)]
    words += [] if arguments.seed is None else [f"--seed={arguments.seed}"]
    return words + ([f"--speed={arguments.speed}"] if arguments.speed else [])


def play(lesson: Lesson, seed: int | None = None, speed: float = 0.0) -> int:
    """Play a lesson in the interface, or as text where no terminal is there for it."""
    if not terminal.is_capable():
        PlainPlay(lesson, interactive=terminal.is_there(), seed=seed, speed=speed).run()
        return OK
    pace.start_quickly()
    from cores.engines import registry
    from cores.lockstep.options import Options

    with ThreadPoolExecutor(1) as pool:
        pool.submit(registry.probe_hosts, Options().asked)  # while the interface is imported
        from app.tui.app import run_interface

    return run_interface(None, Options(), lesson, seed, speed)


def _notes(lesson: Lesson) -> int:
    """Follow the first terminal, or print all notes where there is none to watch."""
    if not sys.stdout.isatty():
        for number, (index, _) in enumerate(lesson.headings, 1):
            _print_notes(lesson, number, index)
        return OK
    waiting = f"Notes for {lesson.title}. Waiting for `ringscope play` on another terminal ..."
    print(clean(lesson_text.wrap(waiting)), flush=True)
    last = -1
    for place in second_terminal.follow():
        if os.path.realpath(place.path) != os.path.realpath(lesson.path):
            continue
        begun = [(n, i) for n, (i, _) in enumerate(lesson.headings, 1) if i < place.position]
        if begun and begun[-1][0] != last:
            last, index = begun[-1]
            _print_notes(lesson, last, index)
    print("The lesson has ended.")
    return OK


def _print_notes(lesson: Lesson, number: int, index: int) -> None:
    """The notes of one step, its questions with what will be said to them, and the next step's name."""
    heading = lesson.items[index]
    assert isinstance(heading, Heading)
    lines = [f"\n{number}/{len(lesson.headings)}  {heading.title}"]
    for item in lesson.items[index + 1 :]:
        match item:
            case Heading(title=title):
                lines.append(f"  next: {title}")
                break
            case Note(text=text):
                lines.append(lesson_text.wrap(f"  - {_unfilled(text)}", "    "))
            case Ask(question=question, why=why):
                lines.append(lesson_text.wrap(f"  ? {_unfilled(question)}", "    "))
                lines += [lesson_text.wrap(f"    = {_unfilled(why)}", "      ")] if why else []
            case _:
                pass
    print(clean("\n".join(lines)), flush=True)


def _unfilled(text: str) -> str:
    """A text without its values: they are known when the machines have moved."""
    return lesson_text.plain(PLACEHOLDER.sub("...", text))
