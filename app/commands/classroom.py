"""``ringscope classroom LESSON``: a lesson in the teacher's terminal, and a page that follows it."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from app import pace, terminal
from app.main import OK, printable
from app.numbers import whole
from app.text.lesson_player import PlainPlay
from app.web import extra
from cores.atomic_file import Kind, replacing
from cores.errors import InputError
from cores.plural import counted
from lessons import library
from lessons.format.script import Lesson

from .options import seed

if TYPE_CHECKING:
    from app.web.classroom import Class

_ANSWERS = Kind("answers of a class (CSV)", lambda head: head.startswith(b"question,step,text,"))
LISTEN = "127.0.0.1:8765"
NEW_LINE = "\r\n"
ALONE = "This computer alone reaches that. For its network: --listen 0.0.0.0:8765"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("lesson", metavar="LESSON", help="a name or number of `ringscope lessons`, or a file")
    add_listen_option(parser)
    add("--most", type=_followers, default=200, metavar="N", help="followers at a time (200)")
    add("--answers", metavar="FILE.csv", help="write what the class has answered")
    add("--overwrite", action="store_true", help="whatever the file of --answers has been so far")
    add("--plain", action="store_true", help="the lesson as text in this terminal")
    add("--seed", type=seed, metavar="N", help="vary the questions' numbers")


def add_listen_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", default=LISTEN, metavar="ADDRESS:PORT",
        help=f"where the server listens ({LISTEN}: this computer alone; 0.0.0.0:8765: its network)",
    )  # fmt: skip


def _followers(text: str) -> int:
    try:
        number = whole(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no number from 1 to 1000")
    return number


def run(arguments: argparse.Namespace) -> int:
    extra.demand()
    if arguments.answers is not None and not arguments.answers.strip():
        raise InputError("--answers: no file is named")
    lesson = library.find(arguments.lesson)
    if not terminal.is_there():
        raise InputError("the teacher's keys need a terminal, and there is none here")
    from app.listening import listen
    from app.web.classroom import Class

    try:
        where = listen(arguments.listen)
    except ValueError as error:
        raise InputError(f"--listen: {error}") from None
    _save(arguments, "")  # a mistake is said before the class is there
    everyone = Class(lesson, where, arguments.most)
    everyone.revealed = lambda: _keep(arguments, everyone)
    try:
        _invite(everyone, where.is_loopback)
        return _play(lesson, arguments, everyone)
    finally:
        table = everyone.table()
        everyone.close()
        _save(arguments, table)
        if arguments.answers is not None:
            print(f"{printable(arguments.answers)}: {counted(table.count(NEW_LINE) - 1, 'answer')}")


def _invite(everyone: Class, alone: bool) -> None:
    """Show the address, and wait until the teacher begins."""
    import segno

    segno.make(everyone.address, error="m").terminal(compact=True)
    print(f"The class opens  {everyone.address}\n")
    if alone:
        print(f"{ALONE}\n")
    try:
        input("Enter begins the lesson > ")
    except EOFError:
        return
    print(f"{everyone.following} follow.\n")


def _play(lesson: Lesson, arguments: argparse.Namespace, everyone: Class) -> int:
    if arguments.plain or not terminal.is_capable():
        PlainPlay(lesson, interactive=True, seed=arguments.seed, audience=everyone).run()
        return OK
    pace.start_quickly()
    from app.tui.app import run_interface
    from cores.lockstep.options import Options

    return run_interface(None, Options(), lesson, arguments.seed, audience=everyone)


def _keep(arguments: argparse.Namespace, everyone: Class) -> None:
    """Save the answers so far; where that fails the end says so."""
    with contextlib.suppress(InputError):
        _save(arguments, everyone.table())


def _save(arguments: argparse.Namespace, table: str) -> None:
    if arguments.answers is None:
        return
    try:
        with replacing(arguments.answers, _ANSWERS, overwrite=arguments.overwrite) as file:
            file.write((table or "question,step,text,\r\n").encode())
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", arguments.answers) from None
