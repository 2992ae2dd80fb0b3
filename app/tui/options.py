"""The options of the machines, changed in the interface: those of the command line (--pure and so on).

``FIELDS`` are those whose value is typed: in the palette, or beside a program's name as it is opened. A
program that is on starts over with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from textual.app import App

from app import option_values
from cores.errors import InputError
from cores.pc.network import spec

from .screens.ask import Ask

if TYPE_CHECKING:
    from cores.lockstep.options import Options

STARTS_OVER = "The machines start over."


@dataclass(frozen=True, slots=True)
class Field:
    """An option with a value. words: what it is. example: of a value. empty: what holds where nothing
    is typed. shown: the present value, as it would be typed. read: the options with another value;
    raises InputError. formats: the kinds of program that take it (see ``Program``), () for all."""

    flag: str
    words: str
    example: str
    empty: str
    shown: Callable[[Options], str]
    read: Callable[[Options, str], Options]
    formats: tuple[str, ...] = ()

    def fits(self, format: str) -> bool:
        return not self.formats or format in self.formats


def _ram(options: Options, text: str) -> Options:
    value = text + "M" if text.isdecimal() and len(text) < 5 else text
    return replace(options, ram=option_values.ram(value) if text else None)


def _append(options: Options, text: str) -> Options:
    return replace(options, start=replace(options.start, append=text.encode()))


def _modules(options: Options, text: str) -> Options:
    return replace(options, start=replace(options.start, modules=_parts(text)))


def _files(options: Options, text: str) -> Options:
    return replace(options, start=replace(options.start, files=text))


def _linux(options: Options, text: str) -> Options:
    if text not in ("", "no", "yes"):
        raise InputError("write yes or no")
    return replace(options, start=replace(options.start, linux=text == "yes"))


def _boot(options: Options, text: str) -> Options:
    if text not in ("", "disk", "rom"):
        raise InputError("write disk or rom, or nothing")
    return replace(options, start=replace(options.start, boot=text))


def _disks(options: Options, text: str) -> Options:
    disks = _parts(text)
    if option_values.too_many(disks):
        raise InputError(f"the PC has room for {option_values.MOST_DISKS} disks")
    return replace(options, disks=disks, disk_write=options.disk_write and disks == options.disks)


def _input(options: Options, text: str) -> Options:
    return replace(options, input=option_values.typed(text))


def _clock(options: Options, text: str) -> Options:
    return replace(options, clock=option_values.clock(text) if text else 0)


def _nets(options: Options, text: str) -> Options:
    nets = tuple(map(spec.parse, _parts(text, ";")))
    if len(nets) > spec.MOST_NETWORKS:
        raise InputError(f"the PC has room for {spec.MOST_NETWORKS} cards")
    return replace(options, nets=nets)


def _other(options: Options, text: str) -> Options:
    if text and not any(net.mode == "hub" for net in options.nets):
        raise InputError("it needs a cable to the other machine: --net hub")
    from app.programs import load  # with the assembler

    return replace(options, other=load(text, None) if text else None)


def _virtio(options: Options, text: str) -> Options:
    return replace(options, virtio=option_values.virtio(text) if text else ())


def _devices(options: Options, text: str) -> Options:
    return replace(options, devices=_parts(text))


def _parts(text: str, between: str = ",") -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(between) if part.strip())


LINUX = Field(
    "--linux", "a program for Linux", "yes", "as the file says",
    lambda options: "yes" if options.start.linux else "", _linux, ("elf", "linux"),
)  # fmt: skip
BOOT = Field(
    "--boot", "a boot disk, or a ROM", "disk or rom", "as the file says",
    lambda options: options.start.boot, _boot, ("flat", "disk", "rom"),
)  # fmt: skip
FIELDS = (
    Field("--append", "the program's command line", "its arguments", "none",
        lambda options: options.start.append.decode("latin-1"), _append,
        ("multiboot", "linux", "solo5")),
    Field("--module", "modules of the kernel", "FILE ARGS, FILE ARGS", "none",
        lambda options: ", ".join(options.start.modules), _modules, ("multiboot",)),
    Field("--files", "the folder that it may read", "a folder's name", "none",
        lambda options: options.start.files, _files, ("linux",)),
    Field("--ram", "memory", "32M", "as the program has it",
        lambda options: f"{options.ram >> 20}M" if options.ram else "", _ram),
    Field("--disk", "one disk image, or two", "FILE, FILE",
        "the program's own", lambda options: ", ".join(options.disks), _disks),
    Field("--input", "typed at the start", "ls\\n: \\n is Enter", "nothing",
        lambda options: option_values.typed_text(options.input), _input),
    Field("--clock", "its time at the start", "2026-01-01", "2000-01-01",
        lambda options: option_values.clock_text(options.clock) if options.clock else "", _clock),
    Field("--net", "a network for the guest", "user; hub", "none",
        lambda options: "; ".join(map(str, options.nets)), _nets),
    Field("--with", "the other machine on the hub", "a program's name", "none",
        lambda options: options.other.path if options.other else "", _other),
    Field("--virtio", "its virtio devices", ",".join(option_values.VIRTIO), "none",
        lambda options: ",".join(options.virtio), _virtio),
    Field("--device", "your own, in Python", "FILE.py, FILE.py", "none",
        lambda options: ", ".join(options.devices), _devices),
)  # fmt: skip
"""In the order in which they are listed."""


class OptionsController:
    """now: the options of the programs that are opened; None where they cannot be chosen. start_over:
    starts the program that is on once more, with what they are then. format, recognized: of the program
    that was opened last (see ``Program``), "" before the first."""

    def __init__(self, app: App[int], start_over: Callable[[], bool]) -> None:
        self._app, self._start_over = app, start_over
        self.now: Options | None = None
        self.format = self.recognized = ""

    def change(self, options: Options) -> None:
        """Other options from now on; where the program does not start with them, those of before."""
        before, self.now = self.now, options
        if not self._start_over():
            self.now = before

    def ask(self, field: Field) -> None:
        """Let the user type another value for the option."""
        assert self.now is not None
        question = f"{field.flag}: {field.words}"
        hint = f"{STARTS_OVER} Nothing typed: {field.empty}."
        asked = Ask(question, field.example, field.shown(self.now), hint)
        self._app.push_screen(asked, partial(self._answered, field))

    def _answered(self, field: Field, text: str | None) -> None:
        if text is None or self.now is None:
            return
        try:
            options = field.read(self.now, text.strip())
        except InputError as error:
            self._app.notify(f"{field.flag}: {error}", severity="warning", markup=False)
        else:
            self.change(options)

    def take_for_linux(self) -> None:
        """The program is one for Linux, or is no longer taken for one."""
        assert self.now is not None
        start = self.now.start
        start = replace(start, linux=not start.linux, files="" if start.linux else start.files)
        self.change(replace(self.now, start=start))
