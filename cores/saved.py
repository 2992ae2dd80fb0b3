"""A session in a file: all machines, whole, to be opened again.

The file is a line of magic, then a zlib-compressed pickle of plain values. Pickle can run code that
whoever wrote the file chose; so only the dataclasses and enums named here are ever looked up, and
anything else is refused as a damaged file.
"""

from __future__ import annotations

import io
import pickle
import zlib
from dataclasses import dataclass

from .errors import InputError
from .files import replacing
from .live import LiveSession
from .loader import SAVED_SESSION
from .machine import MachineState
from .program import Program
from .session import Options

MAGIC = SAVED_SESSION
LARGEST = 2 << 30
"""Bytes that a file may grow to when unpacked: three machines of 512 MiB and what they remember."""
_ALLOWED = {
    "collections": {"Counter", "OrderedDict"},
    "cores.devices.ata": {"Phase", "State"},
    "cores.devices.board": {"BoardState"},
    "cores.devices.ending": {"Ending"},
    "cores.devices.scancodes": {"Event"},
    "cores.machine": {"MachineState"},
    "cores.program": {"Program", "Segment"},
    "cores.report": {"Stop"},
    "cores.saved": {"SavedMachine", "SavedSession"},
    "cores.session": {"Options"},
    "cores.shadow": {"Entry", "ShadowState"},
    "cores.trace": {"TraceMark"},
    "cores.virtual_cpu": {"Segment", "TableRegister", "VirtualCpu"},
    "cores.vmm": {"VmmState"},
    "cores.x86.instruction": {"Reason"},
}


@dataclass(frozen=True, slots=True)
class SavedMachine:
    """core: its resolved name. ram: the guest's, in full."""

    core: str
    state: MachineState
    ram: bytes


@dataclass(frozen=True, slots=True)
class SavedSession:
    """typed: (instruction, text) of everything typed so far, for going back after opening."""

    program: Program
    options: Options
    mode: str
    typed: tuple[tuple[int, bytes], ...]
    machines: tuple[SavedMachine, ...]


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a session")
        return super().find_class(module, name)


def save(session: LiveSession, path: str) -> None:
    """Write a session to a file; it goes on as before. Raises InputError when that fails, and what
    was in the file before is still there."""
    content = zlib.compress(pickle.dumps(_collect(session), protocol=4), 1)
    try:
        with replacing(path) as file:
            file.write(MAGIC + content)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", path) from error


def is_saved(path: str) -> bool:
    """Does this file begin as a saved session does?"""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def reopen(path: str) -> LiveSession:
    """A session as it was when it was saved. Its past before that moment is not in the file.

    Cores that cannot run here are left out. Raises InputError for a file that is no session."""
    saved = _read(path)
    cores = tuple(machine.core for machine in saved.machines)
    session = LiveSession(saved.program, _with_cores(saved.options, cores))
    by_core = {machine.core: machine for machine in saved.machines}
    try:
        for machine in session.machines:
            was = by_core[machine.core]
            if len(was.ram) != machine.memory.size:
                raise InputError("its RAM is not as large as its options say", path)
            machine.memory.view[: machine.memory.size] = was.ram
            machine.restore(was.state)
        session.begin_here(saved.mode, saved.typed)
    except BaseException:
        session.close()
        raise
    return session


def _collect(session: LiveSession) -> SavedSession:
    machines = tuple(
        SavedMachine(m.core, m.save(), bytes(m.memory.view[: m.memory.size])) for m in session.machines
    )
    return SavedSession(session.program, session.options, session.mode, session.typed, machines)


def _with_cores(options: Options, cores: tuple[str, ...]) -> Options:
    return Options(
        cores, options.free, options.pure, options.budget, options.ram, options.disk,
        options.disk_write, options.input, options.peers,
    )  # fmt: skip


def _read(path: str) -> SavedSession:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", path) from error
    if not content.startswith(MAGIC):
        raise InputError("not a saved session", path)
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(content[len(MAGIC) :], LARGEST)
        saved = _Reader(io.BytesIO(plain)).load()
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(f"a damaged session: {error}", path) from error
    if not isinstance(saved, SavedSession):
        raise InputError("a damaged session: something else is in it", path)
    return saved
