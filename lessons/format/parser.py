"""From a lesson's text to a ``Lesson``. Every mistake is an InputError with file and line.

    +++                     front matter, TOML
    title = "..."
    +++
    ## A named step         a heading of the second level
    A paragraph.            Markdown, with {trap.exits} filled in

    ```run                  a block: its kind, then TOML
    exit = "io"
    ```

Fences of other kinds (```asm, or none) are text. docs/lessons.md describes all of it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cores.engines.registry import ACCEPTED_NAMES
from cores.errors import InputError
from cores.lockstep.options import DEFAULT_CORES, GIVABLE
from cores.pc.network import spec
from cores.pc.platform import DEFAULT_RAM, LARGEST_RAM, MIB, SMALLEST_RAM
from cores.programs.shipped import ASSETS, description, programs
from lessons.format import source_quotes
from lessons.format.expressions import (
    CORE_NAMES,
    LARGEST,
    REASONS,
    Expression,
    ExpressionError,
    parse,
)
from lessons.format.script import (
    FOCUSES,
    VIEWS,
    Ask,
    Choice,
    Claim,
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
    Setup,
    Show,
    Text,
    Until,
    Wrong,
)
from lessons.format.toml_table import Table

PLACEHOLDER = re.compile(r"\{([^{}\n]+?)(?::(d|w|[a-z ]+\|[a-z ]+))?\}")
"""A value in a paragraph: {expression}, {expression:d} for a register in decimal, {expression:w} for a
number in words, {expression:exit|exits} for a count with its noun."""
TERM = re.compile(r"(?<![\w`])_([^_\n`]+)_(?![\w`])")
"""A word of the glossary where it is first used: _world switch_."""
LONGEST = 1 << 20
LONGEST_RUN = 20.0
"""Seconds of a free run."""
PICTURES = (".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp")
_LINE_END = re.compile(r"\r?\n|\r")


def parse_file(path: str) -> Lesson:
    """Read a lesson. Raises InputError."""
    return parse_text(read_text(path), path)


def read_text(path: str) -> str:
    """The text of a lesson's file. Raises InputError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for, a device never ends
            raise InputError("not a file", path)
        with open(path, "rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise InputError(f"too long for a lesson: {LONGEST >> 20} MiB at most", path)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(error.strerror or str(error), path) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("not text: a lesson is UTF-8", path, line) from None


def parse_text(text: str, path: str) -> Lesson:
    """Parse a lesson's text; ``path`` for messages, and for the guests beside it."""
    lines = split_lines(text)
    front, body = front_matter(lines, path)
    stem = os.path.splitext(os.path.basename(path))[0]
    number, _, name = stem.partition("-") if stem[:1].isdecimal() else ("0", "", stem)
    title, summary = front.string("title"), front.string("summary")
    minutes = front.integer("minutes", 1, 60)
    setup = read_setup(front, None)
    needs = front.strings("needs", ())
    for core in needs:
        if core not in CORE_NAMES:
            raise front.error("needs", f"no core is called {core!r}; there are {', '.join(CORE_NAMES)}")
    vary = varied(front)
    front.finish()
    items = parse_body(lines, body, path, setup, _BLOCKS)
    _titles_differ(items, path)
    if not any(isinstance(item, Heading) for item in items):
        raise InputError("a lesson needs a step: a heading such as '## The first step'", path, body + 1)
    return Lesson(
        path, name or stem, int(number) if number.isdecimal() else 0, title, summary, minutes, setup,
        needs, items, vary,
    )  # fmt: skip


def split_lines(text: str) -> list[str]:
    """str.splitlines knows more ends of lines than any editor."""
    return _LINE_END.split(text)


def _titles_differ(items: tuple[Item, ...], path: str) -> None:
    """Readers jump to a step by its title."""
    known: dict[str, int] = {}
    for item in items:
        if isinstance(item, Heading):
            before = known.setdefault(item.title.casefold(), item.line)
            if before != item.line:
                raise InputError(
                    f"a step is called {item.title!r} already, in line {before}", path, item.line
                )


def front_matter(lines: list[str], path: str) -> tuple[Table, int]:
    """The head's table, and the index of the line after it. Raises InputError."""
    if not lines or lines[0].strip() != "+++":
        raise InputError("a lesson begins with its front matter, between two lines of +++", path, 1)
    for end in range(1, len(lines)):
        if lines[end].strip() == "+++":
            return Table.parse(lines[1:end], path, 1), end + 1
    raise InputError("the front matter's second +++ is missing", path, 1)


def varied(front: Table) -> dict[str, tuple[int, ...]]:
    """The numbers from which a seed chooses."""
    vary: dict[str, tuple[int, ...]] = {}
    for name, values in front.table("vary").items():
        if not isinstance(values, list) or not values or not all(map(_is_number, values)):
            raise front.error(name, f"vary.{name} is a list of whole numbers to choose from")
        vary[name] = tuple(values)
    return vary


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) <= LARGEST


def read_setup(table: Table, default: Setup | None) -> Setup:
    """Guest, cores and options; what a block does not say is as in the front matter."""
    guest = table.string("guest", None if default is None else "")
    cores = table.strings("cores", DEFAULT_CORES if default is None else default.cores)
    for core in cores:
        if core not in ACCEPTED_NAMES:
            known = ", ".join(ACCEPTED_NAMES)
            raise table.error("cores", f"no core is called {core!r}; there are {known}")
    disk = table.string("disk", "")
    ram = table.integer("ram", SMALLEST_RAM, LARGEST_RAM, DEFAULT_RAM)
    if ram % (2 * MIB):
        raise table.error("ram", "ram is a multiple of 2 MiB (0x200000)")
    path = _guest(table, guest) if guest or default is None else default.guest
    nets, virtio = _network(table, path)
    return Setup(
        guest=path,
        cores=cores,
        pure=table.boolean("pure"),
        disk=_disk(table, disk) if disk else (default.disk if default else None),
        input=table.string("input", ""),
        ram=ram,
        nets=nets,
        virtio=virtio,
        poll=table.boolean("poll"),
        give=_given(table),
    )


def _given(table: Table) -> tuple[str, ...]:
    """Devices whose memory the guest has itself in free mode."""
    give = table.strings("give", ())
    for device in give:
        if device not in GIVABLE:
            known = ", ".join(GIVABLE)
            raise table.error("give", f"{device!r} cannot be given to a guest; there is {known}")
    return give


def _network(table: Table, guest: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Networks and virtio devices: those that the block names, else those that a shipped guest needs. A
    lesson's network reads and writes no file."""
    nets, virtio = table.strings("net", ()), table.strings("virtio", ())
    for net in nets:
        try:
            found = spec.parse(net)
        except InputError as error:
            raise table.error("net", str(error)) from None
        if found.mode not in ("user", "ping") or found.pcap:
            raise table.error("net", "a lesson's network is user or ping, and is not recorded")
    if not nets and not virtio and (shipped := next((p for p in programs() if str(p) == guest), None)):
        needs = description(shipped)
        return needs.nets, needs.virtio
    return nets, virtio


def _beside(table: Table, name: str) -> Path | None:
    """A file in the lesson's directory or below; a lesson reaches no other file of its reader's."""
    directory = Path(table.path).resolve().parent
    try:
        file = directory / name
        return file if file.is_file() and file.resolve().is_relative_to(directory) else None
    except (OSError, ValueError):  # no name that a file could have
        return None


def _guest(table: Table, name: str) -> str:
    beside = _beside(table, name)
    shipped = [guest for guest in programs() if name in (guest.stem, guest.name)]
    if beside is None and not shipped:
        raise table.error("guest", f"no guest {name!r}: neither shipped nor a file beside the lesson")
    return str(beside or shipped[0])


def _disk(table: Table, name: str) -> str:
    shipped = [disk for disk in (ASSETS / "disks").iterdir() if disk.name == name]
    found = _beside(table, name) or next(iter(shipped), None)
    if found is not None:
        return str(found)
    raise table.error("disk", f"no disk {name!r}: neither beside the lesson nor a shipped one")


T = TypeVar("T")
Block = Callable[[Table, Setup], T]


def parse_body(
    lines: list[str], begin: int, path: str, setup: Setup, blocks: Mapping[str, Block[T]]
) -> tuple[T | Heading | Text, ...]:
    """Headings, paragraphs and blocks, in order. blocks: kind -> how it is read. Raises InputError."""
    items: list[T | Heading | Text] = []
    paragraph: list[str] = []
    at = begin

    def end_paragraph(before: int) -> None:
        if paragraph:
            items.append(_text(paragraph, path, before - len(paragraph) + 1))
            paragraph.clear()

    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            kind, end = line[3:].strip(), _fence_end(lines, at, path, blocks)
            if kind in blocks:
                end_paragraph(at)
                table = Table.parse(lines[at + 1 : end], path, at + 1)
                items.append(blocks[kind](table, setup))
                table.finish()
            elif _looks_like_block(kind):
                known = ", ".join(blocks)
                raise InputError(f"no block is called {kind!r}; there are {known}", path, at + 1)
            else:
                paragraph += lines[at : end + 1]
            at = end + 1
            continue
        if line.startswith("## "):
            end_paragraph(at)
            items.append(Heading(at + 1, line[3:].strip()))
        elif line.strip():
            paragraph.append(line)
        else:
            end_paragraph(at)
        at += 1
    end_paragraph(at)
    return tuple(items)


def _fence_end(lines: list[str], at: int, path: str, blocks: Mapping[str, Block[T]]) -> int:
    kind = lines[at][3:].strip()
    for end in range(at + 1, len(lines)):
        line = lines[end]
        if line.strip() == "```":
            return end
        if kind in blocks and line.startswith(("```", "## ")):
            break
    raise InputError(f"this block is never closed: ``` is missing after ```{kind}", path, at + 1)


LANGUAGES = frozenset({"", "asm", "text", "python", "console", "c", "sh"})


def _looks_like_block(kind: str) -> bool:
    return kind not in LANGUAGES


def words(table: Table, key: str, default: str | None = None) -> str:
    """A text with values to fill in."""
    text = table.string(key, default)
    for found in PLACEHOLDER.finditer(text):
        try:
            parse(found.group(1))
        except ExpressionError as error:
            raise table.error(key, str(error)) from None
    return text


def _text(paragraph: list[str], path: str, line: int) -> Text:
    """A paragraph; its placeholders are parsed here, so that a mistake has its line."""
    if not paragraph[0].startswith("```"):
        for offset, line_text in enumerate(paragraph):
            for found in PLACEHOLDER.finditer(line_text):
                try:
                    parse(found.group(1))
                except ExpressionError as error:
                    raise InputError(str(error), path, line + offset) from None
    return Text(line, "\n".join(paragraph))


# The blocks


def _run(table: Table, setup: Setup) -> Move:
    """run: exactly one of exit, symbol, instructions, output, end, seconds; and times, limit."""
    steps = (Until.STEP, Until.BACK)
    return _move(table, [u for u in Until if u not in steps and table.has(u.value)])


def _move(table: Table, kinds: Sequence[Until]) -> Move:
    if len(kinds) != 1:
        raise table.error(
            "", "say where to stop with one of exit, symbol, instructions, output, end, seconds"
        )
    until, text, times, seconds = kinds[0], "", None, 0.0
    match until:
        case Until.EXIT:
            text = table.string("exit")
            if text not in ("any", *REASONS):
                known = ", ".join(sorted(REASONS))
                raise table.error("exit", f'no exit reason {text!r}; "any", or {known}')
            text = "" if text == "any" else text
        case Until.INSTRUCTIONS | Until.STEP | Until.BACK:
            times = table.expression(until.value)
        case Until.END:
            if not table.boolean("end"):
                raise table.error("end", "write end = true")
        case Until.SYMBOL | Until.OUTPUT:
            text = table.string(until.value)
        case Until.SECONDS:
            seconds = table.number("seconds", LONGEST_RUN, 1.0)
            if not seconds:
                raise table.error("seconds", f"seconds is a number up to {LONGEST_RUN:g}, and not 0")
    if times is None and table.has("times"):
        times = table.expression("times")
    limit = table.integer("limit", 1, 100_000_000, 1_000_000)
    free = table.boolean("free")
    if free and until not in (Until.END, Until.SECONDS):
        raise table.error(
            "free", "a free run ends with the guest or after seconds: nothing is counted on the way"
        )
    if until is Until.SECONDS and not free:
        raise table.error("seconds", "write free = true, too: only a free run is timed")
    return Move(table.line, until, text, times, limit, free, seconds)


def _step(table: Table, setup: Setup) -> Move:
    return Move(table.line, Until.STEP, times=table.expression("times") if table.has("times") else None)


def _back(table: Table, setup: Setup) -> Move:
    return Move(table.line, Until.BACK, times=table.expression("times") if table.has("times") else None)


def _then(table: Table, setup: Setup) -> Move | None:
    if not table.has("then"):
        return None
    inner = table.inner("then")
    kinds = [until for until in Until if inner.has(until.value)]
    move = _move(inner, kinds)
    inner.finish()
    return move


def _ask(table: Table, setup: Setup) -> Ask:
    question = words(table, "question")
    then = _then(table, setup)
    choices = []
    for inner in table.tables("choice"):
        choice = Choice(inner.line, words(inner, "text"), _when(inner), words(inner, "why", ""))
        inner.finish()
        choices.append(choice)
    number = table.expression("number") if table.has("number") else None
    if (number is None) == (not choices):
        raise table.error("", 'an ask needs either number = "..." or two or more [[choice]]')
    if number is not None and not number.is_about_machines:
        raise table.error(
            "number", f"{number.text} is known beforehand; a machine answers, such as new.trap.exits"
        )
    if choices and not 2 <= len(choices) <= 6:
        raise table.error("choice", "from two to six choices")
    wrong = []
    for inner in table.tables("wrong"):
        wrong.append(Wrong(inner.expression("when"), words(inner, "why")))
        inner.finish()
    return Ask(
        table.line, question, then, tuple(choices), number, tuple(wrong), words(table, "why", "")
    )


def _when(table: Table) -> Expression:
    """The condition of a choice: what the machines do, or plainly true or false."""
    when = table.expression("when")
    if not when.is_about_machines and when.text not in ("true", "false"):
        raise table.error(
            "when", f"{when.text} is known beforehand; write true or false where no machine answers"
        )
    return when


def _expect(table: Table, setup: Setup) -> Expect:
    return Expect(table.line, read_claims(table))


def read_claims(table: Table) -> tuple[Claim, ...]:
    """The expressions of ``that``."""
    claims = []
    for text, line in table.lines_of("that"):
        try:
            claims.append(Claim(line, text, parse(text)))
        except ExpressionError as error:
            raise InputError(str(error), table.path, line) from None
    return tuple(claims)


def _focus(table: Table, setup: Setup) -> Focus:
    kinds = [kind for kind in FOCUSES if table.has(kind)]
    if len(kinds) != 1:
        raise table.error("", f"say what to look at with one of {', '.join(FOCUSES)}")
    if kinds[0] == "line":
        return Focus(table.line, "line", str(table.integer("line", 1, 1_000_000)))
    return Focus(table.line, kinds[0], table.scalar(kinds[0]))


def _show(table: Table, setup: Setup) -> Show:
    view, core = table.string("view"), table.string("core", "")
    if view not in VIEWS:
        raise table.error("view", f"no view is called {view!r}; there are {', '.join(VIEWS)}")
    if core and core not in CORE_NAMES:
        raise table.error("core", f"no core is called {core!r}; there are {', '.join(CORE_NAMES)}")
    address = table.expression("address") if table.has("address") else None
    if address is None and view in ("pages", "memory"):
        raise table.error("view", f"{view} needs an address")
    return Show(table.line, view, core, address)


def _say(table: Table, setup: Setup) -> Text:
    """say: a paragraph for those hosts and moments of which ``when`` is true."""
    when = table.expression("when")
    return Text(table.line, words(table, "text").strip(), when)


def _note(table: Table, setup: Setup) -> Note:
    return Note(table.line, words(table, "text").strip())


def _pause(table: Table, setup: Setup) -> Pause:
    return Pause(table.line, table.number("seconds", 60.0, 2.0))


def _load(table: Table, setup: Setup) -> Load:
    return Load(table.line, read_setup(table, setup))


def _quote(table: Table, setup: Setup) -> Quote:
    file = table.string("file")
    tag, name = table.string("tag", ""), table.string("object", "")
    if bool(tag) == bool(name):
        raise table.error("file", 'quote either an object = "Class.function" or a tag = "name"')
    try:
        code = source_quotes.tagged(file, tag) if tag else source_quotes.definition(file, name)
    except source_quotes.NotThere as error:
        raise table.error("tag" if tag else "object", str(error)) from None
    look = words(table, "look", "").strip()
    for word in re.findall(r"`([^`]+)`", look):
        if word not in code:
            raise table.error("look", f"{word!r} does not stand in {file}: {tag or name}")
    return Quote(table.line, f"{file}: {tag or name}", code, look)


def _image(table: Table, setup: Setup) -> Image:
    name = table.string("file")
    file = _beside(table, name)
    if file is None:
        raise table.error("file", f"no picture {name!r} beside the lesson")
    if file.suffix.lower() not in PICTURES:
        raise table.error("file", f"a picture is one of {', '.join(PICTURES)}")
    return Image(table.line, str(file), words(table, "alt").strip())


_BLOCKS: dict[str, Block[Item]] = {
    "run": _run, "step": _step, "back": _back, "focus": _focus, "show": _show, "ask": _ask,
    "expect": _expect, "say": _say, "note": _note, "pause": _pause, "load": _load, "quote": _quote,
    "image": _image,
}  # fmt: skip
