"""Reports as JSON values, exactly as contract.md describes them.

Numbers of the guest's are strings, lower case, "0x", unpadded: JSON's own numbers lose 64-bit ones.
"""

from __future__ import annotations

from cores.engines.registry import Availability
from cores.engines.ring3_survey import Finding
from cores.machine.report import CompareReport, CoreReport, Divergence, ExitLine, TraceLine
from cores.x86.isa.sensitive import Entry

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

SCHEMA = 1
_AS_NUMBERS = frozenset({"exit_status"})
"""Divergence values that are counts or text, not register contents."""


def compare_report(report: CompareReport) -> dict[str, Value]:
    return {
        "schema": SCHEMA,
        "program": {
            "path": report.path, "format": report.format, "entry": hex(report.entry),
            "size": report.size, "sha256": report.sha256,
        },
        "mode": report.mode,
        "equivalent": report.equivalent,
        "divergence": None if report.divergence is None else _divergence(report.divergence),
        "cores": [core_report(core) for core in report.cores],
        "peers": [core_report(peer) for peer in report.peers],
    }  # fmt: skip


def core_report(core: CoreReport) -> dict[str, Value]:
    """One of ``cores``; a core that cannot run here has null, 0 or nothing in most places."""
    registers = core.registers
    other: dict[str, Value] = {} if core.other is None else {"with": core_report(core.other)}
    return other | {
        "core": core.core,
        "engine": core.engine,
        "available": core.available,
        "reason": core.reason,
        "stop": None if core.stop is None else core.stop.value,
        "exit_status": core.exit_status,
        "instructions": core.instructions,
        "exits": core.exits,
        "exits_by_reason": dict(core.exits_by_reason),
        "device_accesses": core.device_accesses,
        "bridged": core.bridged,
        "console": core.console,
        "screen": core.screen,
        "registers": None if registers is None else {n: hex(v) for n, v in registers.items()},
        "cpu_mode": core.cpu_mode,
        "memory_sha256": core.memory_sha256,
        "notes": list(core.notes),
        "seconds": core.seconds,
    }


def _divergence(divergence: Divergence) -> dict[str, Value]:
    return {
        "instruction": divergence.instruction,
        "rip": hex(divergence.rip),
        "asm": divergence.asm,
        "differs": list(divergence.differs),
        "values": {
            core: {name: _value(name, value) for name, value in values.items()}
            for core, values in divergence.values.items()
        },
    }


def _value(name: str, value: int | str | None) -> Value:
    if isinstance(value, int) and name not in _AS_NUMBERS:
        return hex(value)
    return None if value is None else value if isinstance(value, int) else str(value)


def trace_line(line: TraceLine) -> dict[str, Value]:
    """A line of ``trace --json``."""
    start: dict[str, Value] = {
        "n": line.n, "rip": hex(line.rip), "bytes": line.code.hex(), "asm": line.asm,
    }  # fmt: skip
    if isinstance(line, ExitLine):
        if line.linear is not None:
            start["linear"] = hex(line.linear)
        return start | {
            "cpu_mode": line.cpu_mode, "reason": line.reason, "detail": line.detail,
            "handled": line.handled, "ring": line.ring, "ns": line.ns, "vmm_ns": line.vmm_ns,
            "source": line.source,
        }  # fmt: skip
    changed = {k: v.hex() if isinstance(v, bytes) else hex(v) for k, v in line.changed.items()}
    return {**start, "changed": {**changed}}


def availability(core: Availability) -> dict[str, Value]:
    """One of ``doctor --json``'s cores."""
    return {
        "core": core.core,
        "engine": core.engine,
        "available": core.available,
        "reason": core.reason,
        "abilities": [
            {"name": name, "present": present, "consequence": consequence}
            for name, present, consequence in core.abilities
        ],
    }


def entry(entry: Entry) -> dict[str, Value]:
    """An entry of the table, as ``explain --json`` prints it."""
    return {
        "name": entry.name,
        "sensitivity": entry.sensitivity.value,
        "privileged": entry.privileged,
        "reason": entry.reason.value,
        "why": entry.why,
        "rule": entry.rule,
        "listed": entry.listed,
        "cores": {**entry.cores},
    }


def finding(finding: Finding) -> dict[str, Value]:
    """One of ``probe --json``'s instructions."""
    return {
        "name": finding.entry.name,
        "bytes": finding.sample.hex(),
        "sensitivity": finding.entry.sensitivity.value,
        "outcome": finding.outcome,
        "vector": finding.vector or None,
        "answer": None if finding.answer is None else hex(finding.answer),
    }
