"""Programs as the user names them: a path, or a guest that comes with Ringscope."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cores.errors import InputError
from cores.lockstep.options import Options
from cores.pc.network import spec
from cores.programs.loader import load_program
from cores.programs.program import PLAIN, Program, StartOptions
from cores.programs.shipped import description, programs

FIRST = "hello"
"""The guest that is shown when nothing is asked for."""


def guest_names() -> list[str]:
    return [guest.stem for guest in programs()]


def path_of(name: str) -> str:
    """The path of what is run: a shipped guest's name becomes its path, unless there is a file of that
    name."""
    guest = _shipped(name)
    return name if guest is None else str(guest)


def load(name: str, ram: int | None, options: StartOptions = PLAIN) -> Program:
    """Read a program; see ``load_program``. A shipped guest that was named is called by that name, in
    errors as well: where it is installed is no concern of the user's. Raises InputError."""
    guest = _shipped(name)
    if guest is None:
        return load_program(name, ram, options=options)
    try:
        return replace(load_program(str(guest), ram, options=options), path=name)
    except InputError as error:
        raise InputError(error.reason, name, error.line) from None


def disks_of(name: str | None, given: Sequence[str]) -> tuple[str, ...]:
    """The disks of a program: those that the user gives; else, of a shipped guest that is called by its
    name, the one that it needs."""
    guest = _shipped(name) if name and not given else None
    own = description(guest).disk if guest else ""
    return (own,) if own else tuple(given)


def equipped(options: Options, name: str | None) -> Options:
    """The options with the networks and virtio devices that a shipped guest needs, where the user has
    given none. name: as the user calls it, or its whole path."""
    guest = _shipped(name) if name else None
    if guest is None and name and os.path.isabs(name):
        guest = next((one for one in programs() if one == Path(name)), None)
    if guest is None or options.nets or options.virtio:
        return options
    needs = description(guest)
    other = load(needs.other, None) if needs.other else options.other
    nets = tuple(map(spec.parse, needs.nets))
    return replace(options, nets=nets, virtio=needs.virtio, other=other)


def _shipped(name: str) -> Path | None:
    if os.path.lexists(name):
        return None
    return next((guest for guest in programs() if guest.stem == name), None)
