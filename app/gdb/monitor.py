"""The commands behind GDB's ``monitor``: what Ringscope knows and GDB has no word for."""

from __future__ import annotations

from collections.abc import Callable

from app.gdb.target import ALWAYS, BACKWARDS, NEVER, Target
from app.text import narration
from cores.machine.machine import Machine
from cores.vmm.trace import ExitEvent
from cores.x86.mode import mode

HELP = """\
exits            how often each core left the guest, by reason
why              the last exit of this thread's core, explained
log [N]          the last N exits of this thread's core (10)
divergence       what differs between the cores
where            instructions completed, mode and ring of each core
console          what the guest has written so far
type TEXT        type on the guest's keyboard and serial line
stop-at-exits off|backwards|on    whether motion stops at exits (backwards)
alone on|off     whether writes reach this thread's core only (off): it then diverges
"""


def answer(target: Target, line: str) -> str:
    """What the user's console shows. A word that is not known gets the list."""
    word, _, rest = line.strip().partition(" ")
    command = _COMMANDS.get(word)
    if command is None:
        unknown = f"There is no command {word[:40]!r}.\n" if word not in ("", "help") else ""
        return unknown + HELP
    return command(target, rest.strip())


def _exits(target: Target, _: str) -> str:
    lines = []
    for machine in target.session.machines:
        trace = machine.vmm.trace
        if not machine.engine.traits.exits_for:
            lines.append(f"{machine.core}: 0; software executes it, and nothing has to leave")
            continue
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(trace.by_reason.items()) if n)
        lines.append(f"{machine.core}: {trace.exits}{f' ({reasons})' if reasons else ''}")
    return "\n".join(lines) + "\n"


def _why(target: Target, _: str) -> str:
    machine = target.machine
    events = machine.vmm.trace.events
    event = events[-1] if events else None
    if (pending := machine.vmm.trace.newest) is not None:
        event = pending
    if event is None:
        return f"{machine.core} has not left the guest.\n"
    return (
        f"{narration.subject(event)} at {event.rip:#x}, {narration.progress(event.n)}\n"
        f"reason: {event.reason}; {narration.sentence(event.handled)}\n"
        f"{narration.why(event, machine.core)}\n"
        f"the VMM: {narration.sentence(event.detail)}\n{_cost(event)}"
    )


def _cost(event: ExitEvent) -> str:
    return f"cost: {narration.cost(event)}\n" if event.ns else ""


def _log(target: Target, words: str) -> str:
    if words and not words.isdecimal():
        return "log takes a number of exits.\n"
    count = min(int(words[:6] or 10), 1000)
    events = target.machine.vmm.trace.events[-count:] if count else []
    if not events:
        return f"{target.machine.core} has not left the guest.\n"
    lines = [
        f"{narration.progress(event.n)}: {event.rip:#x} {narration.subject(event)}, {event.reason}"
        for event in events
    ]
    return "\n".join(lines) + "\n"


def _divergence(target: Target, _: str) -> str:
    return target.divergence()


def _where(target: Target, _: str) -> str:
    return "".join(_place(machine) for machine in target.session.machines)


def _place(machine: Machine) -> str:
    cpu = machine.cpu
    return (
        f"{machine.core}: {cpu.rip:#x} {narration.progress(machine.vmm.instructions)},"
        f" {mode(cpu)} mode, ring {cpu.cpl}\n"
    )


def _console(target: Target, _: str) -> str:
    text = target.machine.console()
    return text if text.endswith("\n") or not text else text + "\n"


def _type(target: Target, words: str) -> str:
    target.session.key(words)
    return ""


def _stop_at_exits(target: Target, word: str) -> str:
    if word in (NEVER, BACKWARDS, ALWAYS):
        target.stop_at_exits = word
    elif word:
        return f"stop-at-exits is {NEVER}, {BACKWARDS} or {ALWAYS}.\n"
    return f"stop-at-exits is {target.stop_at_exits}.\n"


def _alone(target: Target, word: str) -> str:
    if word in ("on", "off"):
        target.alone = word == "on"
    elif word:
        return "alone is on or off.\n"
    return f"alone is {'on' if target.alone else 'off'}.\n"


_COMMANDS: dict[str, Callable[[Target, str], str]] = {
    "exits": _exits, "why": _why, "log": _log, "divergence": _divergence, "where": _where,
    "console": _console, "type": _type, "stop-at-exits": _stop_at_exits, "alone": _alone,
}  # fmt: skip
