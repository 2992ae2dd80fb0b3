"""The scripted engine: a fake for tests, which executes nothing and returns the exits of a script.

Tests of the layers above the engines (VMM, sessions, interface) use it where they need an exit at a
certain moment without a guest that causes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cores.pc.physical_memory import PhysicalMemory
from cores.x86.virtual_cpu import VirtualCpu

from ..x86.registers import GPR_NAMES
from .base import (
    ALL_REASONS,
    BUDGET_SPENT,
    INTERRUPTED,
    STEPPED,
    DeprivilegedEngine,
    Engine,
    Exit,
    RingZero,
    Traits,
)

EMPTY_FPU = bytes(512)


@dataclass(frozen=True, slots=True)
class Turn:
    """The effect of one entry.

    exit: returned. changes: the values of changed registers by name: the general ones, or any numeric
        field of ``VirtualCpu`` such as "rip", "rflags", "cr3". stores: (gpa, bytes) that the guest has
        stored. executed: instructions completed, for ``run``.
    """

    exit: Exit = STEPPED
    changes: Mapping[str, int] = field(default_factory=dict)
    stores: tuple[tuple[int, bytes], ...] = ()
    executed: int = 1


class ScriptedEngine(Engine):
    """Plays one ``Turn`` at each ``step`` or ``run``, in order.

    When the script has ended, a step advances RIP by one byte (a guest of NOPs), and a run uses up its
    budget. entered: the guest's RIP at each entry. answers: the arguments of ``complete``.
    """

    def __init__(self, script: Iterable[Turn] = (), traits: Traits | None = None) -> None:
        self.traits = traits or Traits(core="scripted", label="plays a script", engine="script")
        self.script = list(script)
        self.entered: list[int] = []
        self.answers: list[bytes] = []
        self.closed = False
        self._memory: PhysicalMemory | None = None
        self._fpu = EMPTY_FPU
        self._asked = False

    @staticmethod
    def probe() -> str | None:
        """None: it can always run."""
        return None

    def load(self, memory: PhysicalMemory) -> None:
        self._memory = memory

    def step(self, cpu: VirtualCpu) -> Exit:
        self.entered.append(cpu.rip)
        if not self.script:
            cpu.rip += 1
            return STEPPED
        return self._play(self.script.pop(0), cpu)

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        self.entered.append(cpu.rip)
        self.executed = 0
        if self._asked:
            self._asked = False
            return INTERRUPTED
        if not self.script:
            self.executed = budget or 0
            cpu.rip += self.executed
            return BUDGET_SPENT if budget is not None else INTERRUPTED
        turn = self.script.pop(0)
        self.executed = turn.executed
        return self._play(turn, cpu)

    def _play(self, turn: Turn, cpu: VirtualCpu) -> Exit:
        for name, value in turn.changes.items():
            if name in GPR_NAMES:
                cpu.gpr[GPR_NAMES.index(name)] = value
            else:
                setattr(cpu, name, value)
        for gpa, data in turn.stores:
            assert self._memory is not None
            self._memory.view[gpa : gpa + len(data)] = data
        return turn.exit

    def complete(self, data: bytes) -> None:
        self.answers.append(data)

    def read_fpu(self) -> bytes:
        return self._fpu

    def write_fpu(self, image: bytes) -> None:
        self._fpu = bytes(image)

    def interrupt(self) -> None:
        self._asked = True

    def where(self) -> str:
        return "a script"

    def close(self) -> None:
        self.closed = True


class ScriptedTrapEngine(ScriptedEngine, DeprivilegedEngine):
    """A scripted deprivileged engine, whose address spaces only record their mappings.

    mappings: (space, gva) -> (gpa, length, writable, executable). unreachable: guest addresses that
    ``map`` refuses. was_write: the result of ``fault_was_write``.
    """

    def __init__(self, script: Iterable[Turn] = ()) -> None:
        super().__init__(
            script,
            Traits(
                core="scripted",
                label="plays a script",
                engine="script",
                deprivileged=True,
                exits_for=ALL_REASONS,
                ring_zero=RingZero.DEPRIVILEGED,
            ),
        )
        self.mappings: dict[tuple[int, int], tuple[int, int, bool, bool]] = {}
        self.unreachable = range(0)
        self.was_write = False

    def reaches(self, gva: int, length: int) -> bool:
        return gva not in self.unreachable

    def map(
        self, space: int, gva: int, gpa: int, length: int, *, writable: bool, executable: bool,
        twin: bool = False, readable: bool = True, populate: bool = False,
    ) -> bool:  # fmt: skip
        if not self.reaches(gva, length):
            return False
        self.mappings[space, gva] = (gpa, length, writable, executable)
        return True

    def unmap(self, space: int, gva: int, length: int) -> None:
        for key in [k for k in self.mappings if k[0] == space and gva <= k[1] < gva + length]:
            del self.mappings[key]

    def drop_all(self) -> None:
        self.mappings.clear()

    def fault_was_write(self, cpu: VirtualCpu) -> bool:
        return self.was_write
