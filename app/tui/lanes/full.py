"""One instruction in full: what happens to it on every machine, step by step, with the numbers."""

from __future__ import annotations

import textwrap

from app.text import narration
from app.tui.lanes import source
from app.tui.lanes.facts import time_away
from app.tui.lanes.scene import Scene, by_software, emulates, foreign, kind
from app.tui.lanes.ways import Told, name_of, reason_of, told, way
from app.tui.rows.rows import EMPTY, Row, fit, printable, row
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Reason
from cores.x86.isa.sensitive import explain

LABEL = 12
"""Cells of who acts."""

Step = tuple[str, str, str]
"""Who, what, and the role of what."""


def full_rows(scene: Scene, width: int) -> tuple[str, list[Row]] | None:
    """The title and the rows, in ``width`` cells; None where there is nothing to tell."""
    it = told(scene)
    if it is None:
        return None
    asm = printable(source.instruction(scene.s, it.line))
    rows = _step(
        ("instruction", f"{asm}   bytes {it.line.code.hex(' ')}   at {it.line.address:x}", "strong"),
        width,
    )
    comment = source.comment(scene.s, it.line)
    if comment:
        rows += _step(("its line", comment, "comment"), width)
    if not foreign(scene.reference):
        rows += _step(("the rule", _rule(it), "text"), width)
    for lane in scene.lanes:
        m = lane.machine
        if m is None or lane.why:
            continue
        rows.append(EMPTY)
        rows.append(row((name_of(scene, lane), "strong"), (f"   {_where(m, it)}", "dim")))
        for number, step in enumerate(_steps(scene, m, it), 1):
            rows += _step((f"{number} {step[0]}", step[1], step[2]), width)
    when = "in full" if it.past else f"in full, {it.when}"
    return f"{asm}, {when}", rows


def _step(step: Step, width: int) -> list[Row]:
    who, words, role = step
    lines = textwrap.wrap(printable(words), max(20, width - LABEL)) or [""]
    return [
        row((fit(who if i == 0 else "", LABEL), "dim"), (line, role)) for i, line in enumerate(lines)
    ]


def _rule(it: Told) -> str:
    for event in it.events.values():
        if event.reason in (Reason.MMIO, Reason.EXCEPTION, Reason.SHUTDOWN):
            return narration.why(event, "trap:native")
    entry = explain(it.line.text)
    if entry is None or it.line.kind == "direct":
        return "Not sensitive: it means the same in every ring, so the CPU may have it."
    return f"{narration.sentence(entry.why)} {narration.sentence(entry.rule)}"


def _where(m: MachineSnapshot, it: Told) -> str:
    event = it.events.get(m.core)
    away = f", {time_away(event.ns)}" if event is not None else ""
    return f"{m.engine}, {m.where}{away}" if emulates(m) else f"{m.where}{away}"


def _steps(scene: Scene, m: MachineSnapshot, it: Told) -> list[Step]:
    event = it.events.get(m.core)
    if emulates(m):
        return _emulated(scene, m, it)
    if event is None or scene.parted:
        role = "soft" if by_software(m) else "cpu"
        one = way(scene, m, it)
        return [
            ("guest", f"{source.brief(it.line.text)}   {_rings(m)}", role),
            ("then", one.long, "text"),
        ]
    return _by_kvm(m, it, event) if kind(m.core) == "kvm" else _trapped(scene, m, it, event)


def _rings(m: MachineSnapshot) -> str:
    if m.real_ring is None:
        return f"in ring {m.ring}, a number"
    believes = f" (it believes: {m.ring})" if m.real_ring != m.ring else ""
    return f"in ring {m.real_ring}{believes}"


def _emulated(scene: Scene, m: MachineSnapshot, it: Told) -> list[Step]:
    """What software does with any instruction: it reads, finds, computes; devices are its own, too."""
    code, mnemonic = it.line.code.hex(" "), it.line.text.split()[0]
    other = next((event for core, event in it.events.items() if core != m.core), None)
    device = reason_of(it) in (Reason.IO, Reason.MMIO)
    does = "calls its own device" if device else "computes it"
    if other is not None and other.detail:
        does = f"{does if device else 'does what it says'}: {other.detail}"
    steps: list[Step] = [("software", f"It reads {code}, finds `{mnemonic}`, and {does}.", "soft")]
    changed = [
        f"{name} {old:x} to {m.registers.get(name, 0):x}"
        for name, old in m.before.items()
        if name != "rflags"
    ]
    if it.past and (m.instructions or 0) - scene.s.since == 1 and changed:
        words = ", ".join(changed[:4])
        steps.append(("software", f"It writes new numbers into host memory: {words}.", "soft"))
    behind = it.line.address + len(it.line.code)
    now = m.registers.get("rip", m.registers.get("pc", 0))
    if it.past and now == behind:
        words = f"It adds {len(it.line.code)} to the instruction pointer, a number in host memory."
    elif it.past:
        words = f"It sets the instruction pointer, a number in host memory, to {now:x}."
    else:
        words = "It moves the instruction pointer, a number in host memory."
    return [*steps, ("software", f"{words} There is no world to switch.", "soft")]


def _trapped(scene: Scene, m: MachineSnapshot, it: Told, event: ExitEvent) -> list[Step]:
    asm = source.brief(it.line.text)
    soft = by_software(m)
    actor, role = ("software", "soft") if soft else ("CPU", "cpu")
    steps: list[Step] = [("guest", f"{asm}   {_rings(m)}", role)]
    if event.handled.startswith(narration.SEEN_COMING):
        words = "It would execute it in ring 3, and wrongly: it is not asked."
        steps += [(actor, words, role), ("VMM", "It had looked ahead, and saw it coming.", "host")]
    elif event.reason is Reason.SYSCALL:
        words = "It enters the host's own kernel, which is told to hold such calls (PTRACE_SYSEMU)."
        steps.append((actor, words if not soft else "It stops: a system call.", role))
    elif event.reason is Reason.MMIO:
        steps.append((actor, "No memory is mapped there: #PF. It goes to the host's kernel.", role))
    else:
        words = (
            "Privileged, and this is ring 3: #GP. It goes to the host's kernel, which stores all"
            " registers."
        )
        steps.append((actor, words if not soft else "It refuses, as ring 3 does: #GP.", role))
    saved = _saved(m, it)
    if saved and m.instructions is not None and not soft:
        words = f"The process is held by ptrace, and Ringscope is woken. {saved}"
        steps.append(("kernel", words, "host"))
    now = m.registers.get("rip", 0)
    did = narration.sentence(event.detail or event.handled)
    steps.append(("VMM", f"{did} It sets RIP to {now:x}, and lets the guest go on.", "host"))
    return steps


def _saved(m: MachineSnapshot, it: Told) -> str:
    """The registers that the host's kernel holds now, where they are still those of the exit."""
    if m.real is None or m.real.get("rip") != it.line.address:
        return ""
    return f"The saved RIP is still {m.real['rip']:x}, the saved RAX {m.real['rax']:x}."


def _by_kvm(m: MachineSnapshot, it: Told, event: ExitEvent) -> list[Step]:
    mnemonic = it.line.text.split()[0]
    match m.ring_zero:
        case RingZero.GUEST_MODE:
            first: Step = (
                "CPU",
                f"`{mnemonic}` reaches beyond the guest: the CPU leaves guest mode.",
                "cpu",
            )
            words = "The host's kernel returns to Ringscope from the KVM_RUN system call."
        case RingZero.INTERPRETED if event.ring == 0:
            words = (
                f"Its software met `{mnemonic}` in the guest's ring 0. With VT-x or AMD-V the CPU"
                " itself leaves guest mode here."
            )
            first = ("KVM", words, "soft")
            words = "KVM returns to Ringscope from the KVM_RUN system call."
        case _:
            first = ("KVM", f"The guest came to `{mnemonic}`: the host's kernel took over.", "text")
            words = "KVM returns to Ringscope from the KVM_RUN system call."
    did = narration.sentence(event.detail or event.handled)
    return [first, ("kernel", words, "host"), ("VMM", f"{did} It enters the guest again.", "host")]
