"""``import ringscope``: the machines from a program or a notebook (docs/api.md).

What stands in ``__all__`` keeps its meaning within a major version; the modules below it are free to
change. A machine belongs to the thread that made it.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, Unpack, overload

from cores.debugging import breakpoints
from cores.debugging.edits import MemoryPoke, RegisterPoke
from cores.debugging.live_session import LiveSession
from cores.errors import EngineError, InputError, RingscopeError, UnavailableError
from cores.inspection.views import peek
from cores.lockstep.options import Options
from cores.machine.machine import Machine as Pc
from cores.machine.report import CompareReport, CoreReport, Divergence, ExitLine
from cores.pc.devices.base import Device, MemoryDevice
from cores.pc.network import spec
from cores.plural import counted
from cores.programs import shipped
from cores.programs.loader import assemble_program, load_program
from cores.programs.program import Program as Loaded
from cores.programs.program import StartOptions
from cores.runs import compare as runs_compare
from cores.runs import trace as runs_trace
from cores.runs.open import open_session
from cores.runs.pc import exit_line
from cores.x86.isa.instruction import Reason
from cores.x86.mode import mode
from cores.x86.registers import GPR_NAMES, STATE_NAMES

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Comparison", "Core", "Device", "Divergence", "EngineError", "Exit", "Exits", "InputError",
    "Machine", "MemoryDevice", "Program", "RingscopeError", "RunOptions", "Session", "UnavailableError",
    "compare", "trace",
]  # fmt: skip

Exit = ExitLine
"""One exit: n, rip, code, asm, cpu_mode, reason, detail, handled, ring, ns, vmm_ns, source."""
Core = CoreReport
"""One core's end in a comparison: core, available, reason, stop, exit_status, instructions, exits,
exits_by_reason, device_accesses, bridged, console, screen, registers, notes, seconds."""

_MOST_ROWS = 200


class Program:
    """A guest program: the name of a shipped guest ("hello"), or a file, as on the command line.

    ram: bytes; None: as many as its kind has by default. append, modules: of a Multiboot kernel, each
    module "FILE ARGS". boot: "disk" or "rom" where the file's name does not say so. Raises
    InputError."""

    def __init__(
        self,
        path: str | Path,
        *,
        ram: int | None = None,
        append: str = "",
        modules: Sequence[str] = (),
        boot: str = "",
    ) -> None:
        name = str(path)
        files = {} if Path(name).exists() else {guest.stem: str(guest) for guest in shipped.programs()}
        options = StartOptions(append.encode(), tuple(modules), boot)
        self._loaded = load_program(files.get(name, name), ram, options=options)

    @classmethod
    def assemble(cls, source: str, name: str = "guest.s") -> Self:
        """A program from assembly (docs/assembly.md). name: for messages. Raises InputError."""
        made = cls.__new__(cls)
        made._loaded = assemble_program(source.encode(), name)
        return made

    @property
    def path(self) -> str:
        return self._loaded.path

    @property
    def format(self) -> str:
        """ "asm", "elf", "flat", "multiboot", "disk", "rom" or "m68k"."""
        return self._loaded.format

    @property
    def entry(self) -> int:
        """The linear address at which it begins."""
        return self._loaded.entry

    @property
    def symbols(self) -> Mapping[str, int]:
        """Addresses by name."""
        return self._loaded.symbols

    def __repr__(self) -> str:
        return f"<Program {self.path}: {self.format}, {counted(self._loaded.size, 'byte')}>"


def _loaded(program: Program | str | Path) -> Loaded:
    return (program if isinstance(program, Program) else Program(program))._loaded


class Exits(Sequence[Exit]):
    """The exits of a core, in order. In a notebook it shows itself as a table."""

    def __init__(self, core: str, exits: Sequence[Exit]) -> None:
        self.core = core
        self._exits = tuple(exits)

    @overload
    def __getitem__(self, index: int) -> Exit: ...
    @overload
    def __getitem__(self, index: slice) -> Exits: ...
    def __getitem__(self, index: int | slice) -> Exit | Exits:
        return Exits(self.core, self._exits[index]) if isinstance(index, slice) else self._exits[index]

    def __len__(self) -> int:
        return len(self._exits)

    def by_reason(self) -> Counter[str]:
        """How many there are for each reason."""
        return Counter(exit.reason for exit in self._exits)

    @property
    def ns(self) -> int:
        """The host's time for all of them, world switches included, in nanoseconds."""
        return sum(exit.ns for exit in self._exits)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame with a row for each exit. Raises ImportError where pandas is not installed."""
        import pandas

        names = [field.name for field in fields(Exit)]
        rows = ([getattr(exit, name) for name in names] for exit in self._exits)
        return pandas.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'exit')} of {self.core}>"

    def _repr_html_(self) -> str:
        heads = ("n", "rip", "instruction", "reason", "what happened", "µs")
        rows = [
            ("" if e.n is None else f"{e.n:,}", hex(e.rip), e.asm, e.reason, f"{e.detail}; {e.handled}",
             f"{e.ns / 1000:.1f}") for e in self._exits[:_MOST_ROWS]
        ]  # fmt: skip
        left = len(self) - len(rows)
        return _table(repr(self), heads, rows, f"and {left:,} more" if left else "")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the cores made of one program. equivalent: None where fewer than two could be compared.
    cores: those asked for, in order."""

    equivalent: bool | None
    divergence: Divergence | None
    cores: tuple[Core, ...]

    def __getitem__(self, core: str) -> Core:
        """A core by its name, "trap:native". Raises KeyError."""
        for found in self.cores:
            if found.core == core:
                return found
        raise KeyError(core)

    @classmethod
    def of(cls, report: CompareReport) -> Self:
        return cls(report.equivalent, report.divergence, report.cores)

    def _repr_html_(self) -> str:
        heads = ("core", "ended with", "instructions", "exits", "seconds", "console")
        rows = [
            (c.core, str(c.stop) if c.available else c.reason or "", _count(c.instructions),
             f"{c.exits:,}", f"{c.seconds:.3f}", c.console) for c in self.cores
        ]  # fmt: skip
        words = {True: "The cores agree.", False: "The cores diverge.", None: "Nothing was compared."}
        return _table(words[self.equivalent], heads, rows)


class RunOptions(TypedDict, total=False):
    """The options of a run, as ``ringscope compare --help`` has them. budget: instructions, in free
    mode seconds. disks: image files. until: a text that ends it. timeout: seconds. devices: Python
    files. nets: networks, as --net has them. other: the program of the other machine on a hub."""

    free: bool
    pure: bool
    budget: float
    disks: Sequence[str]
    input: str
    until: str
    timeout: float
    devices: Sequence[str]
    nets: Sequence[str]
    other: Program | str | Path


def compare(
    program: Program | str | Path,
    *,
    cores: Sequence[str] | None = None,
    **options: Unpack[RunOptions],
) -> Comparison:
    """Run a program on each core to its end, and compare them. cores: None: interpreter, trap, kvm.
    Raises InputError, UnavailableError."""
    return Comparison.of(runs_compare.compare(_loaded(program), _options(cores, options)))


def trace(program: Program | str | Path, core: str = "trap", **options: Unpack[RunOptions]) -> Exits:
    """Run a program on one core to its end; gives its exits. Raises InputError, UnavailableError."""
    exits, name = [], core
    for line in runs_trace.trace(_loaded(program), core, _options((core,), options), steps=False):
        if isinstance(line, CoreReport):
            name = line.core
        elif isinstance(line, ExitLine):
            exits.append(line)
    return Exits(name, exits)


class Machine:
    """One core of a session. Only registers and memory are its own: all machines of a session move
    together."""

    def __init__(self, session: Session, pc: Pc) -> None:
        self._session, self._pc = session, pc

    @property
    def core(self) -> str:
        return self._pc.core

    @property
    def registers(self) -> dict[str, int]:
        """A copy of the general, segment and control registers, by name."""
        return dict(zip(STATE_NAMES, self._pc.cpu.state(), strict=True))

    def __getitem__(self, register: str) -> int:
        """A register by its name, "rax". Raises KeyError."""
        return self.registers[register]

    def read(self, address: int, length: int) -> bytes:
        """The guest's memory from a linear address on. Raises InputError where it is not mapped."""
        data = peek(self._pc, address, length)
        if None in data:
            raise InputError(f"nothing is mapped at {address + data.index(None):#x}")
        return bytes(byte for byte in data if byte is not None)

    @property
    def instructions(self) -> int:
        """Completed instructions."""
        return self._pc.vmm.instructions

    @property
    def exits(self) -> Exits:
        """The exits so far."""
        return Exits(self.core, [exit_line(self._pc.program, e) for e in self._pc.vmm.trace.events])

    @property
    def mode(self) -> str:
        """The CPU's mode: "real", "prot16", "prot32", "compat" or "long"."""
        return str(mode(self._pc.cpu))

    @property
    def ring(self) -> int:
        """The ring that the guest believes to be in."""
        return self._pc.cpu.cpl

    @property
    def stop(self) -> str | None:
        """Why it has stopped, None while it can go on."""
        return None if self._pc.stop is None else str(self._pc.stop)

    @property
    def exit_status(self) -> int | None:
        return self._pc.vmm.exit_status

    @property
    def console(self) -> str:
        return self._pc.console()

    @property
    def screen(self) -> str | None:
        """The VGA screen's text, None if the guest has never written to it."""
        return self._pc.board.screen()

    def __repr__(self) -> str:
        where = self.stop or f"at {self._pc.cpu.rip:#x}"
        return f"<Machine {self.core}: {counted(self.instructions, 'instruction')}, {where}>"

    def _repr_html_(self) -> str:
        rows = [(name, hex(value)) for name, value in self.registers.items()]
        return _table(repr(self), ("register", "value"), rows)


class Session:
    """A program on several cores, in exact lockstep, forwards and backwards. Use it in a ``with``
    statement, or ``close`` it.

    cores: names; None: interpreter, trap, kvm, as far as they run here. Raises InputError,
    UnavailableError."""

    def __init__(
        self,
        program: Program | str | Path,
        cores: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        loaded = _loaded(program)
        live = open_session(loaded, _options(cores, options))
        if not isinstance(live, LiveSession):
            live.close()
            raise InputError("a 68000 program: sessions are for x86 guests", loaded.path)
        self._live = live
        if not self._live.machines:
            self._live.close()
            raise UnavailableError("none of these cores runs here")
        self._symbols = loaded.symbols

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all machines."""
        self._live.close()

    @property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(Machine(self, pc) for pc in self._live.machines)

    def __getitem__(self, core: str) -> Machine:
        """A machine by its core's name, "trap:native". Raises KeyError."""
        for machine in self.machines:
            if machine.core == core:
                return machine
        raise KeyError(core)

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.machines)

    @property
    def here(self) -> int:
        """Instructions completed by the machine that is furthest."""
        return self._live.instructions

    @property
    def ended(self) -> bool:
        """Have all machines stopped?"""
        return all(machine.stop is not None for machine in self._live.machines)

    @property
    def divergence(self) -> Divergence | None:
        """The first difference between the machines, None while they agree."""
        return self._live.divergence

    def step(self, count: int = 1) -> None:
        """Complete so many instructions on all machines, and compare them after each."""
        for _ in range(count):
            self._live.step()

    def run(self, *conditions: str) -> str:
        """Run to the end, or until one of the conditions holds: an address or symbol ("start+4"), an
        exit ("on io"), a register ("rax = 48"), "divergence". Gives the one that was met, "" at the
        end. Raises InputError for what is no condition."""
        points = frozenset(breakpoints.parse(text, self._symbols) for text in conditions)
        while self._live.run(60.0, points):
            pass
        return self._live.reached

    def next_exit(self, reason: str | None = None) -> Exit | None:
        """Run until any machine leaves its guest (for this reason), and give that exit; None at the
        end."""
        wanted = None if reason is None else Reason(reason)
        before = self._live.exits(wanted)
        while not self._live.next_exit(wanted, 60.0):
            pass
        if self._live.exits(wanted) == before:
            return None
        for pc in self._live.machines:
            events = [e for e in pc.vmm.trace.events if wanted is None or e.reason is wanted]
            if events:
                return exit_line(pc.program, events[-1])
        return None

    def seek(self, instruction: int) -> None:
        """Go to where so many instructions are completed, ahead or back. Raises InputError before the
        first."""
        self._live.go_to(instruction)

    def back(self, count: int = 1) -> None:
        """Go back by so many instructions, at most to the beginning."""
        self._live.go_to(max(self._live.begins, self._live.here - count))

    def type(self, text: str) -> None:
        """Type on the guests' keyboard and serial line."""
        self._live.key(text)

    def set(self, register: str, value: int, core: str | None = None) -> None:
        """Set a general register, "rip" or "rflags", on all machines or on one, which then diverges.
        Raises InputError."""
        if register not in (*GPR_NAMES, "rip", "rflags"):
            raise InputError(f"{register} cannot be set from outside")
        self._live.poke(RegisterPoke(register, value & (1 << 64) - 1), core)

    def write(self, address: int, data: bytes, core: str | None = None) -> None:
        """Write the guests' memory at a linear address. Raises InputError where no RAM is mapped."""
        self._live.poke(MemoryPoke(address, data), core)

    def __repr__(self) -> str:
        cores = ", ".join(m.core for m in self._live.machines)
        return f"<Session: {cores}; {counted(self.here, 'instruction')}>"

    def _repr_html_(self) -> str:
        columns = [machine.registers for machine in self.machines]
        heads = ("register", *(machine.core for machine in self.machines))
        rows = [(name, *(hex(column[name]) for column in columns)) for name in STATE_NAMES]
        return _table(repr(self), heads, rows)


def _options(cores: Sequence[str] | None, given: RunOptions) -> Options:
    return Options(
        cores=None if cores is None else tuple(cores), free=given.get("free", False),
        pure=given.get("pure", False), budget=given.get("budget"), disks=tuple(given.get("disks", ())),
        input=given.get("input", "").encode("latin-1", "replace"), until=given.get("until", ""),
        timeout=given.get("timeout"), devices=tuple(given.get("devices", ())), images=False,
        nets=tuple(map(spec.parse, given.get("nets", ()))),
        other=_loaded(given["other"]) if "other" in given else None,
    )  # fmt: skip


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], below: str = "") -> str:
    """A table for a notebook."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    foot = f"<p>{html.escape(below)}</p>" if below else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<p>{html.escape(title)}</p>{table}{foot}"
