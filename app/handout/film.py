"""A film: what the machines of a lesson did in one move, frame by frame, for a page to show.

A frame is a moment: each machine's registers, exits, next instruction, and what it has printed so far.
A long move has fewer frames than instructions: those at which a machine left its guest are kept, and of
the others as many as there is room for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from app.text import narration
from app.text.marks import mark
from cores.inspection.snapshot import code_around
from cores.machine.machine import Machine
from cores.machine.report import CodeLine, MachineSnapshot, SessionSnapshot
from cores.x86.registers import GPR_NAMES, STATE_NAMES
from lessons.play.stage import ForeignStage, Stage
from lessons.play.values import next_address, short

MOST_FRAMES = 240
"""Of one move."""
MOST_TALKS = 40
"""Dialogues of one move: the newest exits'."""
SHOWN = (*GPR_NAMES, "rip", "rflags", "cr0", "cr2", "cr3")


@dataclass(frozen=True, slots=True)
class Moment:
    """One machine in one frame. next: address of the next instruction. talks: number of its exits so
    far, to look a dialogue up. console: length of its output."""

    done: int | None
    registers: tuple[int, ...]
    next: int
    ring: int
    exits: int
    console: int


Frame = tuple[Moment, ...]


class Camera:
    """Records the frames of a move. Used as the stage's observer (``Moves.observe``)."""

    def __init__(self, stage: Stage | ForeignStage) -> None:
        self._stage = stage
        self._frames: list[Frame] = []

    def begin(self) -> None:
        """A move begins here."""
        self._frames = [self._take()]

    def shoot(self) -> None:
        """One more instruction has been completed."""
        self._frames.append(self._take())

    def end(self) -> list[Frame]:
        """The frames of the move that has ended, thinned out."""
        last = self._take()
        if not self._frames or self._frames[-1] != last:
            self._frames.append(last)
        return list(_thinned(self._frames))

    def _take(self) -> Frame:
        if isinstance(self._stage, Stage):
            return tuple(map(_moment, self._stage.session.machines))
        return tuple(map(_seen, self._stage.snapshot().machines))


def _moment(machine: Machine) -> Moment:
    state = dict(zip(STATE_NAMES, machine.cpu.state(), strict=True))
    return Moment(
        machine.vmm.counted, tuple(state[name] for name in SHOWN), machine.cpu.rip, machine.cpu.cpl,
        machine.vmm.trace.exits, len(machine.board.console),
    )  # fmt: skip


def _seen(machine: MachineSnapshot) -> Moment:
    """A foreign machine's."""
    return Moment(
        machine.instructions, tuple(machine.registers.values()), next_address(machine), machine.ring,
        machine.exits, len(machine.console),
    )  # fmt: skip


def _thinned(frames: list[Frame]) -> Iterator[Frame]:
    """The first and the last frame, those with an exit, and others in between, evenly."""
    if len(frames) <= MOST_FRAMES:
        yield from frames
        return
    kept = {0, len(frames) - 1}
    left = [
        i
        for i in range(1, len(frames))
        if any(a.exits != b.exits for a, b in zip(frames[i - 1], frames[i], strict=True))
    ]
    kept |= set(_evenly(left, MOST_FRAMES // 2))
    kept |= set(_evenly(range(len(frames)), MOST_FRAMES - len(kept)))
    yield from (frames[i] for i in sorted(kept))


def _evenly(numbers: range | list[int], most: int) -> list[int]:
    step = max(1, -(-len(numbers) // max(most, 1)))
    return list(numbers[::step])


def film(
    stage: Stage | ForeignStage, frames: list[Frame], now: SessionSnapshot, *, marks: bool
) -> dict[str, object]:
    """A film as plain values, for JSON. marks: may the code say what leaves the guest?"""
    names = list(SHOWN if isinstance(stage, Stage) else now.machines[0].registers)
    return {
        "cores": [short(machine.core) for machine in now.machines],
        "names": names,
        "code": _code(stage, frames, now, marks=marks),
        "frames": list(_deltas(frames)),
        "console": [machine.console for machine in now.machines],
        "talks": {short(m.core): _talks(m) for m in now.machines if m.events and _speaks(m)},
        "thinned": len(frames) > 2 and any(_jumps(a, b) for a, b in pairwise(frames)),
    }


def _jumps(before: Frame, after: Frame) -> bool:
    return (after[0].done or 0) - (before[0].done or 0) > 1


def _speaks(machine: MachineSnapshot) -> bool:
    return machine.core != "interpreter"


def _talks(machine: MachineSnapshot) -> dict[int, list[tuple[str, str]]]:
    """Number of an exit, from 1 -> its dialogue, of the newest."""
    first = machine.exits - len(machine.events) + 1
    numbered = [(first + i, event) for i, event in enumerate(machine.events)]
    counted = [pair for pair in numbered if pair[0] > 0][-MOST_TALKS:]
    return {
        number: [(line.speaker, line.text) for line in narration.dialogue(event, machine)]
        for number, event in counted
    }


def _deltas(frames: list[Frame]) -> Iterator[list[list[object]]]:
    """Each frame as what has changed in it: per machine instructions, next address, ring, exits,
    length of the console, and {index of a register: value in hexadecimal}."""
    before: tuple[Moment | None, ...] = (None,) * len(frames[0])
    for frame in frames:
        yield [
            [
                now.done, now.next, now.ring, now.exits, now.console,
                {
                    i: f"{value:x}"
                    for i, value in enumerate(now.registers)
                    if old is None or old.registers[i] != value
                },
            ]
            for old, now in zip(before, frame, strict=True)
        ]  # fmt: skip
        before = frame


def _code(
    stage: Stage | ForeignStage, frames: list[Frame], now: SessionSnapshot, *, marks: bool
) -> list[list[object]]:
    """The lines around every place that a frame stands at: address, text, comment, and a mark for each
    machine."""
    lines: dict[int, CodeLine] = {line.address: line for m in now.machines for line in m.code}
    if isinstance(stage, Stage):
        reference = stage.session.machines[0]
        for address in sorted({moment.next for frame in frames for moment in frame}):
            if address not in lines:
                lines |= {line.address: line for line in code_around(reference, address)}
    return [
        [
            line.address, line.text, line.source.partition("#")[2].strip(),
            [mark(m, line).value if marks and m.core != "interpreter" else "" for m in now.machines],
        ]
        for _, line in sorted(lines.items())
    ]  # fmt: skip
