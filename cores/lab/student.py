"""One run of a guest under a student's VMM.

This executes the student's code, so app/commands/lab.py calls it in a process of its own, with limits.
"""

from __future__ import annotations

import contextlib
import io
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import FrozenInstanceError, fields
from types import CodeType

from cores.engines import registry
from cores.engines.base import DeprivilegedEngine
from cores.engines.portable.engine import PortableTrapEngine
from cores.errors import EngineError, InputError
from cores.lab.cases import Case
from cores.lab.errors import LabError
from cores.lab.guest import NAMES, Guest
from cores.lab.log import Event, Run
from cores.lab.parts import Memory, Ports
from cores.lab.stepped import SteppedEngine
from cores.lab.stop import TIMER, Decoded
from cores.pc.boot.protocols import protocol_of
from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import INITIAL_FPU
from cores.pc.ram import Ram
from cores.x86.faults import Unsupported
from cores.x86.registers import USER_FLAGS, Flag
from cores.x86.virtual_cpu import VirtualCpu

PORTABLE, NATIVE = "trap:portable", "trap:native"
MOST_PRINTED = 1 << 15
"""Characters that are kept of the beginning, and as many of the end."""
_FIELDS = frozenset(field.name for field in fields(Decoded))
_NAMED = {
    Guest: ("guest", NAMES),
    Memory: ("guest.memory", ("load", "store", "read", "write", "is_ram")),
    Ports: ("guest.ports", ("read", "write")),
}
"""What the manual calls these, and what it says that they have."""
Vmm = Callable[[Guest], object]


class Printed(io.TextIOBase):
    """What the student's code prints; of much the first and the last is kept."""

    def __init__(self) -> None:
        self._first = self._last = ""
        self._cut = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = MOST_PRINTED - len(self._first)
        self._first += text[:room]
        self._last += text[room:]
        if len(self._last) > 2 * MOST_PRINTED:
            self._last, self._cut = self._last[-MOST_PRINTED:], True
        return len(text)

    def kept(self) -> str:
        """With a line of dots for what is not."""
        if self._cut or len(self._last) > MOST_PRINTED:
            return f"{self._first}\n...\n{self._last[-MOST_PRINTED:]}"
        return self._first + self._last


def compiled(source: bytes, path: str) -> CodeType:
    """A student's file. Raises InputError where it is no Python."""
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise InputError(f"no Python: {error.msg}", path, error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"no Python: {error}", path) from None


class Attempt:
    """One run of a case under the student's VMM. Another thread may ask for what there is of it."""

    def __init__(self) -> None:
        self._printed = Printed()
        self._events: list[Event] = []

    def so_far(self, words: str, line: int) -> Run:
        """What has been done and printed, for one that is stopped. words, line: why, and where."""
        events = [*self._events]
        exits = events[-1].number if events else 0
        return Run(
            words=words, line=line, late=True, events=events, exits=exits, printed=self._printed.kept()
        )

    def run(
        self, code: CodeType, path: str, case: Case, ticks: int, exits: int, core: str = PORTABLE
    ) -> Run:
        """ticks, exits: as many as the guest may take. core: a trap core's name. Raises
        UnavailableError where it cannot run here."""
        result, printed = Run(), self._printed
        program = case.program()
        cpu = VirtualCpu()
        with contextlib.ExitStack() as last:
            ram = Ram(program.ram)
            last.callback(ram.close)
            memory = PhysicalMemory(ram)
            disks = last.enter_context(case.disks())
            board = Board(memory, disks=disks, input=case.input)
            sectors = disks[0].sectors if disks else 0
            protocol_of(program)(program, memory, cpu, disk_sectors=sectors)
            engine = _engine(core, cpu)
            last.callback(engine.close)
            engine.load(memory)
            engine.write_fpu(INITIAL_FPU)
            guest = Guest(engine, memory, cpu, board, ticks=ticks, exits=exits)
            self._events = guest.events
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                _execute(code, path, guest, result)
            if not result.words:
                guest.finish()
            _conclude(result, guest, board)
            result.console = bytes(board.console).decode("latin-1")
            result.screen = board.screen()
            result.registers = (*cpu.gpr, cpu.rip, cpu.rflags & USER_FLAGS | Flag.FIXED)
        result.events, result.exits, result.ticks = guest.events, guest.exits, guest.time
        result.printed = printed.kept()
        return result


def run(code: CodeType, path: str, case: Case, ticks: int, exits: int, core: str = PORTABLE) -> Run:
    """Run a case under the student's VMM: see ``Attempt.run``."""
    return Attempt().run(code, path, case, ticks, exits, core)


def _engine(core: str, cpu: VirtualCpu) -> PortableTrapEngine | SteppedEngine:
    engine = registry.create(core)
    assert isinstance(engine, DeprivilegedEngine), core
    if isinstance(engine, PortableTrapEngine):
        engine.pure = True
        return engine
    return SteppedEngine(engine, cpu)


def _conclude(result: Run, guest: Guest, board: Board) -> None:
    """How the guest has ended, where nothing went wrong before."""
    if result.words:
        return
    if board.stop is not None:
        result.stop, result.status = str(board.stop.stop), board.stop.status
    elif guest.over:
        result.stop = guest.over
    else:
        result.stop = "returned"


def _execute(code: CodeType, path: str, guest: Guest, result: Run) -> None:
    """Execute the student's file, then its ``vmm``. What it raises goes into the result's words."""
    names: dict[str, object] = {"__name__": "vmm", "__file__": path, "input": _no_keyboard}
    try:
        exec(code, names)
        vmm = names.get("vmm")
        if not callable(vmm):
            result.words = "it defines no vmm: it has to begin with `def vmm(guest):`"
            return
        given = vmm(guest)
        if isinstance(given, Generator | AsyncGenerator | Coroutine):
            # Its code has not run: calling it only made the object that would.
            what = "async def" if not isinstance(given, Generator) else "yield"
            result.words = f"your vmm() does not run when it is called: it has {what}"
            if isinstance(given, Coroutine):
                given.close()
    except (LabError, EngineError, Unsupported) as error:
        result.words, result.line = str(error), _line(error, path)
    except MemoryError:
        raise
    except RecursionError as error:
        result.words, result.line = "RecursionError: it calls itself without end", _line(error, path)
    except (Exception, SystemExit, GeneratorExit) as error:
        words = _explained(error, guest) or f"{type(error).__name__}: {error}"
        words = " ".join(words.split()).rstrip(": ")
        result.words, result.line = words[:500], _line(error, path)


def _no_keyboard(prompt: object = "") -> str:
    raise LabError("there is no keyboard for a VMM: what the guest is given comes by its ports")


def _explained(error: BaseException, guest: Guest) -> str:
    """What Python's own sentence does not say of a mistake with the lab's objects, "" for others."""
    if isinstance(error, FrozenInstanceError):
        return f"{error}: a stop is read-only, and guest.registers.rip is where the guest goes on"
    if not isinstance(error, AttributeError):
        return ""
    if type(error.obj) in _NAMED and not hasattr(type(error.obj), error.name or ""):
        called, there = _NAMED[type(error.obj)]
        return f"{called} has no {error.name!r:.40}: it has {', '.join(there)}"
    stop = guest.stop
    if error.obj is None and error.name in _FIELDS and stop is not None and stop.instruction is None:
        why = "a timer has none" if stop.kind == TIMER else f"there is no code at RIP, {stop.rip:#x}"
        return f"stop.instruction is None: {why}"
    return ""


def _line(error: BaseException, path: str) -> int:
    """The innermost line of the student's file, 0 for none."""
    found = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return (found[-1] or 0) if found else 0
