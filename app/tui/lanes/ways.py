"""This instruction, three ways: one sentence a machine, whoever acts in it in the colour of who it is.

What has just been done is told as it happened, from the machines' logs; what is picked or comes next,
as it goes by the rules. Only times of exits are shown, never those of our own stepping.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.text import narration
from app.tui.lanes import source
from app.tui.lanes.facts import time_away
from app.tui.lanes.layout import first_fit, rule
from app.tui.lanes.scene import Lane, Scene, by_software, emulates, foreign, kind
from app.tui.rows.registers import program_counter
from app.tui.rows.rows import EMPTY, Row, fit, printable, row, row_width, spread, width_of
from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot
from cores.plural import counted
from cores.vmm.trace import UNCOUNTED, ExitEvent
from cores.x86.isa.instruction import Reason

_ACTOR = re.compile(r"((?:KVM's |Unicorn's )?[Ss]oftware(?: \([\w ]+\))?|[Tt]he CPU|[Tt]he VMM)")
_HEX = re.compile(r"0x([0-9a-f]+)")
_DEVICE = (Reason.IO, Reason.MMIO)


def actors(words: str) -> list[tuple[str, str]]:
    """A sentence, with each actor in its role."""
    out = []
    for i, part in enumerate(_ACTOR.split(words)):
        if part:
            soft = "oftware" in part
            role = "soft-bold" if soft else "cpu-bold" if "CPU" in part else "host-bold"
            out.append((part, role if i % 2 else "text"))
    return out


@dataclass(frozen=True, slots=True)
class Way:
    """One machine's way: in full and in brief. ns: time away, 0 without; role: of the whole sentence
    where that matters more than its actors."""

    long: str
    short: str
    ns: int = 0
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """The instruction that the lower part speaks of. when: "done just now", "comes next", ... past:
    has it been done just now? events: core -> its exit."""

    line: CodeLine
    when: str
    past: bool
    events: dict[str, ExitEvent]


def told(scene: Scene) -> Told | None:
    """What is picked; else what was done last; else what comes next. None where there is nothing, the
    machines no longer do the same, or a lesson asks what comes."""
    m = _leading(scene)
    if scene.picked is not None:
        line = _line_at(scene, scene.picked)
        return None if line is None or scene.quiet else Told(line, "picked", False, {})
    if scene.moving or scene.free:
        return None
    done = m.done
    if done is not None and not _apart(scene):
        count = (m.instructions or 0) - 1
        events = {
            x.core: event
            for x in scene.s.machines
            if (event := _event(x, done.address, count)) is not None
        }
        return Told(done, "done just now", True, events)
    if m.stop is not None or scene.quiet or _apart(scene):
        return None
    line = _line_at(scene, program_counter(m))
    return None if line is None else Told(line, "comes next", False, {})


def _leading(scene: Scene) -> MachineSnapshot:
    return next((m for m in scene.s.machines if m.stop is None), scene.reference)


def _apart(scene: Scene) -> bool:
    """Have the machines parted, by more than the instruction that was done last?"""
    d = scene.s.divergence
    return d is not None and (scene.reference.instructions or 0) - 1 != d.instruction


def _event(m: MachineSnapshot, address: int, count: int) -> ExitEvent | None:
    """The last exit of the instruction at ``address`` after ``count``, with the time of all of them: a
    REP instruction may leave the guest hundreds of times."""
    found: ExitEvent | None = None
    ns = 0
    for event in reversed(m.events):
        if event.n is not None and event.n < count:
            break
        mine = event.rip == address and event.n == count
        if mine and event.reason not in UNCOUNTED and event.reason is not Reason.IRQ:
            found, ns = found or event, ns + event.ns
    else:
        if found is not None and len(m.events) < sum(m.exits_by_reason.values()):
            ns = max(ns, m.sites[address].ns)  # the first of them are no longer at hand
    return None if found is None else found._replace(ns=ns)


def _line_at(scene: Scene, address: int) -> CodeLine | None:
    code = (*scene.code, *(line for m in scene.s.machines for line in m.code))
    return next((line for line in code if line.address == address), scene.s.listing.get(address))


# The sentences


def way(scene: Scene, m: MachineSnapshot, it: Told) -> Way:
    """How a machine does it, or did."""
    event = it.events.get(m.core)
    if it.past and event is None and scene.parted:
        d = scene.s.divergence
        if d is not None and it.line.kind == "silent":
            return _parting(scene, m, did="did")
    did, site = "did" if it.past else "does", m.sites.get(it.line.address)
    ns = event.ns if event is not None else 0
    left = event is not None or (not it.past and _would_leave(m, it.line, bool(site and site.own)))
    if emulates(m):
        return _emulated(m, it, did)
    if kind(m.core) == "kvm":
        return _by_kvm(m, it, event, did, ns) if left else _in_kvm(m, did)
    if not left:
        return _by_software(did) if by_software(m) else _direct(did)
    return _trapped(m, it, event, did, ns)


def _emulated(m: MachineSnapshot, it: Told, did: str) -> Way:
    name = m.engine.split()[0]
    reason = reason_of(it)
    if foreign(m):
        return Way(
            f"Software ({name}) {did} it: this computer's CPU has no such instructions.",
            f"Software {did} it: this CPU has no such thing.",
        )
    if reason in _DEVICE:
        need = "was" if it.past else "is"
        return Way(
            f"Software ({name}) {did} it, device and all. Nobody outside {need} needed.",
            f"Software {did} it, device and all.",
        )
    if reason is Reason.EXCEPTION:
        found = "found the fault and entered" if it.past else "finds the fault and enters"
        return Way(f"Software ({name}) {found} the guest's handler.", f"Software {found} its handler.")
    read = "read it and did" if it.past else "reads it and does"
    return Way(
        f"Software ({name}) {read} it, to numbers in host memory.",
        f"Software {read} it, to numbers in memory.",
    )


def _direct(did: str) -> Way:
    asked = "was" if did == "did" else "is"
    return Way(
        f"The CPU {did} it itself, in ring 3, in its registers. Nobody {asked} asked.",
        f"The CPU {did} it itself. The VMM {asked} not asked.",
    )


def _by_software(did: str) -> Way:
    asked = "was" if did == "did" else "is"
    return Way(
        f"Software that stands in for ring 3 {did} it. The VMM {asked} not asked.",
        f"Software {did} it, as ring 3. The VMM {asked} not asked.",
    )


def _trapped(m: MachineSnapshot, it: Told, event: ExitEvent | None, did: str, ns: int) -> Way:
    actor = "Software, as ring 3," if by_software(m) else "The CPU"
    past, reason = it.past, reason_of(it)
    vmm = f"The VMM {did} it."
    handled = event.handled if event is not None else ""
    if it.line.kind == "silent" or handled.startswith(narration.SEEN_COMING):
        if it.line.kind == "absent":
            knows = "knew" if past else "knows"
            return Way(
                f"The guest's CPU has no such instruction, and the VMM {knows}. The VMM refused it.",
                "The guest's CPU has no such thing. The VMM refused it.",
                ns,
            )
        looked = "looked" if past else "looks"
        return Way(
            f"{actor} would not refuse, only err. The VMM {looked} ahead and {did} it.",
            f"{actor} would err, not refuse. The VMM {looked} ahead.",
            ns,
        )
    if reason is Reason.MMIO:
        stops = "stopped" if past else "stops"
        return Way(
            f"{actor} {stops}: a device stands there, and no memory (#PF). {vmm}",
            f"No memory there, {actor[0].lower() + actor[1:]} {stops}. {vmm}",
            ns,
        )
    if reason is Reason.SYSCALL:
        turned = (
            "turned to the real kernel and was held" if past else "turns to the real kernel and is held"
        )
        return Way(
            f"{actor} {turned} there. {vmm}",
            f"{actor} {'was' if past else 'is'} stopped at the real kernel. {vmm}",
            ns,
        )
    if reason is Reason.EXCEPTION:
        met = "met a fault of the guest's own" if past else "meets a fault of the guest's own"
        entered = "entered" if past else "enters"
        return Way(f"{actor} {met}. The VMM {entered} its handler.", f"{actor} {met}. To the VMM.", ns)
    refused = "refused" if past else "refuses"
    if by_software(m):
        return Way(
            f"Software {refused} it, as ring 3 of a CPU does (#GP). {vmm}",
            f"Software {refused} it, as ring 3 (#GP). {vmm}",
            ns,
        )
    return Way(
        f"{actor} {refused} it: privileged, and this is ring 3 (#GP). {vmm}",
        f"{actor} {refused} it in ring 3 (#GP). {vmm}",
        ns,
    )


def _by_kvm(m: MachineSnapshot, it: Told, event: ExitEvent | None, did: str, ns: int) -> Way:
    past, reason = it.past, reason_of(it)
    vmm = f"The VMM {did} it."
    was = "was" if past else "is"
    if reason is Reason.HLT:
        return Way(
            f"Sleep and waking are the host's, so the guest {was} left. {vmm}",
            f"Sleep is the host's: guest left. {vmm}",
            ns,
        )
    if m.ring_zero is RingZero.GUEST_MODE:
        left = "left" if past else "leaves"
        return Way(
            f"A device lies outside of the guest: the CPU {left} guest mode. {vmm}",
            f"A device: the CPU {left} guest mode. {vmm}",
            ns,
        )
    return Way(
        f"A device lies outside of the guest, so the guest {was} left. {vmm}",
        f"A device is outside: guest left. {vmm}",
        ns,
    )


def _in_kvm(m: MachineSnapshot, did: str) -> Way:
    asked = "was" if did == "did" else "is"
    soft = by_software(m)
    if soft is None:
        return Way(
            f"KVM {did} it. The VMM {asked} not asked.", f"KVM {did} it. The VMM {asked} not asked."
        )
    if soft:
        return Way(
            f"KVM's software {did} it, on the guest's own state. The VMM {asked} not asked.",
            f"KVM's software {did} it: no ring 0 to give here.",
        )
    where = "in guest mode" if m.ring_zero is RingZero.GUEST_MODE else "in its ring 3"
    return Way(
        f"The CPU {did} it itself, {where}, on the guest's own state. Nobody {asked} asked.",
        f"The CPU {did} it itself, {where}.",
    )


def _parting(scene: Scene, m: MachineSnapshot, did: str) -> Way:
    """The instruction at which machines parted: who answered for whom."""
    d = scene.s.divergence
    values = {} if d is None or not d.differs else d.values.get(m.core, {})
    value = values.get(d.differs[0]) if d is not None and d.differs else None
    answer = f": {value:x}" if isinstance(value, int) else ""
    if emulates(m):
        return Way(
            f"Software answered for the guest's own machine{answer}.",
            f"Software: for the guest{answer}.",
        )
    if kind(m.core) == "kvm":
        who = (
            "KVM's software"
            if by_software(m)
            else "The CPU, in guest mode,"
            if by_software(m) is False
            else "KVM"
        )
        return Way(
            f"{who} answered for the guest's own machine{answer}.", f"{who}: for the guest{answer}."
        )
    return Way(
        f"The CPU {did} it in ring 3 and answered for the host{answer}. It does not trap.",
        f"The CPU answered for the host{answer}. It never traps.",
        bad=True,
    )


def reason_of(it: Told) -> Reason | None:
    """Why the guest is left, by whichever machine has left it; else by the instruction."""
    for event in it.events.values():
        return event.reason
    text = it.line.text.removeprefix("rep ")
    if text.startswith(("in ", "out ", "ins", "outs")):
        return Reason.IO
    if text.startswith("hlt"):
        return Reason.HLT
    return Reason.SYSCALL if text.startswith(("syscall", "sysenter")) else None


def _would_leave(m: MachineSnapshot, line: CodeLine, has_left: bool) -> bool:
    if has_left:
        return True
    if kind(m.core) == "kvm":
        return line.text.removeprefix("rep ").startswith(("in ", "ins", "out ", "outs", "hlt"))
    return line.kind in ("privileged", "silent", "absent")


# The rows


def name_of(scene: Scene, lane: Lane) -> str:
    match kind(lane.core):
        case "interpreter":
            return "EMULATOR"
        case "trap":
            name = "TRAP" if scene.width < 110 else "TRAP AND EMULATE"
            twins = [x for x in scene.lanes if kind(x.core) == "trap"]
            return name if len(twins) < 2 else f"{name}:{lane.core.partition(':')[2]}"
        case _:
            return "KVM"


def name_width(scene: Scene) -> int:
    return max(width_of(name_of(scene, lane)) for lane in scene.lanes) + 3


def title(scene: Scene, it: Told, width: int) -> Row:
    """The instruction and its effect, once; its comment, where there is room for all of it."""
    asm = printable(source.instruction(scene.s, it.line))
    event = next(iter(it.events.values()), None)
    parts: Row = row((asm, "strong"))
    if event is not None and event.detail:
        effect = printable(_HEX.sub(r"\1", event.detail))
        if width_of(asm) + width_of(effect) + 4 > width:
            effect = fit(effect, max(0, width - width_of(asm) - 4), "…")
        parts += row((" → ", "host-bold"), effect)
    comment = printable(source.comment(scene.s, it.line))
    if comment and row_width(parts) + width_of(comment) + 2 <= width:
        parts += row(("  " + comment, "comment"))
    return parts


def ways_rows(scene: Scene, *, keys: bool = True) -> list[Row]:
    """The rule with the instruction, and a row for each machine."""
    it = told(scene)
    if it is None:
        return _elsewhere(scene)
    when = it.when if it.past or it.when != "picked" else "picked"
    more: Row = row((when + ("   " if keys else ""), "dim"))
    if keys:
        more += row(("Enter", "key"), (" more", "dim"))
    wide = scene.width >= 100
    head = title(scene, it, scene.width - row_width(more) - 12)
    if not wide:
        head = title(scene, it, scene.width - len(when) - 24) + row((f"  {when}", "dim"))
        more = row(("Enter", "key"), (" more", "dim")) if keys else EMPTY
    able = [lane for lane in scene.lanes if not lane.why]
    ways = {lane.core: way(scene, m, it) for lane in able if (m := lane.machine) is not None}
    most = max([one.ns for one in ways.values()] + [1])
    rows = [rule(scene, head, more)]
    for lane in scene.lanes:
        name = row(" ", (fit(name_of(scene, lane), name_width(scene) - 1), "strong"))
        one = ways.get(lane.core)
        if one is None:
            words = "cannot run here" if lane.machine is None else "stopped"
            room = scene.width - row_width(name) - 1
            rows.append((*name, (f"{words}: {_in_brief(lane.why, room - len(words) - 2)}", "dim")))
            continue
        rows.append(_way_row(scene, name, one, most))
    return rows


def _in_brief(reason: str, width: int) -> str:
    """As many of the reason's clauses as fit whole, at least the first."""
    words = printable(reason)
    while width_of(words) > width and (ends := max(words.rfind(mark) for mark in (";", ":", ","))) > 0:
        words = words[:ends]
    return words if width_of(words) <= width else fit(words, width, "…")


def _way_row(scene: Scene, name: Row, one: Way, most: int) -> Row:
    cells = 0 if scene.width < 110 else 14 if scene.width < 140 else 24
    bar = "▇" * max(1, round(cells * one.ns / most)) if one.ns and cells else ""
    cost = time_away(one.ns) if one.ns else ""
    right: Row = row((fit(bar, cells), "host"), (f" {cost:>8} ", "host-bold"))
    if scene.width >= 150:
        count = narration.meanwhile(one.ns) if one.ns else None
        right += row((fit(f"= {count:>8,} cycles" if count else "", 26), "dim"))
    if not one.ns:
        right = EMPTY if scene.width < 110 else right
    room = scene.width - row_width(name) - row_width(right)
    words = first_fit(room, *((one.long, one.short) if scene.width >= 104 else (one.short,)))
    return spread((*name, *([(words, "bad")] if one.bad else actors(words))), right, scene.width)


def _elsewhere(scene: Scene) -> list[Row]:
    """What each machine does next, where they do not do the same; else what keys there are."""
    if scene.parted and not scene.moving:
        rows = [
            rule(
                scene, row(("Each goes its own way", "strong"), ("  what each does next", "dim")),
                row(("d", "key"), (" where they parted", "dim")),
            )
        ]  # fmt: skip
        for lane in scene.lanes:
            if (m := lane.machine) is None:
                continue
            line = _line_at(scene, program_counter(m))
            asm = "?" if line is None else printable(source.brief(line.text))
            count = (
                "" if m.instructions is None else f"   {counted(m.instructions, 'instruction')} done"
            )
            if m.stop is not None:
                asm, count = "ended", count
            name = fit(name_of(scene, lane), name_width(scene) - 1)
            rows.append(
                row(" ", (name, "strong"), (f"{program_counter(m):x}  ", "dim"), asm, (count, "dim"))
            )
        return rows
    words = "This instruction, three ways" if len(scene.lanes) == 3 else "This instruction"
    key = "pauses" if scene.s.running else "runs"
    state = "Running.  " if scene.moving else ""
    hint = row(" ", (state, "dim"), ("space", "key"), (f" {key}", "dim"))
    return [rule(scene, row((words, "strong"))), hint]


# The same as a conversation


def conversation_rows(scene: Scene, height: int) -> list[Row]:
    """The guest's OS, the CPU and the host's talk about the exit; asides where there is room."""
    it = told(scene)
    lane = next((x for x in scene.lanes if x.core == scene.chosen and x.machine is not None), None)
    event = None if it is None or lane is None else it.events.get(lane.core)
    if lane is None or lane.machine is None or it is None or event is None:
        return ways_rows(scene)
    wide = scene.width >= 110
    after = f"  as a conversation, on {name_of(scene, lane)}" if wide else "  as a conversation"
    head = title(scene, Told(it.line, it.when, it.past, {lane.core: event}), scene.width - 44)
    rows = [rule(scene, (*head, (after, "dim")), row(("w", "key"), (" next view", "dim")))]
    voices = {narration.GUEST: "strong", narration.CPU: "cpu-bold", narration.HOST: "host-bold"}
    for line in narration.dialogue(event, lane.machine):
        aside = f"{printable(line.aside)} " if wide else ""
        said = row(" ", (f"{line.speaker:<10}", voices[line.speaker]), printable(line.text))
        if row_width(said) + width_of(aside) + 2 > scene.width:
            aside = ""
        rows.append(spread(said, row((aside, "dim")), scene.width))
    return rows[: height + 1]
