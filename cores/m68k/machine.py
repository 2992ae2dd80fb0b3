"""A 68000 machine with its program. It has the interface of ``cores.machine.machine.Machine``."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from cores.m68k import disassembly
from cores.machine.report import CoreReport, MachineSnapshot
from cores.pc.ram import Ram
from cores.pc.ram_image import RamImage
from cores.pc.stop import Stop
from cores.programs.program import M68K_DEVICES, Program

from .bus import Bus, BusState
from .engine import M68kEngine
from .exceptions import Vector
from .monitor import Monitor, MonitorState
from .registers import STATE_NAMES, M68kCpu

CORE = "interpreter"
REFUSAL = "this CPU executes x86-64; only an emulator can run Motorola 68000 code"
"""The reason with which every other core refuses such a program."""
BURST = 256
"""Instructions of a free run between two checks of the clock."""


@dataclass(frozen=True, slots=True)
class M68kState:
    """A machine's saved state, without RAM."""

    cpu: M68kCpu
    bus: BusState
    vmm: MonitorState

    @property
    def instructions(self) -> int:
        return self.vmm.instructions


class M68kMachine:
    """A 68000 after its reset: RAM from 0 with SSP and PC in the first two vectors, the program at
    0x1000. ram: bytes; at most 0xFF0000 of them are used. notes: for the report."""

    state_names = STATE_NAMES

    def __init__(self, program: Program, *, ram: int, notes: tuple[str, ...] = ()) -> None:
        self.program = program
        self.core = CORE
        self.seconds = 0.0
        self._notes = notes
        self.ram = Ram(min(ram, M68K_DEVICES))
        self.memory = self.bus = Bus(self.ram)
        self.cpu = M68kCpu()
        try:
            self.engine = M68kEngine(self.bus, self.ram.address)
        except BaseException:
            self.ram.close()
            raise
        self.vmm = Monitor(self.engine, self.bus, self.cpu)
        self._boot()

    def _boot(self) -> None:
        bus, cpu = self.bus, self.cpu
        for segment in self.program.segments:
            bus.view[segment.gpa : segment.gpa + len(segment.data)] = segment.data
        bus.write(4 * Vector.INITIAL_SSP, 4, bus.size)
        bus.write(4 * Vector.INITIAL_PC, 4, self.program.entry)
        cpu.a[7] = bus.read(4 * Vector.INITIAL_SSP, 4)
        cpu.pc = bus.read(4 * Vector.INITIAL_PC, 4)

    def step(self) -> None:
        """Complete one more instruction, or stop."""
        began = perf_counter()
        self.vmm.step()
        self.seconds += perf_counter() - began

    def run_free(self, seconds: float) -> None:
        """Run for at most ``seconds``, or until it stops. It still executes instruction by instruction,
        since the engine checks the rules that Unicorn omits at each one."""
        began = perf_counter()
        vmm, end = self.vmm, began + seconds
        while vmm.stop is None and perf_counter() < end:
            for _ in range(BURST):
                vmm.step()
        self.seconds += perf_counter() - began

    @property
    def stop(self) -> Stop | None:
        return self.vmm.stop

    def state(self) -> tuple[int, ...]:
        """All registers, in the order of ``state_names``."""
        return self.cpu.state()

    def console(self) -> str:
        return self.bus.console.decode("latin-1")

    def type_text(self, text: bytes) -> None:
        """Ignored: it has no keyboard."""

    def save(self) -> M68kState:
        """The state of everything but RAM, unaffected by what happens later."""
        return M68kState(self.cpu.copy(), self.bus.save(), self.vmm.save())

    def restore(self, state: M68kState) -> None:
        """Go back to a saved state; the caller has put RAM back before."""
        self.cpu.assign(state.cpu)
        self.bus.restore(state.bus)
        self.vmm.restore(state.vmm)

    def report(self) -> CoreReport:
        """The machine's present state, or its ending, as a report."""
        vmm = self.vmm
        return CoreReport(
            core=self.core, engine=self.engine.traits.engine, available=True,
            reason=vmm.reason or None, stop=vmm.stop, instructions=vmm.instructions,
            device_accesses=self.bus.accesses, console=self.console(),
            registers=dict(zip(STATE_NAMES, self.state(), strict=True)),
            memory=RamImage.of(self.ram),
            notes=self.notes(), seconds=self.seconds,
        )  # fmt: skip

    def snapshot(self, before: tuple[int, ...]) -> MachineSnapshot:
        """The machine at this moment. before: the registers when the user stopped last."""
        vmm, traits, now = self.vmm, self.engine.traits, self.state()
        old = {
            name: was
            for name, was, value in zip(STATE_NAMES, before, now, strict=True)
            if was != value and name != "pc"
        }
        done = None if vmm.last is None else disassembly.line(vmm.last, vmm.last_pc)
        return MachineSnapshot(
            core=self.core, engine=traits.engine, label=traits.label, where=self.engine.where(),
            registers=dict(zip(STATE_NAMES, now, strict=True)), changed=frozenset(old), before=old,
            ring=0 if self.cpu.supervisor else 3, real_ring=None, instructions=vmm.instructions,
            exits=0, exits_by_reason={}, device_accesses=self.bus.accesses, bridged=0,
            console=self.console(), screen=None, stop=vmm.stop, reason=vmm.reason, exit_status=None,
            code=disassembly.code(self.bus, self.cpu.pc, self.program.start), events=(),
            notes=self.notes(), done=done,
        )  # fmt: skip

    def notes(self) -> tuple[str, ...]:
        """Remarks for the user that are shown beside the figures."""
        return self._notes

    def close(self) -> None:
        """Release the engine, then the memory it maps."""
        self.engine.close()
        self.ram.close()
