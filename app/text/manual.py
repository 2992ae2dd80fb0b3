"""The manual: the commands with their options and examples, as a man page (man(7)) or as text.

All of it comes from the commands themselves: their parsers, and the examples of their --help.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from app.examples import EXAMPLES

SUMMARY = "one guest program on an emulator, on the CPU by trap-and-emulate, and on KVM, side by side"
DESCRIPTION = (
    "Without a command it opens the interface, at home or with a program or lesson. A program is"
    ' assembly (.s, .asm, "-" for standard input), an ELF64 file, a static Linux program, a kernel with'
    " a Multiboot 1 header, a disk (.img), a flat image, or the name of a guest that comes with it."
)
STATUS = (
    ("0", "it ran, and the cores agree"),
    ("1", "the cores diverge, or a lesson's or task's claim does not hold"),
    ("2", "bad usage or bad input: one line says what"),
    ("3", "a core that was asked for cannot run here, or the host stopped it"),
    ("130", "Ctrl-C"),
)
ENVIRONMENT = (
    ("RINGSCOPE_ASSEMBLER", "keystone, gnu or llvm: the assembler; else the first that is installed"),
    ("RINGSCOPE_CONFIG", "the file of the interface's settings"),
    ("RINGSCOPE_DATA", "the folder of what is remembered, such as the progress in the course"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A paragraph below a heading. tag: what it is about, "" for plain text."""

    tag: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """level: 1, or 2 below a section of level 1."""

    level: int
    title: str
    entries: tuple[Entry, ...]


def sections(whole: argparse.ArgumentParser, opening: argparse.ArgumentParser) -> Iterator[Section]:
    """The manual's parts. whole: the parser of all commands. opening: of the interface's options."""
    yield Section(1, "NAME", (Entry("", f"ringscope - {SUMMARY}"),))
    yield Section(
        1,
        "SYNOPSIS",
        (Entry("", "ringscope [PROGRAM | LESSON] [OPTIONS]"), Entry("", "ringscope COMMAND ...")),
    )
    yield Section(1, "DESCRIPTION", (Entry("", DESCRIPTION), *_options(opening)))
    yield Section(1, "COMMANDS", ())
    commands = next(a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        about = f"{(parser.description or '').rstrip('.')}."
        told = (Entry("", about[:1].upper() + about[1:]), Entry("", usage), *_options(parser))
        shown = (Entry(f"ringscope {words}", what) for words, what in EXAMPLES.get(name, ()))
        yield Section(2, name, (*told, *shown))
    yield Section(1, "EXIT STATUS", tuple(Entry(*pair) for pair in STATUS))
    yield Section(1, "ENVIRONMENT", tuple(Entry(*pair) for pair in ENVIRONMENT))


def _options(parser: argparse.ArgumentParser) -> Iterator[Entry]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else formatter._format_args(action, _value(action))
        tag = ", ".join(action.option_strings)
        yield Entry(f"{tag} {value}".strip(), formatter._expand_help(action))


def _value(action: argparse.Action) -> str:
    return action.dest.upper() if action.option_strings else action.dest


def roff(parts: Iterator[Section], version: str) -> str:
    """The manual as a man page."""
    lines = [f'.TH RINGSCOPE 1 "" "Ringscope {version}" "User Commands"']
    for part in parts:
        lines.append(f".S{'H' if part.level == 1 else 'S'} {_escaped(part.title)}")
        for entry in part.entries:
            lines += [".TP", f"\\fB{_escaped(entry.tag)}\\fR"] if entry.tag else [".PP"]
            lines.append(_escaped(entry.text))
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text in which roff finds no command of its own."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def plain(parts: Iterator[Section], width: int) -> str:
    """The manual as text."""
    lines: list[str] = []
    for part in parts:
        lines += ["", part.title if part.level == 1 else f"  {part.title}"]
        for entry in part.entries:
            indent = "    "
            if entry.tag:
                lines.append(indent + entry.tag)
                indent *= 2
            lines += textwrap.wrap(
                " ".join(entry.text.split()), width, initial_indent=indent, subsequent_indent=indent
            )
            if not entry.tag:
                lines.append("")
    return "\n".join(line for line in lines).strip("\n") + "\n"
