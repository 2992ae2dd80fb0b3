"""The inside of a machine as rows of text: memory, page tables, descriptor tables, devices."""

from __future__ import annotations

from app.tui.rows.rows import EMPTY, Row, beside, fit, printable, row, width_of
from cores.inspection.page_tables import Entry, PagingView, Range
from cores.inspection.tables_devices import DevicesView, Gate, SegmentEntry, TablesView
from cores.inspection.views import MemoryView
from cores.machine.report import MachineSnapshot
from cores.plural import counted

BYTES = 16
"""Bytes of memory in a row."""
WIDE = 130
"""From so many cells on, two parts stand side by side."""


def memory_rows(view: MemoryView, width: int) -> list[Row]:
    """Address, bytes, characters. A changed byte has a mark behind it."""
    digits = 16 if view.start >> 32 else 8
    rows: list[Row] = []
    for at in range(0, len(view.data) - BYTES + 1, BYTES):
        line = view.data[at : at + BYTES]
        parts: list[tuple[str, str]] = [(f"{view.start + at & (1 << 64) - 1:0{digits}x}  ", "dim")]
        text: list[tuple[str, str]] = [(" ", "text")]
        for i, byte in enumerate(line):
            address = view.start + at + i
            changed = address in view.changed
            role = "changed" if changed else "read" if address == view.target else "text"
            if not byte and (byte is None or role == "text"):
                role = "dim"
            parts.append(("--" if byte is None else f"{byte:02x}", role))
            parts.append(("*" if changed else " ", role if changed else "text"))
            text.append((" " if byte is None else printable(chr(byte)) if byte < 0x7F else "·", role))
        rows.append((*parts, *text))
    if memory_columns(width) < 2:
        return rows
    half = -(-len(rows) // 2)
    return beside(rows[:half], rows[half:], width // 2 + 1)


def memory_columns(width: int) -> int:
    """Number of memory blocks side by side."""
    return 2 if width >= 154 else 1


def rights(writable: bool, user: bool, executable: bool) -> str:
    return f"r{'w' if writable else '-'}{'x' if executable else '-'} {'user' if user else 'kernel'}"


def size_words(size: int) -> str:
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift and not size & (1 << shift) - 1:
            return f"{size >> shift} {unit}"
    return f"{size}"


def paging_rows(view: PagingView, m: MachineSnapshot, width: int) -> list[Row]:
    """The walk of an address, and all that is mapped beside what the host has mapped for it."""
    walk = _walk_rows(view)
    ranges = _range_rows(view, m)
    if width >= WIDE:
        return beside(walk, ranges, 68)
    return [*walk, EMPTY, *ranges]


def _walk_rows(view: PagingView) -> list[Row]:
    how = f"   CR3 {view.root:x}, {view.format}" if view.format else ""
    rows = [row(("Walk of ", "dim"), (f"{view.address:x}", "strong"), (how, "dim"))]
    if not view.format:
        rows.append(row(("Paging is off: a linear address is a physical one.", "comment")))
    elif not view.walk:
        rows.append(row(("not a canonical address", "bad")))
    for entry in view.walk:
        rows.append(_entry_row(entry))
    if view.gpa is not None:
        rows.append(
            row((fit("", 16), "dim"), ("physical address ", "dim"), (f"{view.gpa:x}", "strong"))
        )
    return rows


def _entry_row(entry: Entry) -> Row:
    bits = (("P", 0), ("W", 1), ("U", 2), ("A", 5), ("D", 6), ("PS", 7), ("XD", 63))
    flags = " ".join(name for name, bit in bits if entry.value >> bit & 1)
    ended = entry.verdict and not entry.verdict.startswith("a page")
    return row(
        (fit(entry.table, 15), "text"), (f"[{entry.index:>3}] ", "dim"),
        (f"{entry.value:>11x} ", "strong"),
        (fit(flags, 14), "dim"), (f" {entry.verdict}", "bad" if ended else "text"),
    )  # fmt: skip


def _range_rows(view: PagingView, m: MachineSnapshot) -> list[Row]:
    shadow = view.shadow is not None
    head = f"{'guest virtual':<27}{'physical':>11}  {'rights':<12}{'pages':>6}"
    rows = [row((head, "dim"), ("   shadow: kernel, user" if shadow else "", "dim"))]
    for r in view.ranges:
        where = f"{r.start:x}-{r.start + r.length - 1:x}"
        parts = [
            (fit(where, 27), "text"), (f"{r.gpa:>11x}  ", "text"),
            (f"{rights(r.writable, r.user, r.executable):<12}", "dim"),
            (f"{size_words(r.page):>6}", "dim"),
        ]  # fmt: skip
        if shadow:
            parts.append(("   " + ", ".join(_share(r, part) for part in r.shadowed), "strong"))
        rows.append(tuple(parts))
    if not view.ranges and view.format:
        rows.append(row(("nothing is mapped at all", "bad")))
    if not view.complete:
        rows.append(row(("... and more: these tables are too many to list", "dim")))
    rows.append(EMPTY)
    if view.shadow is None:
        rows.append(row((_without_shadow(m), "comment")))
        return rows
    count, fills = len(view.shadow), view.fills
    words = (
        f"The host has {counted(count, 'mapping')} for them;"
        f" {counted(fills, 'fault has', 'faults have')} filled some so far."
    )
    rows.append(row((words, "comment")))
    for user, gva, gpa, length in view.stale[:32]:
        space = "user" if user else "kernel"
        words = f"stale in {space}: {gva:x}-{gva + length - 1:x} to {gpa:x}; not so in the tables now"
        rows.append(row(("≠ ", "bad"), words))
    return rows


def _without_shadow(m: MachineSnapshot) -> str:
    """The reason why the VMM has no shadow of these tables; on KVM by its paging on this host."""
    if m.core != "kvm":
        return "No shadow: the emulator walks these tables in software."
    if m.nested_paging:
        return "No shadow: the CPU walks these tables itself, then the host's (nested paging)."
    if m.nested_paging is None:
        return "The VMM has no shadow of them; whether KVM has one this host does not say."
    fills = (m.kernel_exits or {}).get("pf_fixed")
    filled = "its fills are not counted"
    if fills is not None:
        filled = f"filled {counted(fills, 'time')} by its count"
    return f"No nested paging here: the host's kernel keeps a shadow of these tables, {filled}."


def _share(r: Range, part: int) -> str:
    if not part:
        return "-"
    return "all" if part >= r.length else size_words(part)


def tables_rows(view: TablesView, width: int) -> list[Row]:
    """GDT and TSS, and the IDT."""
    left = [*_loaded_rows(view), *_gdt_rows(view)]
    right = _idt_rows(view)
    return beside(left, right, 72) if width >= WIDE else [*left, EMPTY, *right]


def _loaded_rows(view: TablesView) -> list[Row]:
    """The segment registers, where a program's addresses go through them."""
    if not view.loaded:
        return []
    rows = [row(("Segments", "strong"), ("  selector, base, limit, as they were loaded", "dim"))]
    for s in view.loaded:
        rows.append(
            row(
                (f"{s.name:>4} ", "strong"), f"{s.selector:>4x}  ",
                (f"base {s.base:<8x}  limit {s.limit:<8x}  ", "text"), (s.kind, "dim"),
            )
        )  # fmt: skip
    return [*rows, EMPTY]


def _gdt_rows(view: TablesView) -> list[Row]:
    base, limit = view.gdtr
    rows = [row(("GDT", "strong"), (f" at {base:x}, limit {limit:x}", "dim"))]
    rows += [_segment_row(entry) for entry in view.segments]
    if not view.segments:
        rows.append(row(("no descriptor can be read", "bad")))
    stacks = [(name, value) for name, value in view.tss if value]
    words = ", ".join(f"{name} {value:x}" for name, value in stacks)
    return [*rows, EMPTY, row(("TSS", "strong"), (" " + (words or "all stack pointers 0"), "text"))]


def _segment_row(e: SegmentEntry) -> Row:
    where = "" if e.kind.startswith("64-bit") else f", base {e.base:x}, limit {e.limit:x}"
    return row(
        (f"{e.selector:>4x} ", "text"), (fit(e.kind + where, 42), "text"), (f" ring {e.dpl} ", "dim"),
        ("" if e.present else "absent ", "bad"), (" ".join(e.used), "strong"),
    )  # fmt: skip


def _idt_rows(view: TablesView) -> list[Row]:
    base, limit = view.idtr
    rows = [row(("IDT", "strong"), (f" at {base:x}, limit {limit:x}", "dim"))]
    if not view.gates:
        rows.append(row(("no gate: any exception or interrupt shuts the machine down", "comment")))
    last: Gate | None = None
    for gate in view.gates:
        like = last is not None and gate.vector == last.vector + 1 and gate.offset == last.offset
        if not like or gate.name:
            rows.append(_gate_row(gate, view.symbols))
        elif not rows[-1][0][0].endswith("... "):
            rows.append(row((f"{'':>3} ... ", "dim"), ("and on, to the same handler", "dim")))
        last = gate
    return rows


def _gate_row(g: Gate, symbols: dict[int, str]) -> Row:
    name = symbols.get(g.offset, "")
    return row(
        (f"{g.vector:>3x} ", "text"), (fit(g.name, 5), "strong"), (fit(g.kind, 15), "dim"),
        (f"{g.selector:x}:{g.offset:x} ", "text"), (f"{printable(name)} " if name else "", "strong"),
        (f"ring {g.dpl} " if g.dpl else "", "dim"), (f"stack {g.stack} " if g.stack else "", "dim"),
        ("" if g.present else "absent", "bad"),
    )  # fmt: skip


DEVICE = 44
"""Cells that a device's column takes at least."""


def devices_rows(view: DevicesView, width: int) -> list[Row]:
    """Blocks in as many columns as fit, each block under the shortest column."""
    count = max(1, width // DEVICE)
    room = width // count
    columns: list[list[Row]] = [[] for _ in range(count)]
    for device in view.devices:
        column = min(columns, key=len)
        column.append(row((device.name, "strong")))
        for name, value in device.facts:
            label = "  " + name
            gap = max(16, width_of(label) + 1)
            words = fit(printable(value), room - gap - 2, "…")
            column.append(row((fit(label, gap), "dim"), words))
        column.append(EMPTY)
    rows = columns[0]
    for i, column in enumerate(columns[1:], 1):
        rows = beside(rows, column, i * room)
    return rows
