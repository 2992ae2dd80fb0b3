"""Saved sessions: all machines of a session in one file, to be opened again.

The file is a line of magic, then compressed numbers, text, bytes, and tuples and dictionaries of these
(cores/debugging/value_file.py). Their types follow from our dataclasses
(cores/debugging/plain_values.py).

A file may hold anything, so ``_checked`` verifies the values before a machine is made. A reopened
session writes to no file of the user's: the image of the guests' disk is only read, and all that guests
have written, or will write, stays in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cores.atomic_file import ANOTHER_NAME, Kind, replacing
from cores.debugging import value_file
from cores.debugging.live_session import LiveSession
from cores.debugging.plain_values import plain, shaped
from cores.engines.registry import CORE_NAMES
from cores.errors import InputError, RingscopeError
from cores.input_file import begins_with
from cores.lockstep.options import Options
from cores.machine.machine import Machine, MachineState
from cores.pc.devices.storage.disk import SECTOR
from cores.pc.platform import INITIAL_FPU, LARGEST_RAM, MIB, SMALLEST_RAM
from cores.pc.ram import CHUNK
from cores.pc.ram_image import RamImage, put_back
from cores.programs.loader import SAVED_SESSION
from cores.programs.program import Program

MAGIC = SAVED_SESSION + b"2\n"
KIND = Kind("a saved session", lambda head: head.startswith(SAVED_SESSION), ANOTHER_NAME)
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class SavedMachine:
    """One machine of a saved session. core: its resolved name. ram: the chunks (``RamImage``) in which
    its RAM differs from the first machine's, or from zeros for the first; b"" for a chunk of zeros."""

    core: str
    state: MachineState
    ram: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A whole session. typed: (instruction, text) that lies ahead where the session had gone back."""

    program: Program
    options: Options
    mode: str
    typed: tuple[tuple[int, bytes], ...]
    machines: tuple[SavedMachine, ...]


def save(session: LiveSession, path: str) -> None:
    """Write a session to a file; the session goes on. Raises InputError when that fails; the file then
    keeps its old contents."""
    values = plain(_collect(session))
    try:
        with replacing(path, KIND) as file:
            file.write(MAGIC)
            value_file.write(file, values)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", path) from None


def is_saved(path: str) -> bool:
    """Does this file begin as a saved session does?"""
    return begins_with(path, SAVED_SESSION)


def reopen(path: str) -> LiveSession:
    """Open a session as it was when it was saved. Its past before that moment is not in the file.

    Cores that cannot run here are left out. Raises InputError for a file that is no session."""
    with _damage_told(path):
        saved = _read(path)
        session = LiveSession(saved.program, saved.options)
        try:
            by_core = {machine.core: machine for machine in saved.machines}
            for machine in session.machines:
                _put_back(machine, by_core[machine.core], saved.machines[0].ram)
            session.begin_here(saved.mode, saved.typed)
            session.snapshot()  # fails where something does not fit together
        except BaseException:
            session.close()
            raise
        return session


@contextlib.contextmanager
def _damage_told(path: str) -> Iterator[None]:
    """Turn any exception in the block into InputError: the file is damaged."""
    try:
        yield
    except RingscopeError:
        raise
    except MemoryError as error:
        raise InputError("this host has not enough memory for the session", path) from error
    except Exception as error:
        reason = " ".join(str(error).split()) if isinstance(error, ValueError | OSError) else ""
        reason = reason[:_LONGEST_REASON] or f"its parts do not fit together ({type(error).__name__})"
        raise InputError(f"a damaged session: {reason}", path) from error


def _put_back(machine: Machine, saved: SavedMachine, first: dict[int, bytes]) -> None:
    put_back(machine.ram, {at: chunk for at, chunk in (first | saved.ram).items() if chunk})
    board = saved.state.board
    devices = tuple(map(shaped, machine.board.shapes(), board.devices))
    machine.restore(replace(saved.state, board=replace(board, devices=devices)))
    if not machine.board.is_lawful():
        raise ValueError("its devices are in a state that no guest can bring about")


def _collect(session: LiveSession) -> SavedSession:
    if session.options.devices:
        raise InputError("a session with a device of one's own cannot be saved: it is a program")
    if session.options.other is not None:
        raise InputError("a session with two machines on a hub cannot be saved")
    session.settle()
    machines: list[SavedMachine] = []
    first = RamImage(session.machines[0].ram.size, {})
    for machine in session.machines:
        image = RamImage.of(machine.ram, first)
        machines.append(SavedMachine(machine.core, machine.save(), _differences(image, first)))
        first = image if len(machines) == 1 else first
    return SavedSession(session.program, session.options, session.mode, session.typed, tuple(machines))


def _differences(image: RamImage, first: RamImage) -> dict[int, bytes]:
    places = sorted(image.chunks.keys() | first.chunks.keys())
    return {
        at: image.chunks.get(at, b"") for at in places if image.chunks.get(at) != first.chunks.get(at)
    }


def _read(path: str) -> SavedSession:
    if not is_saved(path):
        raise InputError("not a saved session", path)
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InputError("saved by another version of Ringscope, which can open it", path)
            values = value_file.read(file)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from error
    return _checked(shaped(SavedSession, values))


def _checked(saved: SavedSession) -> SavedSession:
    """Verify that the session can exist, and let it write to no disk. Raises ValueError."""
    ram, cores = (
        saved.options.ram or saved.program.ram,
        tuple(machine.core for machine in saved.machines),
    )
    if saved.options.devices:
        raise ValueError("it names programs to run as devices")
    if saved.options.other is not None:
        raise ValueError("it has two machines on a hub")
    if ram % (2 * MIB) or not SMALLEST_RAM <= ram <= LARGEST_RAM:
        raise ValueError("no machine has so much RAM")
    if not cores or len(set(cores)) < len(cores) or not set(cores) <= set(CORE_NAMES):
        raise ValueError("its machines are not each of another core")
    if saved.mode not in ("exact", "free"):
        raise ValueError("its mode is neither exact nor free")
    parts = saved.program.segments
    inside = all(p.gpa >= 0 and len(p.data) <= p.size and p.gpa + p.size <= ram for p in parts)
    if not (parts and inside and 0 <= saved.program.entry < 1 << 64):
        raise ValueError("its program does not fit into its RAM")
    for machine in saved.machines:
        state, disks = machine.state, machine.state.board.disks
        if any(
            at % CHUNK or not 0 <= at < ram or len(chunk) not in (0, CHUNK)
            for at, chunk in machine.ram.items()
        ):
            raise ValueError("its RAM is not what its options say")
        whole = len(state.fpu) == len(INITIAL_FPU) and state.cpu.is_lawful()
        if not whole or any(root < 0 for root in state.roots):
            raise ValueError("its registers have values that no CPU can have")
        written = [one for disk in disks for one in disk.items()]
        if len(disks) != len(saved.options.disks) + (saved.program.format == "disk"):
            raise ValueError("it has not the disks that its options say")
        if any(lba < 0 or len(sector) != SECTOR for lba, sector in written):
            raise ValueError("its disk has sectors of a wrong number or size")
    nets = tuple(replace(net, pcap="") for net in saved.options.nets)
    return replace(saved, options=replace(saved.options, cores=cores, disk_write=False, nets=nets))
