"""A student's run held against ours: did it end alike, and where do the two part first?

Exits are paired in order. Those at which the VMM did nothing that the guest could see (a page mapped
in the shadow tables, the host's timer) are the VMM's own affair and left out, and the iterations of a
REP instruction count as one exit, however many the VMM made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cores.lab.journal import own_fault
from cores.lab.log import NAMES, RFLAGS, RIP, Event, Run
from cores.plural import counted
from cores.x86.registers import FLAG_BITS, MASK32, RAX, RCX, Flag

MOST_SHOWN = 60
"""Characters of a console in a message."""
_ACCESSED = 0x60
_ENDS = {"halted": ", by guest.halt()", "shutdown": ", by guest.shutdown()"}
LOADS_FLAGS = frozenset({"popf", "iret", "sysret"})
"""Only after these are the status flags compared: after others they may be undefined (MOV to CR3), and
after ordinary instructions they are not the VMM's doing."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The first difference. number: the student's exit, 0 for none; ours: the index of our event.
    words: a sentence."""

    number: int
    ours: int
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """passed: whether the step's demand is met. words: what is wrong, "" where nothing is. parting:
    the first difference in the exits, None where there is none (as far as the logs go)."""

    passed: bool
    words: str
    parting: Parting | None


def judged(student: Run, ours: Run, *, strict: bool, hidden: bool) -> Verdict:
    """strict: the exits have to be equal, too. hidden: do not tell what a right console holds."""
    parting = first_parting(student, ours)
    wrong = [] if student.words else _outcome(student, ours, hidden=hidden, placed=parting is not None)
    if student.words:
        line = f"line {student.line}: " if student.line else ""
        before = " (before the first exit)" if student.line and not student.late else ""
        after = f" (after exit {student.exits})" if student.exits else before
        wrong.append(f"{line}{student.words}{after}")
    repeated = parting is not None and any(
        words in student.words and words in parting.words
        for words in ("left RIP", "is the guest's own")
    )
    if parting is not None and (wrong or strict) and not repeated:
        wrong.insert(0, parting.words)
    return Verdict(not wrong, "; ".join(wrong), parting)


def _outcome(student: Run, ours: Run, *, hidden: bool, placed: bool) -> list[str]:
    """What is different at the end, in words. placed: they say already where."""
    wrong = []
    if student.stop == "returned":
        wrong.append(f"your vmm() returned {_returned(student)}")
    elif (student.stop, student.status) != (ours.stop, ours.status):
        where = "" if placed or not student.events else f"at exit {student.exits} "
        if where and (last := student.events[-1]).number == student.exits:
            where = f"at exit {last.number}, {_at(last)}, "
        wrong.append(f"{where}it ended with {_end(student)}, under our VMM with {_end(ours)}")
    for what, theirs, right in (
        ("console", student.console, ours.console), ("screen", student.screen, ours.screen)
    ):  # fmt: skip
        if theirs != right:
            shown = "not what our VMM's shows" if hidden else f"and under our VMM {_quoted(right)}"
            wrong.append(f"the {what} shows {_quoted(theirs)}, {shown}")
    return wrong


def _returned(student: Run) -> str:
    """Where, and what to do."""
    last = student.events[-1] if student.events else None
    if last is None:
        return "without guest.enter(), which lets the guest run"
    if last.number != student.exits:  # of a long log the end is missing
        return f"after exit {student.exits}, with the guest still running: loop while guest.running"
    moved = student.registers[RIP] != last.rip
    advice = "loop while guest.running" if moved else "handle it and go on"
    return f"{_with_reason(last)}, exit {last.number}, with the guest still running: {advice}"


def _end(run: Run) -> str:
    return run.stop if run.status is None else f"{run.stop} and status {run.status}"


def _quoted(text: str | None) -> str:
    if not text:
        return "nothing"
    return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + " ...")


def seen(events: list[Event]) -> list[Event]:
    """The exits that are compared: see the module's docstring."""
    found: list[Event] = []
    for event in events:
        if event.quiet:
            continue
        last = found[-1] if found else None
        if (
            event.repeat
            and last is not None
            and last.repeat
            and last.rip == event.rip == last.after[RIP]
        ):
            found[-1] = replace(last, after=event.after, writes=last.writes + event.writes)
        else:
            found.append(event)
    return found


def first_parting(student: Run, ours: Run) -> Parting | None:
    """The first exit at which the two differ."""
    theirs, right = seen(student.events), seen(ours.events)
    for index, (mine, our) in enumerate(zip(theirs, right, strict=False)):
        before = theirs[index - 1] if index else None
        shuts_down = ours.stop == "shutdown" and index == len(right) - 1
        if words := _differ(mine, our, before, shuts_down=shuts_down):
            return Parting(mine.number, index, words)
    if len(theirs) > len(right) and student.exits <= len(student.events):
        extra = theirs[len(right)]
        words = f"exit {extra.number}, {_at(extra)}, comes when under our VMM the guest had ended"
        if right:
            end = _ENDS.get(ours.stop, "")
            words += f": ours ended at exit {right[-1].number}, `{right[-1].asm}`{end}"
        return Parting(extra.number, len(right), words)
    if (
        len(right) > len(theirs)
        and student.exits <= len(student.events)
        and student.stop != "returned"
        and not student.words
    ):
        missing = right[len(theirs)]
        next_ = f"under our VMM the guest is left next {_at(missing)}"
        if not theirs:
            return Parting(0, 0, f"the run ends before the first exit; {next_}")
        last = theirs[-1]
        end = _ENDS.get(student.stop, "")
        words = f"the run ends at exit {last.number}, {_with_reason(last)}{end}; {next_}"
        return Parting(last.number, len(theirs), words)
    return None


def _differ(mine: Event, our: Event, before: Event | None, *, shuts_down: bool) -> str:
    """In words how two exits that should be the same differ, "" where they do not. shuts_down: our VMM
    ends the machine at this one."""
    since = f"after exit {before.number}, {_at(before)}" if before else "from the beginning"
    if mine.rip != our.rip:
        if our.silent:
            return (
                f"{since}, the guest came {_to(our)}, where our VMM is called and yours is not: ring 3"
                f" executes {our.mnemonic} without a trap, and the guest got what this CPU has, not"
                f" what its own has; guest.patch({our.mnemonic!r}) has it trap (your guest was"
                f" left next {_at(mine)})"
            )
        return f"{since}, your guest is left {_with_reason(mine)}, and ours {_at(our)}"
    if mine.reason == "timer" != our.reason != "irq":
        return ""
    if differing := _registers(mine.before, our.before, flags=False):
        return (
            f"{since}, the guest runs {_to(our)} and has other values there: {differing}; so what"
            " your VMM left in memory before is not the same"
        )
    place = f"after exit {mine.number}, {_at(mine)}"
    if not mine.after:
        wrong = _outs(mine, our) if mine.outs else ""
        return wrong and f"{place}: {wrong}"
    if shuts_down and mine.after[RIP] != our.after[RIP]:
        return f"{place}: your VMM lets the guest go on, ours calls guest.shutdown()"
    if wrong := _asked(mine, our):
        return f"{place}: {wrong}"
    if differing := _registers(mine.after, our.after, flags=our.mnemonic in LOADS_FLAGS):
        if mine.after[RIP] == mine.before[RIP] != our.after[RIP]:
            if mine.own:
                return f"{place}: {own_fault(mine)}"
            return f"{place}: your VMM left RIP at the instruction: it runs again"
        return f"{place}: {differing}"
    if wrong := _outs(mine, our):
        return f"{place}: {wrong}"
    if stored := _stores(mine, our):
        return f"{place}: {stored}"
    return ""


def _at(event: Event) -> str:
    return f"at {event.rip:#x}" + (f" `{event.asm}`" if event.asm else f" ({event.reason})")


def _with_reason(event: Event) -> str:
    return _at(event) + (f" ({event.reason})" if event.asm else "")


def _to(event: Event) -> str:
    return "to" + _at(event).removeprefix("at")


def _registers(mine: tuple[int, ...], ours: tuple[int, ...], *, flags: bool) -> str:
    """The registers that differ, at most three of them."""
    found = []
    for index, (name, theirs, right) in enumerate(zip(NAMES, mine, ours, strict=False)):
        if theirs == right or (index == RFLAGS and not flags):
            continue
        if index == RFLAGS:
            bits_of = [
                f"{flag} is {int(bool(theirs & bits))}, ours {int(bool(right & bits))}"
                for flag, bits in FLAG_BITS.items()
                if (theirs ^ right) & bits and bits != Flag.IF
            ]
            found.append(", ".join(bits_of))
        else:
            found.append(f"{name.upper()} is {theirs:#x}, ours {right:#x}")
    return ", ".join(found[:3]) + (", and more" if len(found) > 3 else "")


def _asked(mine: Event, our: Event) -> str:
    """Whether ``guest.cpuid`` was asked for what CPUID asks for. A VMM may have answers of its own."""
    right = (mine.before[RAX] & MASK32, mine.before[RCX] & MASK32)
    if our.mnemonic != "cpuid" or not mine.asked or right in mine.asked:
        return ""
    leaf, subleaf = mine.asked[0]
    return (
        f"your VMM calls guest.cpuid({leaf:#x}, {subleaf:#x}), and the guest asks for leaf EAX,"
        f" {right[0]:#x}, and subleaf ECX, {right[1]:#x}"
    )


def _outs(mine: Event, our: Event) -> str:
    """How the writes to ports differ. Those of OUTS are not compared: a VMM may do them in parts."""
    if mine.outs == our.outs or our.mnemonic == "outs":
        return ""
    if not our.outs:
        port, _, value = mine.outs[0]
        return f"your VMM writes {value:#x} to port {port:#x}, ours writes to none"
    (port, size, value), *_ = our.outs
    if not mine.outs:
        return f"our VMM writes {value:#x} to port {port:#x}, yours writes to none"
    if len(mine.outs) > 1:
        return f"your VMM writes to ports {len(mine.outs)} times, ours once"
    (theirs, length, number), *_ = mine.outs
    if theirs != port:
        return f"your VMM writes {number:#x} to port {theirs:#x}, ours to {port:#x}"
    if length != size:
        return f"your VMM writes {_bytes_of(length)} to port {port:#x}, ours {_bytes_of(size)}"
    return f"your VMM writes {number:#x} to port {port:#x}, ours {value:#x}"


def _bytes_of(size: int) -> str:
    return f"{size} byte{'s' * (size > 1)}"


def _stores(mine: Event, our: Event) -> str:
    """The first memory that our VMM stored to and the student's has otherwise."""
    theirs = _bytes(mine)
    for at, data in our.writes:
        whole = bytes.fromhex(data)
        for offset in range(0, len(whole), 8):  # a frame is stored at once
            right = whole[offset : offset + 8]
            place = at + offset
            got = [theirs.get(place + n) for n in range(len(right))]
            if None in got:
                if not _is_mark(right, our):
                    return f"our VMM stores {_number(right)} at {place:#x}, yours stores nothing there"
                continue
            have = bytes(byte for byte in got if byte is not None)
            if have != right:
                return f"your VMM stores {_number(have)} at {place:#x}, ours {_number(right)}"
    return ""


def _is_mark(data: bytes, our: Event) -> bool:
    """Accessed and dirty bits, and a TSS's busy bit, are left to the VMM."""
    return len(data) == 1 or (len(data) in (4, 8) and bool(data[0] & _ACCESSED) and data[0] & 1 == 1
                              and our.mnemonic not in ("pushf", "int"))  # fmt: skip


def _bytes(event: Event) -> dict[int, int]:
    found: dict[int, int] = {}
    for at, data in event.writes:
        found |= dict(enumerate(bytes.fromhex(data), at))
    return found


def _number(data: bytes) -> str:
    return f"{int.from_bytes(data, 'little'):#x} ({counted(len(data), 'byte')})"
