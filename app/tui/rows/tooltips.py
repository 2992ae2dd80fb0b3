"""Tooltips of a machine's pane: pure functions from a snapshot and the cell under the mouse."""

from __future__ import annotations

from app.text.marks import Mark, mark
from app.tui.rows.machine_parts import GUTTER, SHORT_NAMES, View, kind
from app.tui.rows.registers import register_file
from app.tui.rows.rows import Row, width_of
from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot
from cores.pc.stop import Stop
from cores.x86.registers import SEGMENT_NAMES, Cr0, Cr4, Efer

REGISTERS = {
    "rsp": "The stack pointer.",
    "rip": "The instruction pointer.",
    "rcx": "A general register; the counter of loop and rep, the amount of a shift.",
    "rsi": "A general register; where string instructions read.",
    "rdi": "A general register; where string instructions write.",
    "cs": "The code segment. Its two low bits are the ring.",
    "ss": "The stack segment.",
    "cr0": "Control register 0: protection and paging.",
    "cr2": "The address of the last page fault.",
    "cr3": "Where the page tables begin (physical).",
    "cr4": "Control register 4: extensions of paging and SSE.",
    "cr8": "The task priority: interrupts at or below it wait.",
    "efer": "Long mode, SYSCALL, no-execute pages.",
    "fs_base": "What an access by FS is counted from.",
    "gs_base": "What an access by GS is counted from.",
    "sr": "The status register: flags, interrupt level, supervisor.",
    "usp": "The user's stack pointer.",
    "ssp": "The supervisor's stack pointer.",
    "pc": "The program counter.",
    "a7": "The stack pointer of the present mode.",
}
_BITS = {"cr0": Cr0, "cr4": Cr4, "efer": Efer}

FLAGS = {
    "of": "Overflow: the signed result did not fit.",
    "df": "Direction: string instructions count down.",
    "if": "Interrupts are taken. On a trap core the guest's IF is virtual: the real one stays set.",
    "tf": "Trap: an exception after each instruction.",
    "sf": "Sign: the result is negative.",
    "zf": "Zero: the result is 0.",
    "af": "Auxiliary carry, of the low four bits.",
    "pf": "Parity: the result's low byte has an even number of ones.",
    "cf": "Carry: the unsigned result did not fit.",
    "t": "Trace: an exception after each instruction.",
    "s": "Supervisor mode.",
    "x": "Extend: the carry of multi-word arithmetic.",
    "n": "Negative.",
    "z": "Zero.",
    "v": "Overflow.",
    "c": "Carry.",
}

OF_KVM = (
    "Sensitive, but KVM has the guest's own state for it, and no exit is needed. In exact mode the VMM"
    " completes most of these in KVM's place, and no exit is counted."
)
SENSITIVE = {
    "direct": "Not sensitive: it means the same in every ring.",
    "privileged": "Privileged: in ring 3 the CPU refuses it, and on a trap core the VMM does its work.",
    "silent": "Sensitive, but in ring 3 it does not trap, and its result is none for a kernel.",
    "data": "Data, as the source lays it down: nothing to execute.",
    "absent": "Not a part of the CPU that the guest is promised.",
}

_REALLY = {
    RingZero.SIMULATED: "In truth it runs in no ring: software computes it.",
    RingZero.DEPRIVILEGED: "In truth this CPU executes all of it in ring 3.",
    RingZero.GUEST_MODE: "The CPU executes it there, in its guest mode with four rings of its own.",
    RingZero.INTERPRETED: "This KVM has no hardware support: the host's kernel interprets ring 0, and"
    " this CPU executes ring 3.",
    RingZero.UNKNOWN: "Whether the CPU or KVM's kernel executes ring 0, this host does not say.",
}


def ring_tip(m: MachineSnapshot) -> str:
    """The ring that the guest believes in, and what executes it on this machine."""
    if m.ring_zero is RingZero.DEPRIVILEGED and m.real_ring is None:
        really = "An emulator at ring 3 stands in for this CPU."
    else:
        really = _REALLY[m.ring_zero]
    return f"The guest believes to be in ring {m.ring}. {really}"


_RING_WORDS = {
    ", really", ", for real", ", simulated", ", guest mode", ", interpreted", ", in kvm",
}  # fmt: skip


def register_tip(m: MachineSnapshot, view: View, name: str) -> str:
    """Value, meaning, bits, and what the marks beside it say."""
    value = m.registers.get(name, 0)
    lines = [f"{name} = {value:#x} = {value:,}{_as_text(value)}"]
    other = "A segment register." if name in SEGMENT_NAMES else "A general register."
    lines.append(REGISTERS.get(name, other))
    if name in _BITS:
        bits = {n: b for n, b in vars(_BITS[name]).items() if n.isupper()}
        lines.append("Set: " + (" ".join(n for n, bit in bits.items() if value & bit) or "nothing"))
    if name in m.changed:
        lines.append("Just changed.")
    if name in m.reads:
        lines.append("Read by the next instruction.")
    if name in view.differs:
        lines.append("The machines differ in it.")
    return "\n".join(line for line in lines if line)


def _as_text(value: int) -> str:
    return f" = {chr(value)!r}" if 0x20 <= value < 0x7F else ""


def register_at(line: Row, x: int, m: MachineSnapshot) -> str:
    """The register whose name or value stands in cell ``x`` of a row; "" for none."""
    names = {SHORT_NAMES.get(name, name): name for name in m.registers}
    found, at = "", 0
    for text, _ in line:
        label = text.strip()
        if label in names:
            found = names[label]
        if at <= x < at + width_of(text):
            return found if label else ""
        at += width_of(text)
    return ""


def flag_tip(line: Row, x: int, m: MachineSnapshot) -> str:
    """Tooltip of the flag under the mouse, or of the ring at the row's end."""
    at = 0
    file = register_file(m)
    words = ""
    for text, _ in line:
        if at <= x < at + width_of(text):
            words = text.strip().lower()
            break
        at += width_of(text)
    bit = next((bit for name, bit in file.flags if name == words), None)
    if bit is not None:
        up = m.registers.get(file.flags_in, 0) >> bit & 1
        return f"{words.upper()} = {up}\n{FLAGS.get(words, '')}"
    if words in _RING_WORDS or words.startswith("ring") or words.isdigit():
        return ring_tip(m)
    return "Flags: in capitals where set."


def code_at(m: MachineSnapshot, line: Row) -> CodeLine | None:
    """The instruction that a row of a pane shows."""
    texts = [text for text, _ in line]
    return next((code for code in m.code if f"{code.address:6x}  " in texts), None)


def code_tip(m: MachineSnapshot, line: CodeLine, view: View, *, gutter: bool) -> str:
    """Tooltip of an instruction; gutter: of the sign at its right."""
    if gutter:
        return gutter_tip(m, line)
    lines = [f"{line.code.hex(' ')}", line.source, SENSITIVE.get(line.kind, "")]
    lines.append(f"A click {'clears' if line.address in view.breakpoints else 'sets'} a breakpoint.")
    return "\n".join(words for words in lines if words)


def gutter_tip(m: MachineSnapshot, line: CodeLine) -> str:
    times = f" So far {line.exits:,} time{'s' * (line.exits != 1)}." if line.exits else ""
    match mark(m, line):
        case Mark.NONE if line.kind == "data":
            return SENSITIVE["data"]
        case Mark.NONE:
            return "An emulator executes this: nothing ever leaves for the host."
        case Mark.SILENT:
            words = "Sensitive, but it does not trap by itself: the VMM has to find it before it runs."
            return words + times
        case Mark.LEAVES:
            return _leaves(m, line) + times
        case Mark.DIRECT | Mark.INTERPRETED if line.kind != "direct":
            return OF_KVM
        case Mark.INTERPRETED:
            return "In ring 0 KVM, in the host's kernel, interprets this: no exit to the VMM."
        case Mark.DIRECT if m.core == "trap:portable":
            return "Runs in ring 3 of the emulator that stands in for the CPU, without the VMM."
        case Mark.DIRECT:
            return "Runs directly on the CPU, without the host."


def _leaves(m: MachineSnapshot, line: CodeLine) -> str:
    if m.core == "kvm":
        return "Leaves the guest here: KVM comes back to the VMM, whose devices and time these are."
    if line.kind == "absent":
        return (
            "Leaves the guest here: its CPU lacks the instruction, and the VMM finds it before it runs."
        )
    return "Leaves the guest here: the CPU stops it and calls the host."


def counter_tip(m: MachineSnapshot) -> str:
    """The meaning of the two counters."""
    counted = (
        "Instructions completed."
        if m.instructions is not None
        else "The CPU ran on its own: its instructions are not counted."
    )
    exits = {
        "interpreter": "Exits: an emulator has none.",
        "trap": "Exits: how often the guest was stopped and the VMM did something for it.",
        "kvm": "Exits: how often KVM came back to the VMM for a device or HLT; the steps of exact mode"
        " are not counted.",
    }[kind(m.core)]
    if m.emulated:
        exits += f" Not among them: {m.emulated:,} that exact mode had the VMM complete."
    if m.kernel_exits is not None and "exits" in m.kernel_exits:
        steps = ", steps included" if m.instructions is not None else ""
        exits += f" The host's kernel counts {m.kernel_exits['exits']:,} exits in all{steps}."
    top = sorted(m.exits_by_reason.items(), key=lambda pair: -pair[1])[:4]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in top)
    bridged = f"Bridged: {m.bridged:,}, which the CPU should have executed and software did."
    return "\n".join(words for words in (counted, exits, reasons, bridged * bool(m.bridged)) if words)


def title_tip(m: MachineSnapshot, view: View) -> str:
    where = f"\nRegisters: {m.where}" if m.where else ""
    notes = "".join(f"\n{note}" for note in m.notes)
    label = m.label[:1].upper() + m.label[1:]
    return f"{label}, by {m.engine}.{where}{notes}\n{view.number} shows and hides it."


def foot_tip(m: MachineSnapshot, view: View) -> str:
    if m.stop is Stop.ERROR:
        return "It has left the comparison: the host could not go on with it."
    if view.equal is None and view.number == 1:
        return "The first machine: the others are compared with it."
    if view.equal is None:
        return "Not compared with the first machine: in free mode each runs by itself."
    if view.equal:
        return "Equal to the first machine in registers, written memory and output, wherever compared."
    return "It differs from the first machine: see the line above the panes."


def pane_tip(part: str, m: MachineSnapshot, view: View, line: Row, x: int, width: int) -> str:
    """part: what stands in that row (``machine_rows.parts``). x: cell in the pane's row ``line``."""
    match part:
        case "title" | "headline":
            return title_tip(m, view)
        case "registers" | "system":
            name = register_at(line, x, m)
            return register_tip(m, view, name) if name else ""
        case "flags":
            return flag_tip(line, x, m)
        case "code":
            found = code_at(m, line)
            if found is None:
                return ""
            return code_tip(m, found, view, gutter=x >= width - 2 - GUTTER)
        case "console":
            return "What the guest has printed, or its VGA screen. v shows all of it."
        case "counter":
            return counter_tip(m)
        case "foot":
            return foot_tip(m, view)
    return ""
