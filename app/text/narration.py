"""Narration of a world switch: a dialogue of three speakers, and a card with every fact.

Everything said comes from the event (the instruction's bytes, why the guest was left, what the VMM
did, how long it took) and from how the machine brings about ring 0. The speakers are the guest's
operating system, the CPU (or its stand-in), and the host's operating system, for which the VMM speaks.
An interpreter's CPU has no lines: its guest never exits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot
from cores.plural import counted
from cores.vmm.trace import ExitEvent
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import Instruction, Reason, Sensitivity
from cores.x86.isa.sensitive import explain

GUEST, CPU, HOST = "Guest OS", "CPU", "Host OS"

SEEN_COMING = ("found before it ran", "patched")
"""Beginnings of ``ExitEvent.handled`` where the VMM did not let the CPU try."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of one speaker. aside: a fact beside it, for wide screens."""

    speaker: str
    text: str
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One event in full. facts: (name, value) in order; a value may be several sentences."""

    title: str
    facts: tuple[tuple[str, str], ...]


@cache
def cycles_per_nanosecond() -> float | None:
    """This host's clock in GHz (proc_cpuinfo(5)); None where the host does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("cpu MHz"):
                return float(line.partition(":")[2]) / 1000
    except (OSError, ValueError):
        pass
    return None


def meanwhile(ns: int) -> int | None:
    """Cycles of this CPU in that time, to two digits: at one a cycle, the instructions that it could
    have run. None where its clock is not known."""
    clock = cycles_per_nanosecond()
    if clock is None:
        return None
    count = round(ns * clock)
    unit = int(10 ** max(0, len(str(count)) - 2))
    return count // unit * unit


def microseconds(ns: int) -> str:
    us = ns / 1000
    return f"{us:.1f} µs" if us < 100 else f"{us:,.0f} µs"


@cache
def instruction(code: bytes, bits: int = 64) -> Instruction | None:
    """The instruction of an event; None for events that belong to none."""
    if not code:
        return None
    try:
        return decode(code, bits)
    except (GuestFault, Truncated):
        return None


def progress(n: int | None) -> str:
    """The progress of the guest at an exit, in words: "after 1,204 instructions"."""
    if n is None:
        return "instructions not counted"
    return f"after {counted(n, 'instruction')}"


def instruction_text(event: ExitEvent) -> str:
    """ "out dx, al", "" where the event belongs to no instruction."""
    insn = instruction(event.code, event.place.bits)
    return "" if insn is None else text(insn, event.rip)


def subject(event: ExitEvent) -> str:
    """The event in a few words: its instruction, or what came from outside."""
    return instruction_text(event) or event.detail or event.reason.value


def dialogue(event: ExitEvent, m: MachineSnapshot) -> tuple[Line, ...]:
    """The lines of the speakers at this exit of this machine."""
    asm = instruction_text(event)
    lines = []
    if asm and (wish := _wish(event.reason, asm)):
        lines.append(Line(GUEST, wish, f"virtual ring {event.ring}"))
    lines.append(Line(CPU, _cpu(event, m), f"{event.handled}, at {event.rip:x}"))
    lines.append(Line(HOST, _host(event, asm), cost(event)))
    return tuple(lines)


def cost(event: ExitEvent) -> str:
    """Both world switches and the VMM's part, and the CPU's cycles in that time."""
    words = f"{microseconds(event.ns)}, of which the VMM {microseconds(event.vmm_ns)}"
    count = meanwhile(event.ns)
    return words if count is None else f"{words}: some {count:,} cycles"


_WISHES = {
    Reason.IO: "talk to a device for me.",
    Reason.MMIO: "that address is a device.",
    Reason.HLT: "wake me when something happens.",
    Reason.CR: "I rule the control registers.",
    Reason.MSR: "this register is mine as well.",
    Reason.DESCRIPTOR: "these are my tables now.",
    Reason.FLAGS: "I decide whether interrupts come.",
    Reason.SEGMENT: "load my segment.",
    Reason.INT: "call my handler.",
    Reason.IRET: "back to where I was interrupted.",
    Reason.SYSCALL: "into my kernel.",
    Reason.SYSRET: "back to my program.",
    Reason.CPUID: "who are you?",
    Reason.TSC: "what time is it?",
    Reason.INVLPG: "I changed a page, forget it.",
    Reason.STATE: "I rule this machine.",
    Reason.HYPERCALL: "hypervisor, I know that you are there.",
    Reason.SHUTDOWN: "... and I have no handler for what follows.",
    Reason.SHADOW: "it is only my own memory.",
    Reason.SCAN: "it is only my own code.",
    Reason.CALLOUT: "may I be interrupted?",
}

_QUESTIONS = {
    ("sgdt", "sidt", "sldt", "str"): "where are my tables?",
    ("lar", "lsl", "verr", "verw"): "what is this segment to me?",
    ("pushf",): "which flags do I have?",
    ("popf",): "these are my flags now.",
    ("rdmsr",): "what is in my register?",
    ("smsw",): "what is in my control register?",
    ("wrmsr",): "put this into my register.",
}
"""Wishes that belong to an instruction rather than to its reason."""


def _wish(reason: Reason, asm: str) -> str:
    """The guest's line: what its operating system asks of the CPU."""
    for mnemonics, words in _QUESTIONS.items():
        if asm.startswith(mnemonics) and reason not in (Reason.EXCEPTION, Reason.SHUTDOWN):
            return f"CPU, `{asm}`: {words}"
    if reason is Reason.CR and asm.startswith("mov") and ", cr" in asm:
        return f"CPU, `{asm}`: what is in my control register?"
    words = _WISHES.get(reason, "")
    return f"CPU, `{asm}`: {words}" if words else f"CPU, `{asm}`."


def _cpu(event: ExitEvent, m: MachineSnapshot) -> str:
    """The CPU's line: here the machines differ."""
    reason = event.reason
    if reason is Reason.IRQ:
        return "(a device has raised its interrupt line)"
    if reason is Reason.SHADOW:
        return "I have no mapping for that page. Host?"
    if reason is Reason.SCAN:
        return "That page may not run before the host has read it. Host?"
    if reason is Reason.CALLOUT:
        return "A jump stands there. It leads to a routine of the host's, in your own process."
    if reason in (Reason.EXCEPTION, Reason.SHUTDOWN):
        return f"That is a fault: {event.detail}. Host, it is your guest's."
    if m.core == "kvm":
        return _cpu_with_kvm(event, m.ring_zero)
    if reason is Reason.MMIO:
        return "There is no memory at that address. Host?"
    if event.handled.startswith(SEEN_COMING):
        insn = instruction(event.code, event.place.bits)
        if insn is not None and insn.sensitivity is Sensitivity.ABSENT:
            return "(was not asked: the guest's CPU has no such instruction)"
        return "(was not asked: in ring 3 it would go wrong, without a fault)"
    if reason is Reason.SYSCALL:
        return "That would enter the real kernel, and you are held. Host?"
    return "That is privileged, and you are in ring 3. I stop. Host?"


def _cpu_with_kvm(event: ExitEvent, ring_zero: RingZero) -> str:
    """The CPU's line at a return from KVM. In exact mode the VMM takes what a step could change."""
    if event.handled.startswith(SEEN_COMING):
        return "(was not asked: in exact mode the VMM completes it in KVM's place)"
    match ring_zero:
        case RingZero.GUEST_MODE:
            return "That reaches beyond the guest: I left guest mode. Host?"
        case RingZero.INTERPRETED if event.ring == 0:
            return "(was not asked: KVM interprets ring 0, and came to this)"
        case _:
            return "That reaches beyond the guest: I entered the host's kernel. Host?"


def _host(event: ExitEvent, asm: str) -> str:
    """The host's line: what the VMM did."""
    did = sentence(event.detail)
    match event.reason:
        case Reason.EXCEPTION:
            return "His own fault, so his own handler shall have it: I entered it as a CPU would."
        case Reason.SHUTDOWN:
            return "No handler could be entered, nor one for that: a triple fault. The machine is off."
        case Reason.IRQ:
            return f"I entered his handler as a CPU would: {event.detail}."
        case Reason.SHADOW:
            return f"His page tables allow it, so I mapped {event.detail}. Try again."
        case Reason.SCAN:
            return f"I read {event.detail} and patched what would not trap. Go on."
        case Reason.CALLOUT:
            return "I was not asked: my routine keeps his virtual flags, and he never left."
        case Reason.MMIO:
            return f"That is a device: {event.detail}, {event.handled}. Go on."
        case Reason.IO:
            verb = "asked" if asm.startswith(("in", "rep in")) else "told"
            did = f"I {verb} his device: {event.detail}."
    if event.handled.startswith(SEEN_COMING):
        return f"I read ahead, and saw it coming. {did}"
    return f"{did} Go on after it."


def sentence(words: str) -> str:
    """ "virtual IF = 0" -> "Virtual IF = 0." """
    words = words.strip() or "done"
    return words[0].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def why(event: ExitEvent, core: str) -> str:
    """The rule, of the architecture or of KVM, by which the guest was left here."""
    insn = instruction(event.code, event.place.bits)
    match event.reason:
        case Reason.IRQ:
            return "An interrupt line of a device is raised, and the guest's interrupts are enabled."
        case Reason.SHADOW:
            return "The page was not mapped for the CPU yet: the VMM copies mappings as they are used."
        case Reason.SCAN:
            return "Code runs freely only after the VMM has looked for what would not trap in it."
        case Reason.CALLOUT:
            return "In free mode the VMM answers CLI, STI, PUSHF and POPF inside the guest's process."
        case Reason.EXCEPTION:
            return "An exception of the guest's own making; on real hardware too it enters a handler."
        case Reason.SHUTDOWN:
            return "An exception while delivering a double fault: the CPU gives up (SDM vol. 3, 6.15)."
        case Reason.MMIO:
            return "No RAM stands behind this physical address, but a device."
    entry = None if insn is None else explain(text(insn, event.rip))
    if entry is None:
        return sentence(event.handled)
    seen = event.handled.startswith(SEEN_COMING)
    of_kvm = entry.cores["kvm, exact" if seen else "kvm, free"]
    return f"{sentence(entry.why)} {sentence(of_kvm if core == 'kvm' else entry.rule)}"


def card(event: ExitEvent, m: MachineSnapshot, number: int, place: str = "") -> Card:
    """Everything known of one event. number: its place among the machine's exits, from 1. place: the
    function and the line of the source, "" where they are not known."""
    asm = instruction_text(event)
    where = f"rip {event.rip:x}" + (f" ({place})" if place else "")
    facts = [
        ("instruction", asm or "none: it came from outside"),
        ("bytes", event.code.hex(" ") or "none"),
        (
            "where",
            f"{where}, virtual ring {event.ring}, {progress(event.n)}",
        ),
        ("reason", f"{event.reason.value}: {event.handled}"),
        ("rule", why(event, m.core)),
        ("the VMM", sentence(event.detail)),
        ("cost", _cost_in_full(event)),
    ]
    return Card(f"Exit {number:,} of {m.core}", tuple(facts))


def _cost_in_full(event: ExitEvent) -> str:
    words = (
        f"{microseconds(event.ns)} from leaving the guest to entering it again, both world switches"
        f" included; the VMM's own part is {microseconds(event.vmm_ns)}."
    )
    count = meanwhile(event.ns)
    if count is None:
        return words
    return f"{words} At one a cycle this CPU could have run about {count:,} instructions meanwhile."
