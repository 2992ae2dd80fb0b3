"""Tooltips: what stands in a cell of the session screen, explained."""

from __future__ import annotations

from dataclasses import replace

from app.text.marks import Mark, mark
from app.tui.lanes import header
from app.tui.lanes.compose import Picture
from app.tui.lanes.facts import time_away
from app.tui.lanes.log import Events, visible
from app.tui.lanes.program import listing
from app.tui.lanes.scene import Lane, Scene, kind
from app.tui.lanes.source import NONE
from app.tui.rows.registers import register_file
from app.tui.rows.rows import Row, printable, row, width_of
from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot
from cores.plural import counted
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

MODES = {
    "exact": "The program, and how it runs: exact, all machines together, one instruction at a time,"
    " or at full speed to where they meet again, and compared there.",
    "free": "The program, and how it runs: free, each machine at full speed by itself.",
}
EQUIVALENCE = (
    "Equivalence, the first of Popek and Goldberg's properties: the machines are compared in registers,"
    " written memory and output, after every step, and after every stretch at full speed. Steps are how"
    " far they have been found equal."
)
CONTROL = (
    "Resource control, the second: nothing the guest does reaches the host. An audit asks the host's"
    " kernel what the guest's processes have: nothing but guest RAM, no open file, no way to a system"
    " call. A guest in KVM is held by the host's kernel, by means of the CPU's guest mode where there"
    " is hardware support; an emulator's is only data."
)
EFFICIENCY = (
    "Efficiency, the third: the share of the instructions that ran directly on the CPU, without the"
    " VMM, on the trap core; without one, on KVM. It is not counted while the CPU runs on its own, nor"
    " on a KVM whose kernel interprets ring 0."
)
ACTIVITY = "What goes on now. space runs and pauses, + and - change the speed."


_REALLY = {
    RingZero.SIMULATED: "In truth it runs in no ring: software computes it.",
    RingZero.DEPRIVILEGED: "In truth this CPU executes all of it in ring 3.",
    RingZero.GUEST_MODE: "The CPU executes it there, in its guest mode with four rings of its own.",
    RingZero.INTERPRETED: "This KVM has no hardware support: the host's kernel interprets ring 0, and"
    " this CPU executes ring 3.",
    RingZero.UNKNOWN: "Whether the CPU or KVM's kernel executes ring 0, this host does not say.",
}


FACTS = {
    "names": "The machines. All run the same program, instruction by instruction. The number shows and"
    " hides one; a click chooses whose exits are listed.",
    "who": "Who turns the guest's instructions into deeds: software that reads each of them, or a CPU"
    " that just executes them.",
    "general": "Where the registers are that a program computes with. On a CPU they are the CPU's own;"
    " for an emulator they are data.",
    "privileged": "Where the registers are that only a kernel may touch. A guest that runs in ring 3"
    " gets those that the VMM keeps for it.",
    "ring": "The privilege that the guest's kernel believes to have, and what it really has.",
    "left": "How often the CPU was taken from the guest for the host to do something, and for how long"
    " in all, both world switches included.",
    "bar": "The share of the instructions that were done without the VMM: Popek and Goldberg's third"
    " property, efficiency.",
    "rates": "Exits a second, over the last seconds.",
}
TRACK = (
    "Who had the CPU at each of the latest instructions, the newest at the right: the guest's code, the"
    " host's kernel (KVM's software, too), or Ringscope. Where the line goes down, the guest was left."
)
LOWER = {
    "ways": "What each machine does with this instruction. Times are those of exits, from leaving the"
    " guest to entering it again; the stepping of exact mode is not in them. Enter tells it in full.",
    "conversation": "The same exit, as the guest's OS, the CPU and the host talk about it.",
    "reasons": "How often each machine's guest was left, by reason, and for how long. A machine without"
    " an entry does the same work without leaving.",
    "log": "Exits of one machine: instructions before it, address, reason, instruction, what it was"
    " about, time away. up and down choose one, Enter opens it; left and right: another machine.",
}


def waiting_rows(activity: str, failure: str, width: int) -> list[Row]:
    """Before there is a session, or where there is none."""
    words = failure or f"The machines are {activity}."
    return [
        row(" ", ("Ringscope", "strong")),
        row((f" {printable(words)}", "bad" if failure else "dim")),
    ]


def exit_at(scene: Scene, y: int, height: int) -> int | None:
    """The number of the exit in a row of the log."""
    m = next((m for m in scene.machines if m.core == scene.chosen), None)
    if m is None or y < 0:
        return None
    shown = Events(m, scene.selected, scene.fetched, scene.begin)
    lines = visible(shown, height)
    return lines[y][0] if y < len(lines) else None


def tip(scene: Scene, picture: Picture, region: str, x: int, y: int) -> str:
    """Of the cell at column ``x`` of row ``y`` of a region; "" for none."""
    lines = picture.rows.get(region, [])
    line = lines[y] if y < len(lines) else ()
    match region:
        case "header":
            return _property(scene, line, x)
        case "facts":
            return _fact(scene, x, y)
        case "track":
            return TRACK
        case "program":
            address = picture.addresses[y] if y < len(picture.addresses) else None
            return "" if address is None else _line(scene, address, x)
        case "lower":
            return "" if scene.inside or scene.lesson else LOWER[scene.view]
        case "registers":
            name = register_at(line, x, scene.reference)
            return register_tip(scene, scene.reference, name) if name else ""
        case "latest":
            return LOWER["log"]
        case "output":
            return "What the guest has printed, or its VGA screen. v shows all of it."
        case "rule":
            return (
                "The program, once: green where the CPU itself executes it, blue where software does."
            )
    return ""


def _property(scene: Scene, line: Row, x: int) -> str:
    whole = "".join(text for text, _ in line)
    parts = (
        (header.equality(scene), EQUIVALENCE), (header.confinement(scene), CONTROL),
        (header.efficiency(scene), EFFICIENCY),
    )  # fmt: skip
    last = 0
    for part, words in parts:
        text = "".join(t for t, _ in part)
        at = whole.find(text) if text else -1
        if at >= 0 and at <= x < at + len(text):
            return words
        last = max(last, at + len(text))
    return ACTIVITY if x > last else MODES.get(scene.s.mode, "")


def _fact(scene: Scene, x: int, y: int) -> str:
    if scene.alone or scene.own or scene.projector:
        names = {"own": ("names", "general"), "projector": ("names", "who", "ring", *["left"] * 3)}
        order: tuple[str, ...] = names["own" if scene.own else "projector"]
        if scene.alone:
            order = ("names", "left")
    else:
        order = (
            "names",
            "who",
            "general",
            "privileged",
            "ring",
            "left",
            "rates" if scene.free else "bar",
        )
    name = order[y] if y < len(order) else ""
    if x < scene.left or not name:
        return FACTS.get(name, "")
    lane = scene.lanes[min(len(scene.lanes) - 1, (x - scene.left) // scene.lane)]
    return _of_machine(scene, lane, name)


def _of_machine(scene: Scene, lane: Lane, name: str) -> str:
    m = lane.machine
    if m is None:
        return f"{lane.core} cannot run here: {lane.why}"
    match name:
        case "names" | "who":
            return title_tip(m, lane.number)
        case "ring":
            return ring_tip(m)
        case "left" | "bar" | "rates":
            return counter_tip(m)
        case "general" if kind(m.core) == "trap" and m.real_ring is not None and not scene.s.running:
            return f"{m.where}. The host's kernel keeps them until the process goes on."
    return f"{m.where}\n{FACTS.get(name, '')}"


def _line(scene: Scene, address: int, x: int) -> str:
    """The instruction, or what a lane says of it."""
    codes = (*(line for m in scene.machines for line in m.code), *scene.code)
    line = next((line for line in codes if line.address == address), scene.s.listing.get(address))
    if line is None:
        return ""
    if x >= scene.left:
        lane = scene.lanes[min(len(scene.lanes) - 1, (x - scene.left) // scene.lane)]
        if scene.asked is not None and listing(scene).row_of(scene.asked) == listing(scene).row_of(
            address
        ):
            return "The lesson asks about this line."
        m = lane.machine
        if m is not None and scene.quiet and line.address not in m.sites:
            return "The lesson asks about this program; then it is told here."
        return "" if m is None else lane_tip(m, line)
    words = [
        f"{address:x}: {line.code.hex(' ')}   {line.text}",
        "" if scene.quiet else line.source,  # it may have a comment
        "" if scene.quiet else SENSITIVE.get(line.kind, ""),
    ]
    stop = "clears" if address in scene.breakpoints else "sets"
    words.append(f"A click picks the line; at its left end it {stop} a breakpoint.")
    return "\n".join(part for part in words if part)


def ring_tip(m: MachineSnapshot) -> str:
    """The ring that the guest believes in, and what executes it on this machine."""
    if m.ring_zero is RingZero.DEPRIVILEGED and m.real_ring is None:
        really = "An emulator at ring 3 stands in for this CPU."
    else:
        really = _REALLY[m.ring_zero]
    return f"The guest believes to be in ring {m.ring}. {really}"


def register_tip(scene: Scene, m: MachineSnapshot, name: str) -> str:
    """Value, meaning, bits, and what the marks beside it say."""
    value = m.registers.get(name, 0)
    lines = [f"{name} = {value:#x} = {value:,}{_as_text(value)}"]
    other = "A segment register." if name in SEGMENT_NAMES else "A general register."
    lines.append(REGISTERS.get(name, other))
    if name in _BITS:
        bits = {n: b for n, b in vars(_BITS[name]).items() if n.isupper()}
        lines.append("Set: " + (" ".join(n for n, bit in bits.items() if value & bit) or "nothing"))
    if name == register_file(m).flags_in:
        lines += [FLAGS[flag] for flag, bit in register_file(m).flags if value >> bit & 1]
    if name in m.before:
        lines.append(f"Changed: it was {m.before[name]:x} at instruction {scene.s.since:,}.")
    if name in m.reads and m.stop is None:
        lines.append("Read by the next instruction.")
    if len({x.registers.get(name) for x in scene.machines}) > 1:
        lines.append("The machines differ in it.")
    return "\n".join(line for line in lines if line)


def _as_text(value: int) -> str:
    return f" = {chr(value)!r}" if 0x20 <= value < 0x7F else ""


def register_at(line: Row, x: int, m: MachineSnapshot) -> str:
    """The register whose name or value stands in cell ``x`` of a row; "" for none."""
    flags = register_file(m).flags_in
    found, at = "", 0
    for text, _ in line:
        label = text.strip()
        if label in m.registers or label == "flags":
            found = flags if label == "flags" else label
        if at <= x < at + width_of(text):
            return found if label else ""
        at += width_of(text)
    return ""


def lane_tip(m: MachineSnapshot, line: CodeLine) -> str:
    site = m.sites.get(line.address, NONE)
    times = f" So far {counted(site.own, 'time')}, {time_away(site.ns)}." if site.own else ""
    if site.outside and not site.own:
        return f"Interrupts of devices have met the guest here, {counted(site.outside, 'time')}."
    if site.hidden and not site.own:
        return f"Faults that the guest never sees: {site.hidden:,}. The VMM mapped pages; no exits."
    line = replace(line, exits=site.own)
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
    instructions = (
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
        exits += f" The host's kernel counts {counted(m.kernel_exits['exits'], 'exit')} in all{steps}."
    top = sorted(m.exits_by_reason.items(), key=lambda pair: -pair[1])[:4]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in top)
    bridged = f"Bridged: {m.bridged:,}, which the CPU should have executed and software did."
    return "\n".join(
        words for words in (instructions, exits, reasons, bridged * bool(m.bridged)) if words
    )


def title_tip(m: MachineSnapshot, number: int) -> str:
    where = f"\nRegisters: {m.where}" if m.where else ""
    notes = "".join(f"\n{note}" for note in m.notes)
    label = m.label[:1].upper() + m.label[1:]
    return f"{label}, by {m.engine}.{where}{notes}\n{number} shows and hides it."
