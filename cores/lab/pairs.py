"""Two runs side by side: the student's exits, and ours beside them."""

from __future__ import annotations

from dataclasses import dataclass

from cores.lab.log import NAMES, RFLAGS, Event, Run
from cores.lab.verdict import Parting, seen
from cores.plural import counted
from cores.x86.registers import FLAG_BITS

LONG = 64
"""Bytes of a store that is told by its length."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An exit of each; None where one has none there. parts: here they first differ."""

    mine: Event | None
    ours: Event | None
    parts: bool = False


def pairs(student: Run, ours: Run, parting: Parting | None) -> list[Pair]:
    """All exits of both, in order. Those at which the student's VMM did nothing that the guest could
    see stand alone."""
    theirs, right = seen(student.events), seen(ours.events)
    quiet = [event for event in student.events if event.quiet]
    at = -1 if parting is None else parting.ours
    found: list[Pair] = []
    for index in range(max(len(theirs), len(right))):
        mine = theirs[index] if index < len(theirs) else None
        while quiet and (mine is None or quiet[0].number < mine.number):
            found.append(Pair(quiet.pop(0), None))
        found.append(Pair(mine, right[index] if index < len(right) else None, index == at))
    return found + [Pair(event, None) for event in quiet]


def line(event: Event) -> str:
    """An event in a line: where, what was there, why it was left."""
    return f"{event.rip:x} {event.asm or '-'}  {event.reason}"


def done(event: Event) -> str:
    """What was done at it, in words: registers changed and memory stored."""
    if not event.after:
        return "it was not entered again"
    changed = []
    for index, (name, old, new) in enumerate(zip(NAMES, event.before, event.after, strict=True)):
        if index == RFLAGS:
            changed += [
                f"{flag} {int(bool(new & bits))}"
                for flag, bits in FLAG_BITS.items()
                if (old ^ new) & bits
            ]
        elif old != new:
            changed.append(f"{name} {old:x} to {new:x}")
    stored = [words for at, data in sorted(event.writes) for words in _stored(at, bytes.fromhex(data))]
    written = [f"port {port:x} = {value:x}" for port, _, value in event.outs]
    return ", ".join((*changed, *stored, *written)) or "nothing that the guest could see"


def _stored(at: int, data: bytes) -> list[str]:
    """One store in words; a frame, which our VMM stores at once, as the pushes that it stands for."""
    if len(data) > LONG:
        return [f"[{at:x}] = {counted(len(data), 'byte')}"]
    size = 8 if len(data) % 8 == 0 else 4 if len(data) % 4 == 0 else len(data)
    return [
        f"[{at + n:x}] = {int.from_bytes(data[n : n + size], 'little'):x}"
        for n in range(0, len(data), size)
    ]
