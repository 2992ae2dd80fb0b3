"""A program's session is begun: what the file is, and what makes its machines."""

from __future__ import annotations

from dataclasses import dataclass

from app.programs import equipped, load
from app.session_thread import Opener, Worker
from cores.debugging.saved_session import is_saved, reopen
from cores.lockstep.options import Options
from cores.pc.devices.storage.disk import Disk
from cores.programs.solo5 import named_disk
from cores.runs.open import open_session


@dataclass(frozen=True, slots=True)
class Opening:
    """A program that is ready to be opened. opener: makes its session. format, recognized: as in
    ``Program``; "" for a saved session."""

    opener: Opener
    format: str = ""
    recognized: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A program whose machines are being made by ``worker``."""

    opening: Opening
    worker: Worker


def opening(path: str, options: Options) -> Opening:
    """What ``path`` is, a program or a saved session. Raises InputError, also for a disk that cannot be
    read: a mistake is said before anything is shown, or with the old session still on the screen."""
    if is_saved(path):
        return Opening(lambda: reopen(path))
    program = load(path, options.ram, options.start)
    options = equipped(options, path)
    for image in options.disks:
        Disk(named_disk(image)[1] if program.format == "solo5" else image).close()
    return Opening(lambda: open_session(program, options), program.format, program.recognized)


def begin(path: str, options: Options) -> Begun:
    """Have a worker make the machines of ``path``. Raises InputError as ``opening`` does."""
    found = opening(path, options)
    return Begun(found, Worker(found.opener))
