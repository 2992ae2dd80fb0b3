"""Everything that can be done on a screen, by name: its keys, the options of the machines, the colours.

An entry is a row of the palette (screens/palette.py): a group, a name, the key that does the same, and
for a switch whether it is on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from app.tui.options import FIELDS
from app.tui.rows.theme import PALETTES
from app.tui.widgets.keys import bindings

if TYPE_CHECKING:
    from textual.app import App
    from textual.screen import Screen

    from app.tui.options import OptionsController
    from cores.lockstep.options import Options

GROUPS = ("Begin", "Lesson", "Time", "Look", "Change", "Options", "Colours", "Ringscope")
"""In the order in which they are listed."""
OPTIONS = "Options"
STARTS_OVER = "Options: the machines start over"
"""The title of that group."""

_BY_ACTION = {"time": "Time", "look": "Look", "state": "Change", "edit": "Change"}
_LESSON = {"proceed", "lesson_back", "jump", "autoplay"}
_OURS = {"help", "glossary", "quit", "home", "save_picture", "close", "leave"}
_BEGIN = {"begin", "open", "create", "find", "lab"}

KEY_NAMES = {
    "plus": "+", "equals_sign": "=", "minus": "-", "question_mark": "?", "shift+e": "E", "slash": "/",
    "escape": "Esc", "enter": "Enter", "pageup": "Page up", "pagedown": "Page down", "home": "Home",
    "end": "End", "backspace": "Backspace",
}  # fmt: skip
"""Keys as people call them, where Textual does not."""

COLOURS = {
    "ringscope-night": "Dark", "ringscope-day": "Light", "ringscope-contrast": "High contrast",
}  # fmt: skip
CORES = ("interpreter", "trap", "kvm")


@dataclass(frozen=True, slots=True)
class Entry:
    """keys: as shown at its end. on: of a switch; None for what is no switch. value: of an option."""

    group: str
    title: str
    run: Callable[[], None]
    keys: str = ""
    on: bool | None = None
    value: str = ""


def entries(app: App[int], screen: Screen[object], options: OptionsController | None) -> list[Entry]:
    """All entries for a screen, by group. options: None during a lesson, which has its own."""
    found = [*_keys(app, screen), *_options(options), *_colours(app)]
    return sorted(found, key=lambda entry: GROUPS.index(entry.group))


def _keys(app: App[int], screen: Screen[object]) -> Iterator[Entry]:
    named: set[str] = set()
    for binding in (*bindings(type(screen)), *bindings(type(app))):
        if not binding.description or binding.description in named or binding.action == "close":
            continue
        named.add(binding.description)
        keys = " or ".join(dict.fromkeys(map(key_name, binding.key.split(","))))
        group = _group(binding.action)
        yield Entry(group, binding.description, _runner(screen, binding.action), keys)


def _group(action: str) -> str:
    name = action.partition("(")[0].removeprefix("app.")
    if name in _BY_ACTION:
        return _BY_ACTION[name]
    if name in _LESSON:
        return "Lesson"
    if name in _BEGIN:
        return "Begin"
    return "Ringscope" if name in _OURS else "Look"


def key_name(key: str) -> str:
    return KEY_NAMES.get(key, key.upper() if key[:1] == "f" and key[1:].isdigit() else key)


def _runner(screen: Screen[object], action: str) -> Callable[[], None]:
    def run() -> None:
        screen.call_later(screen.run_action, action)

    return run


def _colours(app: App[int]) -> Iterator[Entry]:
    for name in PALETTES:

        def choose(name: str = name) -> None:
            app.theme = name

        yield Entry("Colours", COLOURS[name], choose, on=app.theme == name)


def _options(options: OptionsController | None) -> Iterator[Entry]:
    """The options of the command line that a session has, as switches."""
    now = None if options is None else options.now
    if options is None or now is None:
        return

    def change(to: Options) -> Callable[[], None]:
        return partial(options.change, to)

    pure = "--pure: textbook trap and emulate, what does not trap runs"
    yield Entry(OPTIONS, pure, change(replace(now, pure=not now.pure)), on=now.pure)
    slow = "--slow: no short ways in free mode"
    yield Entry(OPTIONS, slow, change(replace(now, slow=not now.slow)), on=now.slow)
    poll = "--poll: virtio devices look into their queues, unasked"
    yield Entry(OPTIONS, poll, change(replace(now, poll=not now.poll)), on=now.poll)
    given = "screen" in now.give
    give = change(replace(now, give=() if given else ("screen",)))
    yield Entry(OPTIONS, "--give screen: the guest has its memory, in free mode", give, on=given)
    for core in CORES:
        cores = _toggled(now, core)
        if cores:
            title = f"--cores: a machine with the core {core}"
            yield Entry(OPTIONS, title, change(replace(now, cores=cores)), on=core in _families(now))
    if options.format == "elf" or now.start.linux:
        take = "--linux: take the program for a static one for Linux"
        yield Entry(OPTIONS, take, options.take_for_linux, on=now.start.linux)
    for boot, words in (("disk", "a disk image, from its first sector"), ("rom", "a ROM")):
        on = now.start.boot == boot
        start = change(replace(now, start=replace(now.start, boot="" if on else boot)))
        yield Entry(OPTIONS, f"--boot {boot}: {words}", start, on=on)
    if now.disks and len(now.asked) == 1:
        on = now.disk_write
        words = "--disk-write: what the guest writes reaches the image"
        yield Entry(OPTIONS, words, change(replace(now, disk_write=not on)), on=on)
    for field in FIELDS:
        if field.formats != ("linux",) or field.fits(options.format):
            title = f"{field.flag}: {field.words}"
            value = field.shown(now) or field.empty
            yield Entry(OPTIONS, title, partial(options.ask, field), value=value)


def _families(options: Options) -> tuple[str, ...]:
    """The cores asked for, without their variants: "trap" for "trap:native"."""
    return tuple(core.partition(":")[0] for core in options.asked)


def _toggled(options: Options, core: str) -> tuple[str, ...]:
    """The cores with this one added, or taken away; () where none would be left."""
    if core in _families(options):
        return tuple(name for name in options.asked if name.partition(":")[0] != core)
    return tuple(sorted((*options.asked, core), key=lambda name: CORES.index(name.partition(":")[0])))
