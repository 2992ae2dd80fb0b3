"""Reports as text of 80 columns: for pipes, for screen readers, for terminals that can do no more."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from cores.engines.base import RingZero
from cores.engines.registry import Availability
from cores.engines.ring3_survey import Finding
from cores.machine.report import (
    CompareReport,
    CoreReport,
    Divergence,
    ExitLine,
    TraceLine,
    direct_share,
    percent,
)
from cores.pc.stop import Stop
from cores.peers import differences
from cores.plural import counted
from cores.vmm.trace import UNCOUNTED
from cores.x86.isa.instruction import Sensitivity
from cores.x86.isa.sensitive import Entry

WIDTH = 80
_LABEL = 18
_INDENT = "  "

EXECUTED_BY = {
    "interpreter": "software",
    "trap:native": "CPU at ring 3",
    "trap:portable": "a stand-in",
}
_BY_KVM = {RingZero.GUEST_MODE: "CPU, guest mode", RingZero.INTERPRETED: "kernel and CPU"}
_FORMATS = {
    "asm": "assembly",
    "flat": "flat image",
    "m68k": "68000 image",
}
_STAND_IN = (
    "trap:portable is a stand-in: Unicorn at ring 3 takes the place of this CPU. The VMM is the same."
)

_TAKEN = (
    "exact mode has the VMM complete what a step, or this host, could change, though nothing exits;"
    " --free leaves it to KVM"
)


def compare_report(report: CompareReport) -> str:
    """The comparison: one column a core, then the verdict, the console and the notes."""
    ran = [core for core in report.cores if core.available]
    kind = _FORMATS.get(report.format) or report.recognized or report.format
    how = f"{report.mode} mode"
    what = f"{kind}, {counted(report.size, 'byte')}, entered at {report.entry:#x}; {how}"
    parts = [_wrap(f"{report.path}: {what}".replace("\n", "\\n"), _INDENT)]
    if ran:
        parts.append(_table(ran, report.mode))
    parts.append(_wrap(verdict(report)))
    if report.divergence is not None:
        parts.append(difference_table(report.divergence))
    parts += _outputs(ran)
    parts += _remarks(report.cores)
    others = [core.other for core in ran if core.other is not None]
    if others:
        parts.append("The other machine on the hub, on each core:")
        parts += [_table(others, report.mode), *_outputs(others), *_remarks(others)]
    if report.peers:
        parts += [_peers(report), *_remarks(report.peers)]
    return "\n\n".join(parts)


def _table(ran: Sequence[CoreReport], mode: str) -> str:
    rows = [
        ("", [core.core for core in ran]),
        ("executed by", [_executed_by(core) for core in ran]),
        ("ended with", [_ending(core) for core in ran]),
        ("instructions", [_count(core.instructions) for core in ran]),
        ("ran directly", [_share(core) for core in ran]),
        ("exits to the VMM", [_count(core.exits) for core in ran]),
    ]
    for reason in sorted({reason for core in ran for reason in core.exits_by_reason}):
        rows.append((f"  {reason}", [_count(_exits_for(reason, core)) for core in ran]))
    rows.append(("device accesses", [_count(core.device_accesses) for core in ran]))
    if any(core.bridged for core in ran):
        rows.append(("bridged", [_count(core.bridged) for core in ran]))
    if any(core.emulated for core in ran):
        rows.append(("emulated, no exit", [_count(core.emulated) for core in ran]))
    took = "seconds, exact" if mode == "exact" else "seconds"  # mostly the steps' and comparison's
    rows.append((took, [f"{core.seconds:.3f}" for core in ran]))
    longest = max(len(cell) for _, cells in rows for cell in cells)
    return _grid(rows, min(longest + 2, (WIDTH - _LABEL) // max(len(ran), 3)))


def _exits_for(reason: str, core: CoreReport) -> int | None:
    """Exits for a reason; None for KVM's shadow pages and scans, which the VMM cannot see."""
    if core.core == "kvm" and reason in UNCOUNTED:
        return None
    return core.exits_by_reason.get(reason, 0)


def _grid(rows: Sequence[tuple[str, Sequence[str]]], width: int) -> str:
    """Columns of at least ``width``, and of more where a cell would touch the one beside it."""
    width = max(width, 1 + max(len(cell) for _, cells in rows for cell in cells))
    lines = [
        label.ljust(_LABEL) + "".join(cell.rjust(width) for cell in cells) for label, cells in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def _executed_by(core: CoreReport) -> str:
    """The executing part of a core on this host, in words."""
    if core.core == "kvm":
        return _BY_KVM.get(core.ring_zero, core.engine)
    return EXECUTED_BY.get(core.core, core.engine)


def _peers(report: CompareReport) -> str:
    """The real systems' columns: how they ended, and whether they said what the first core said."""
    ran = [peer for peer in report.peers if peer.available]
    ours = next((core for core in report.cores if core.available), None)
    if not ran:
        return "None of the peers can run here."
    rows = [
        ("peer", [peer.core for peer in ran]),
        ("executed by", [peer.engine for peer in ran]),
        ("ended with", [_ending(peer) for peer in ran]),
    ]
    if ours is not None:
        found = [differences(ours, peer) for peer in ran]
        for name in ("console", "screen"):
            if any(getattr(one, name) for one in (ours, *ran)):
                rows.append((name, ["differs" if name in f else "the same" for f in found]))
    rows.append(("seconds", [f"{peer.seconds:.3f}" for peer in ran]))
    return _grid(rows, 15)


def _ending(core: CoreReport) -> str:
    if core.stop is Stop.EXIT:
        return f"exit {core.exit_status}"
    return "nothing yet" if core.stop is None else core.stop.value


def _count(number: int | None) -> str:
    return "not counted" if number is None else f"{number:,}"


def _counted(number: int | None, noun: str) -> str:
    return f"{noun}s not counted" if number is None else counted(number, noun)


def _share(core: CoreReport) -> str:
    share = direct_share(core)
    if share is not None:
        return percent(share)
    return "none" if core.core == "interpreter" else "not counted"


def verdict(report: CompareReport) -> str:
    """The comparison's result in words."""
    if report.equivalent is None:
        return _nothing_compared(report)
    if report.equivalent:
        without = _without(report)
        if report.mode == "free":
            return f"Equivalent{without}: they ended alike, with the same console and the same screen."
        steps = max((core.instructions or 0 for core in report.cores), default=0) - report.led
        stretches = f"{report.stretches:,} stretches" if report.stretches > 1 else "one stretch"
        led = counted(report.led, "instruction")
        led = f", after {stretches} at full speed ({led})," if report.led else ","
        return (
            f"Equivalent{without}: the same registers and the same memory written at each of "
            f"{counted(steps, 'step')}{led} and the same RAM at the end."
        )
    divergence = report.divergence
    if divergence is None:
        return "Not equivalent."
    if divergence.asm is None:
        return "Not equivalent: they ended differently."
    remark = f" {divergence.remark}" if divergence.remark else ""
    return (
        f"Not equivalent: the first difference is made by instruction {divergence.instruction + 1:,},"
        f" `{divergence.asm}` at {divergence.rip:#x}. After it the machines ran on by themselves."
        f"{remark}"
    )


def _nothing_compared(report: CompareReport) -> str:
    """The reason why fewer than two cores came to an end that can be compared."""
    ran = [core for core in report.cores if core.available]
    ended = [core for core in ran if not core.failed]
    if not ran:
        return "No core can run here."
    if len(ran) == 1:
        return f"Nothing to compare: only {ran[0].core} ran{'' if ended else ', to an error'}."
    if not ended:
        return "Nothing to compare: every core that ran stopped with an error."
    return f"Nothing to compare: only {ended[0].core} went on{_without(report)}."


def _without(report: CompareReport) -> str:
    """The cores that an "Equivalent" is not said of, each with the reason in few words."""
    absent = [f"{core.core} (it cannot run here)" for core in report.cores if not core.available]
    left = [
        f"{core.core} ({'a limit of this host' if core.limit else 'stopped with an error'})"
        for core in report.cores
        if core.core in report.left
    ]
    return f" without {' and '.join(left + absent)}" if left or absent else ""


def difference_table(divergence: Divergence) -> str:
    """A column for each core, a row for each register or place that differs."""
    cores = list(divergence.values)
    lines = [_INDENT + "differs".ljust(_LABEL - 2) + "".join(core.rjust(20) for core in cores)]
    for name in divergence.differs:
        cells = [_shown(divergence.values[core].get(name)) for core in cores]
        if all(len(cell) < 20 for cell in cells):
            lines.append(_INDENT + name.ljust(_LABEL - 2) + "".join(cell.rjust(20) for cell in cells))
        else:
            lines.append(f"{_INDENT}{name}")
            lines += [
                textwrap.shorten(f"{_INDENT * 2}{core}: {cell}", 2 * WIDTH)
                for core, cell in zip(cores, cells, strict=True)
            ]
    return "\n".join(lines)


def _shown(value: int | str | None) -> str:
    if value is None:
        return "none"
    return hex(value) if isinstance(value, int) else repr(str(value))


def _outputs(ran: Sequence[CoreReport]) -> list[str]:
    """Console and screen: once if all machines have the same."""
    parts = []
    for name, texts in (
        ("console", {core.core: core.console for core in ran}),
        ("screen", {core.core: core.screen or "" for core in ran}),
    ):
        if len(set(texts.values())) == 1:
            texts = {"": next(iter(texts.values()))}
        for core, text in texts.items():
            if text:
                title = f"{name} of {core}" if core else name
                lines = [f"{_INDENT}{line}" for line in clean(text).rstrip("\n").split("\n")]
                parts.append("\n".join([f"{title}:", *lines]))
    return parts


def _remarks(cores: Iterable[CoreReport]) -> list[str]:
    lines = []
    for core in cores:
        if not core.available:
            lines.append(f"{core.core} cannot run here: {core.reason}")
            continue
        if core.reason:
            lines.append(f"{core.core}: {core.reason}")
        if core.limit:
            lines.append(f'{core.core}: `ringscope doctor` lists that this host lacks "{core.limit}"')
        lines += [f"{core.core}: {note}" for note in core.notes]
        if core.core == "trap:portable":
            lines.append(_STAND_IN)
        if core.emulated:
            lines.append(f"{core.core}: {_TAKEN}")
        if core.caveat:
            lines.append(f"{core.core}: {core.caveat}")
    return ["\n".join(_wrap(line, "  ") for line in lines)] if lines else []


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(clean(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def clean(text: str) -> str:
    """A guest's output must not drive the user's terminal: control characters are shown, not sent."""
    text = text.replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def trace_heading() -> str:
    return f"{'n':>9}  {'rip':<10}  {'reason':<10}  {'instruction':<28}  what happened"


def trace_line(line: TraceLine) -> str:
    """An exit, or an instruction with what it changed."""
    count = "" if line.n is None else f"{line.n:,}"
    if isinstance(line, ExitLine):
        story = "; ".join(part for part in (line.detail, line.handled) if part)
        cost = f"{story} ({line.ns / 1000:.0f} us)"
        return f"{count:>9}  {line.rip:<#10x}  {line.reason:<10}  {line.asm:<28}  {clean(cost)}"
    changed = " ".join(
        f"{name}={value.hex() if isinstance(value, bytes) else hex(value)}"
        for name, value in line.changed.items()
        if name not in ("rip", "pc")
    )
    return f"{count:>9}  {line.rip:<#10x}  {'':<10}  {line.asm:<28}  {changed}".rstrip()


def trace_ending(core: CoreReport) -> str:
    return (
        f"\n{core.core}: {_ending(core)}; {_counted(core.instructions, 'instruction')},"
        f" {_counted(core.exits, 'exit')}"
    ) + (
        "" if core.other is None else f"\nthe other machine on the hub, {trace_ending(core.other)[1:]}"
    )


def availabilities(cores: Iterable[Availability]) -> str:
    """The cores and their abilities, as `doctor` prints them."""
    parts = []
    for core in cores:
        state = f"runs ({core.engine})" if core.available else f"cannot run here: {core.reason}"
        lines = [_wrap(f"{core.core:<14}{state}", " " * 14)]
        for name, present, consequence in core.abilities:
            what = f"{name}: {consequence}" if consequence else name
            lines.append(_wrap(f"{'':14}{'has' if present else 'lacks':<6}{what}", " " * 20))
        parts.append("\n".join(lines))
    return "\n".join(parts)


def entry(entry: Entry) -> str:
    """An entry of the table of sensitive instructions, as `explain` prints it."""
    kind = {
        Sensitivity.PRIVILEGED: "sensitive and privileged: it traps at ring 3 by itself",
        Sensitivity.SILENT: "sensitive but not privileged: at ring 3 it does not trap",
        Sensitivity.ABSENT: "not on the platform's CPU: #UD, whatever this host's CPU can do",
    }[entry.sensitivity]
    robin = " It is on Robin and Irvine's list (2000)." if entry.listed else ""
    lines = [
        f"{entry.name}: {kind}",
        "",
        _wrap(entry.why),
        _wrap(entry.rule + robin),
        "",
        f"exit reason: {entry.reason.value}",
    ]
    lines += [_wrap(f"{core:<14}{what}", " " * 14) for core, what in entry.cores.items()]
    return "\n".join(lines)


def findings(found: Sequence[Finding], heading: str = "instruction") -> str:
    """The findings of the ring 3 survey, as `probe` prints them."""
    lines = [f"{heading:<41}{'at ring 3 here':<18}what the guest gets", "-" * WIDTH]
    for finding in found:
        fate = f"traps: {finding.vector}" if finding.vector else finding.outcome
        answer = "" if finding.answer is None else f"{finding.answer:#x}"
        mark = "~" if finding.lies else " "
        lines.append(f"{mark} {finding.entry.name:<39}{fate:<18}{answer}".rstrip())
    lying = sum(finding.lies for finding in found)
    lines.append("")
    lines.append(
        _wrap(
            f"{len(found) - lying} trap, {lying} (~) do not: sensitive, and silent. Those a virtual"
            " machine monitor that only traps would miss; Ringscope finds them before they run."
        )
    )
    return "\n".join(lines)
