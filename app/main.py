"""``ringscope``: finds the command, runs it, and turns every ending into an exit code.

0 it ran and the cores agree, 1 they diverge, 2 bad usage, bad input, or an output that cannot be
written, 3 a core asked for by name cannot run here or the host refused what was needed, 130 Ctrl-C.
Whatever a command needs is imported by the command: ``--help`` waits for no engine.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import errno
import gc
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import NoReturn

from app import terminal

VERSION = "0.1.0"
"""As in pyproject.toml (a test compares); asking importlib.metadata would cost 48 ms."""

NO_THREAD = "can't start new thread"
"""Python's words for it; there is no class of its own."""

OK, DIVERGED, BAD_INPUT, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 130

COMMANDS = {
    "compare": "run a program on each core and say whether they agree",
    "trace": "print each exit of a program on one core, and each instruction",
    "gdb": "let GDB look into all cores at once, and go back in time",
    "heat": "show where a program leaves its guest: lines, functions or addresses",
    "image": "write a bootable disk of a program, for QEMU, Bochs, VirtualBox or a PC",
    "guests": "list the guests that come with it, and how each is run",
    "doctor": "say which cores run on this machine, and why others do not",
    "probe": "try each sensitive instruction at ring 3 on this CPU",
    "lessons": "list the course, and how far you are",
    "play": "play a lesson",
    "check": "hold lessons against the machines here",
    "handout": "write a lesson as one HTML file",
    "classroom": "play a lesson to a class, which follows in its browsers",
    "serve": "the interface in browsers, a session for each visitor",
    "grade": "hold students' programs against a task, with points",
    "lab": "write the hypervisor yourself, in graded steps",
    "new-lesson": "begin a lesson of your own",
    "explain": "say why an instruction is sensitive and what each core does",
    "manual": "all commands and options on one page",
    "completion": "print what makes bash, zsh or fish complete its commands",
    "bench": "measure what everything costs here, each figure beside its baseline",
}
"""Each is a module of app/commands."""

HELP = """\
usage: ringscope [PROGRAM | LESSON] [OPTIONS]
       ringscope COMMAND ...

Runs one guest program on an emulator, on this CPU by trap-and-emulate, and on KVM, side by side.
Without a command it opens the interface: at home, or with PROGRAM (assembly, ELF64 or a flat
image; "-" is assembly from standard input).

commands (ringscope COMMAND --help says more):
{commands}

options:
  -h, --help     this page
  --version      the version
"""


_NEGATIVE = re.compile(r"-\d*\.?\d+$")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of write(2) at a full disk, a full quota, or a limit of the file's size."""

_LONGEST = 1000
"""Characters of a complaint."""


class Parser(argparse.ArgumentParser):
    """argparse, with errors in one line."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(
            prog=f"ringscope {name}".rstrip(), description=summary, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """End with an error at an unknown option, before anything that is missing for want of it."""
        for word in words:
            if word == "--":
                break
            if self._is_unknown(word):
                name = word.partition("=")[0]
                close = difflib.get_close_matches(name, self._option_string_actions, n=1, cutoff=0.7)
                hint = f"; did you mean {close[0]}?" if close else ""
                self.error(f"there is no option {name}{hint}")

    def _is_unknown(self, word: str) -> bool:
        """Would argparse take this word for an unknown option? Not numbers, nor values with blanks."""
        if not word.startswith("-") or " " in word or _NEGATIVE.match(word) or word == "-":
            return False
        known = self._option_string_actions
        return word.partition("=")[0] not in known and not (word[1] != "-" and word[:2] in known)

    def error(self, message: str) -> NoReturn:
        quoted = "''" if message.endswith("unrecognized arguments: ") else ""
        complain(f"{self.prog}: {message}{quoted}")
        raise SystemExit(BAD_INPUT)


def again(*words: str) -> list[str]:
    """The command that starts this very program in a process of its own, from a checkout or installed,
    whatever PYTHONPATH and the working directory hold."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    return [sys.executable, "-P", program, *words]


def complain(message: str) -> None:
    """One line on standard error, whatever characters a file's name or a word has."""
    if len(message) > _LONGEST:  # a name of thousands of letters
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
    with contextlib.suppress(OSError):  # a full disk: the exit code still tells
        print(printable(message), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text as one line: control characters, and bytes that are no UTF-8 (PEP 383), by their numbers."""
    return "".join(map(_printable, text))


def _printable(c: str) -> str:
    if c.isprintable():
        return c
    return (
        f"\\x{ord(c) - 0xDC00:02x}"
        if 0xDC80 <= ord(c) <= 0xDCFF
        else c.encode("unicode_escape").decode()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_what_is_closed()
    atexit.register(gc.freeze)  # looking for garbage once more would take 45 ms
    if isinstance(sys.stdout, io.TextIOWrapper):  # a guest's console on a terminal without its letters
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(words)
        sys.stdout.flush()
    except SystemExit as done:  # argparse's: bad usage
        return done.code if isinstance(done.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        _drop_output()
        return OK
    except OSError as error:
        if error.errno in _NO_ROOM and _output_is_refused():
            complain(f"ringscope: the output cannot be written: {error.strerror}")
            _drop_output()
            return BAD_INPUT
        if isinstance(error, FileNotFoundError) and not error.filename and _is_homeless():
            complain("ringscope: the working directory exists no longer: cd to another first")
            return BAD_INPUT
        file = "" if error.filename is None else f"{error.filename}: "
        complain(f"ringscope: the host refused: {file}{error.strerror or error}")
        _drop_output()
        return UNAVAILABLE
    except MemoryError:
        complain("ringscope: the host has not enough memory")
        return UNAVAILABLE
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        complain("ringscope: the host gives no more threads")
        return UNAVAILABLE
    return code


def _open_what_is_closed() -> None:
    """Standard files that were closed before we began (`>&-`) lead nowhere. Left closed, their numbers
    would be had by the next files opened, and a disk image might be written as if it were stderr."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # the lowest number first
        if getattr(sys, name) is None:
            file = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - for as long as we live
            setattr(sys, name, file)


def _output_is_refused() -> bool:
    """Whether standard output takes nothing more, a line's end for instance."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _is_homeless() -> bool:
    """Has the working directory been removed?"""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Discard buffered output after a broken pipe; Python would else flush it once more at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help", "help"):
        listing = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
        print(HELP.format(commands=listing), end="")
        return OK
    if words and words[0] == "--version":
        print(f"ringscope {VERSION}")
        return OK
    if not words and terminal.is_capable():
        # The first page needs no option, and nothing that reads them.
        code: int = importlib.import_module("app.commands.home").run()
        return code
    if words and words[0] in COMMANDS:
        return _command(words[0], COMMANDS[words[0]], words[1:])
    if words and _mistyped(words[0]):
        return BAD_INPUT
    return _command("", "Open the interface, at home or with a program.", words, module="open")


def _command(name: str, summary: str, words: list[str], module: str = "") -> int:
    from cores.errors import EngineError, InputError, UnavailableError

    gc.disable()  # nothing of what is imported is garbage
    try:
        command = importlib.import_module(f"app.commands.{module or name.replace('-', '_')}")
    finally:
        gc.enable()
    parser = Parser(name, summary)
    try:
        command.add_arguments(parser)
        parser.refuse_unknown(words)
        if any(word in ("-h", "--help") for word in takewhile(lambda word: word != "--", words)):
            parser.epilog = importlib.import_module("app.examples").examples(name)
            print(parser.format_help(), end="")
            return OK
        code: int = command.run(parser.parse_args(words))
    except InputError as error:
        complain(f"{parser.prog}: {error}")
        return BAD_INPUT
    except (UnavailableError, EngineError) as error:
        complain(f"{parser.prog}: {error}")
        return UNAVAILABLE
    return code


def _mistyped(word: str) -> bool:
    """Complain about a word that is no command and cannot be a program either."""
    if word.startswith("-") or "/" in word or "." in word or os.path.exists(word):
        return False
    from app.programs import guest_names
    from lessons.format.numbering import is_lesson

    if word in guest_names() or is_lesson(word):
        return False
    from lessons.library import names as lesson_names

    names = [*COMMANDS, *guest_names(), *lesson_names()]
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    complain(f"ringscope: no command, lesson or program is called {word!r}{hint}")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
