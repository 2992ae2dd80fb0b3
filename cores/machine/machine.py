"""Machine: one PC with its guest: RAM, devices, an engine, and the VMM between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from cores.engines.base import DeprivilegedEngine, Engine
from cores.errors import EngineError
from cores.machine.report import CoreReport
from cores.pc.boot.protocols import RESTRICTED, devices_of, protocol_of
from cores.pc.devices.base import Device
from cores.pc.devices.board import Board, BoardState
from cores.pc.devices.storage.disk import Disk
from cores.pc.network.network import Network
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.pc.platform import INITIAL_FPU
from cores.pc.ram import CHUNK, PAGE, Ram
from cores.pc.ram_image import ZEROS, RamImage
from cores.pc.stop import Stop
from cores.programs.program import Program
from cores.vmm.calibration import world_switch
from cores.vmm.free_run import FreeRunner
from cores.vmm.given_screen import COUNTED
from cores.vmm.state import VmmState
from cores.vmm.vmm import UNKNOWN, Vmm
from cores.x86.mmu.paging import tables_in_use
from cores.x86.mmu.table_pages import table_pages
from cores.x86.mode import mode
from cores.x86.registers import STATE_NAMES, Efer, Flag
from cores.x86.virtual_cpu import VirtualCpu

_LMA = Efer.LMA
ACCESSED_AND_DIRTY = 0x60
"""The A and D bits of a page-table entry. CPUs set them at different times, so they are masked wherever
two machines' memory is compared."""

LIGHT_SLEEP = 300
"""Microseconds of virtual time after a HLT for which a guest still counts as waiting: the timer wakes
it for a moment, and it sleeps again."""


@dataclass(frozen=True, slots=True)
class MachineState:
    """All of a machine's state but RAM: CPU, x87 and SSE, devices with their timers, counters.

    Made and read only by ``Machine.save`` and ``restore``."""

    cpu: VirtualCpu
    fpu: bytes
    board: BoardState
    vmm: VmmState
    roots: frozenset[int]

    @property
    def instructions(self) -> int:
        return self.vmm.instructions


class OtherMachine(Protocol):
    """What a machine needs of the pair that it is the first of (cores/machine/pair.py)."""

    second: Machine

    def run_free(self, seconds: float) -> None: ...
    def finish(self, late: Callable[[], bool]) -> None: ...


class Machine:
    """A booted PC, ready to run its program on one engine.

    disks: the machine's own; an overlay on the image makes that cheap. input: for keyboard and UART.
    slow: free mode handles every exit the long way (cores/vmm/known_exits.py).
    devices: kinds of the user's own (cores/pc/devices/own_device.py). networks: each for one card.
    virtio: the virtio devices by name. polls: these look into their queues by themselves.
    given: in free mode the guest has the screen's memory itself.
    irqfd: it will run in free mode alone, and its virtio devices' interrupt is to need no exit.
    pair: where another machine shares its network, None else.
    seconds: host time spent in running the guest so far, without set-up and views of past exits.

    The machine owns the engine from the beginning, and closes it if ``__init__`` fails. Later failures
    of the host (EngineError, OSError) stop this machine with ``Stop.ERROR`` and do not raise, so that
    other machines of a session can go on.
    """

    def __init__(
        self,
        program: Program,
        engine: Engine,
        *,
        ram: int,
        disks: Sequence[Disk] = (),
        input: bytes = b"",
        clock: int = 0,
        until: str = "",
        pure: bool = False,
        slow: bool = False,
        devices: Sequence[type[Device]] = (),
        networks: Sequence[Network] = (),
        virtio: tuple[str, ...] = (),
        polls: bool = False,
        given: bool = False,
        irqfd: bool = False,
    ) -> None:
        self.program = program
        self.engine = engine
        self.core = engine.traits.core
        self.cpu = VirtualCpu()
        self.seconds = 0.0
        self.pair: OtherMachine | None = None
        self._runner: FreeRunner | None = None
        with contextlib.ExitStack() as unless_made:
            unless_made.callback(engine.close)
            self.ram = Ram(ram)
            unless_made.pop_all()  # the engine goes before the memory that it maps
            unless_made.callback(self.ram.close)
            unless_made.callback(engine.close)
            self.memory = PhysicalMemory(self.ram)
            boot = protocol_of(program)
            self.board = Board(
                self.memory, disks=disks, input=input, clock=clock, until=until,
                special=(
                    *devices_of(program, cards=len(networks), virtio=virtio),
                    *(kind.plug for kind in devices),
                ),
                networks=networks, polls=polls, given=given,
            )  # fmt: skip
            sectors = disks[0].sectors if disks else 0
            boot(program, self.memory, self.cpu, disk_sectors=sectors, links=networks, disks=disks)
            if isinstance(engine, DeprivilegedEngine):
                engine.pure = pure
            engine.wants_irqfd = irqfd
            engine.load(self.memory)
            engine.write_fpu(INITIAL_FPU)
            self.vmm = Vmm(engine, self.memory, self.cpu, self.board, pure=pure, slow=slow)
            if given:
                self.vmm.notes[COUNTED] = None
            self.vmm.trace.world_switch = world_switch(engine, self.memory, self.cpu)
            if self.vmm.shadow and program.format not in RESTRICTED:
                self.vmm.shadow.map_boot()
            unless_made.pop_all()
        for network in networks:
            network.done = self._done
        self.roots: set[int] = set()
        self._note_tables()

    def _done(self) -> tuple[int, int]:
        """Exits in the log so far, the present one included, and device accesses."""
        trace = self.vmm.trace
        return trace.dropped + len(trace.log) + (trace.pending is not None), self.board.accesses

    def step(self) -> None:
        """Complete one more instruction, or stop the machine."""
        began = perf_counter()
        try:  # not ``failing_alone``, which costs a microsecond
            self.vmm.step()
        except (EngineError, OSError) as error:
            self.vmm.fail(_in_words(error))
        self.seconds += perf_counter() - began
        if self.cpu.efer & _LMA:  # without a call more
            self.roots.add(self.cpu.cr3)
        else:
            self._note_tables()

    def run_free(self, seconds: float) -> None:
        """Run at full speed for at most ``seconds``, or until the machine stops; a pair in turns."""
        if self.pair is None:
            self.run_alone(seconds)
        else:
            self.pair.run_free(seconds)

    def run_alone(self, seconds: float) -> None:
        """``run_free``, of this machine alone."""
        began = perf_counter()
        with self.failing_alone():
            if self._runner is None:
                self._runner = FreeRunner(self.vmm)
            self._runner.run(seconds)
            self.vmm.last_rip = UNKNOWN
        self.seconds += perf_counter() - began
        self._note_tables()

    def _note_tables(self) -> None:
        """Remember the root of the page tables in use."""
        root = tables_in_use(self.cpu)
        if root is not None:
            self.roots.add(root)

    @contextlib.contextmanager
    def failing_alone(self) -> Iterator[None]:
        """Stop this machine with an error if the host refuses something in the block."""
        try:
            yield
        except (EngineError, OSError) as error:
            self.vmm.fail(_in_words(error))

    @property
    def stop(self) -> Stop | None:
        return self.vmm.stop

    def console(self) -> str:
        return bytes(self.board.console).decode("latin-1")

    def type_text(self, text: bytes) -> None:
        """Type on the guest's keyboard or serial line; wakes a guest that sleeps for good otherwise."""
        self.board.type_text(text)
        awake = self.board.interrupt_pending and self.cpu.rflags & Flag.IF
        if awake and self.vmm.stop is Stop.HALTED:
            self.vmm.stop = None

    @property
    def awaits_key(self) -> bool:
        """Does the guest sleep, or has it just, with the interrupt of keyboard or serial port on and
        nothing left to read? Or does it ask one of them again and again?"""
        vmm = self.vmm
        if vmm.stop is not None and vmm.stop is not Stop.HALTED:
            return False
        if vmm.stop is None and self.board.polled:
            return True
        just = vmm.slept >= 0 and 0 <= vmm.ticks - vmm.slept <= LIGHT_SLEEP
        return just and self.board.listens and bool(self.cpu.rflags & Flag.IF or not vmm.stop)

    @property
    def takes_keys(self) -> bool:
        """Is the interrupt of keyboard or serial port on, with nothing left to read? A guest that waits
        for a key without sleeping, as xv6 does, shows no more of it than that."""
        return self.vmm.stop is None and self.board.listens

    def fpu(self) -> bytes:
        """x87 and SSE state (SDM vol. 1, 10.5.1); the initial one where the host has lost it."""
        try:
            return self.engine.read_fpu()
        except (EngineError, OSError) as error:
            self.vmm.fail(_in_words(error))
            return INITIAL_FPU

    def save(self) -> MachineState:
        """A copy of the state of everything but RAM."""
        fpu = self.fpu()  # first: this may stop the machine
        return MachineState(
            self.cpu.copy(), fpu, self.board.save(), self.vmm.save(), frozenset(self.roots)
        )

    def restore(self, state: MachineState) -> None:
        """Go back to a saved state; the caller has restored RAM before."""
        self.cpu.assign(state.cpu)
        self.roots = set(state.roots)
        with self.failing_alone():
            self.vmm.restore(state.vmm)
            self.vmm.last_rip = UNKNOWN
            self.engine.write_fpu(state.fpu)
        with self.failing_alone():
            self.board.restore(state.board)

    def memory_image(self, like: RamImage | None = None) -> RamImage:
        """RAM without the hole, with A and D bits masked in the page tables of every root so far.
        Chunks equal to those of ``like`` are shared with it."""
        image = RamImage.of(self.ram, like)
        chunks = {at: chunk for at, chunk in image.chunks.items() if at not in HOLE}
        for page, width in table_pages(self.memory, self.roots).items():
            at = page % CHUNK
            if page - at in chunks:
                masked = bytearray(chunks[page - at])
                for entry in range(at, at + PAGE, width):
                    masked[entry] &= ~ACCESSED_AND_DIRTY & 0xFF
                chunks[page - at] = bytes(masked)
        filled = {at: chunk for at, chunk in chunks.items() if chunk != ZEROS}
        return RamImage(image.size, filled, HOLE)

    def report(self, *, image: bool = True) -> CoreReport:
        """The machine's present state, or its end, as a report. image: with a copy of RAM."""
        vmm, board, traits = self.vmm, self.board, self.engine.traits
        trace = vmm.trace
        return CoreReport(
            core=traits.core, engine=traits.engine, available=True, reason=vmm.reason or None,
            stop=vmm.stop, exit_status=vmm.exit_status,
            instructions=vmm.counted, exits=trace.exits,
            exits_by_reason={reason.value: n for reason, n in sorted(trace.by_reason.items())},
            device_accesses=board.accesses, bridged=trace.bridged,
            console=self.console(), screen=board.screen(),
            registers=dict(zip(STATE_NAMES, self.cpu.state(), strict=True)),
            cpu_mode=mode(self.cpu), memory=self.memory_image() if image else None,
            notes=self.notes(), seconds=self.seconds, emulated=vmm.emulated,
            delivered=vmm.delivered, caveat=self.engine.caveat(), ring_zero=traits.ring_zero,
            limit=vmm.limit,
            other=None if self.pair is None else self.pair.second.report(image=image),
        )  # fmt: skip

    def notes(self) -> tuple[str, ...]:
        """Sentences for the user beside the figures: limits, approximations, unbacked addresses."""
        return (*self.vmm.notes, *self.board.notes(), *self.memory.notes())

    def close(self) -> None:
        """Close the engine, then the memory that it maps; each is closed even if another one raises."""
        with contextlib.ExitStack() as last:
            if self.pair is not None:
                last.callback(self.pair.second.close)
            last.callback(self.ram.close)
            for disk in self.board.disks:
                last.callback(disk.close)
            last.callback(self.engine.close)
            if self.vmm.callouts is not None:
                last.callback(self.vmm.callouts.reset, None)
            if self._runner is not None:
                last.callback(self._runner.close)


def _in_words(error: EngineError | OSError) -> str:
    """An error as a sentence. OSError comes from calls that do not usually fail, such as
    KVM_GET_REGS."""
    return str(error) if isinstance(error, EngineError) else f"the host refused: {error.strerror}"
