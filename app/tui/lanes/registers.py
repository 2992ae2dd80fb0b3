"""The registers, once, since they are equal: first what changed, then all at fixed places; then what
the guest believes and what the CPU really has. Where the machines differ, the differences alone. And
each machine's own, side by side."""

from __future__ import annotations

from app.tui.lanes.facts import fact_rows, with_reasons
from app.tui.lanes.layout import first_fit, grid_columns, grid_rows, lanes, rule
from app.tui.lanes.scene import Scene, by_software, emulates, kind
from app.tui.rows.registers import RegisterFile, register_file
from app.tui.rows.rows import EMPTY, Row, fit_row, printable, raised, row, row_width, spread, width_of
from cores.machine.report import MachineSnapshot
from cores.pc.stop import Stop

_NUMBER = {1: "", 2: "  the same on both", 3: "  the same on all three", 4: "  the same on all four"}
BELIEVED = (
    ("ring", 8), ("IF", 6), ("cs", 7), ("ss", 7), ("ds", 7), ("cr0", 16), ("cr3", 16), ("gdtr", 16),
    ("idtr", 16), ("cr4", 16), ("efer", 16),
)  # fmt: skip
"""What a guest may believe, each with its cells."""
HOST = "host's own"


def flag_words(m: MachineSnapshot, value: int) -> str:
    """The flags that are set: "IF ZF PF", "none"."""
    flags = register_file(m).flags
    return " ".join(name.upper() for name, bit in flags if value >> bit & 1) or "none"


def _value(m: MachineSnapshot, name: str) -> str:
    value = m.registers.get(name, 0)
    return flag_words(m, value) if name == register_file(m).flags_in else f"{value:x}"


def _title(m: MachineSnapshot, name: str) -> str:
    return register_file(m).title(name, m.registers.get(name, 0))


def _sameness(scene: Scene) -> str:
    """On how many machines the registers are equal: a machine that the host has stopped has left."""
    machines = scene.s.machines
    going = sum(m.stop is not Stop.ERROR for m in machines)
    if going == len(machines):
        return _NUMBER.get(going, "")
    return f"  the same on the {going} that could go on" if going > 1 else ""


def title_rule(scene: Scene) -> Row:
    head: Row = row(("Registers", "strong"))
    if scene.parted:
        head += row(("  where the machines differ", "bad"))
    else:
        head += row((_sameness(scene), "dim"))
    return rule(scene, head)


def register_rows(scene: Scene, height: int) -> list[Row]:
    """``height`` rows, without the rule."""
    if scene.parted:
        return _padded(_differences(scene, height), height)
    m = scene.reference
    file = register_file(m)
    real = real_rows(scene) if height >= 4 else []
    full = height - 1 - len(real) >= grid_rows(scene.width)
    columns = grid_columns(scene.width)
    rest: Row = EMPTY
    if columns == 8 and full:
        rest = row(
            (f"{_title(m, file.pc)} ", "dim"), f"{m.registers.get(file.pc, 0):x}", ("   flags ", "dim"),
            _value(m, file.flags_in) + " ",
        )  # fmt: skip
    rows = [spread(changed_row(scene, m), rest, scene.width)]
    rows += _grid(scene, m, columns) if full else [_now(scene, m)]
    return _padded(rows + real, height)


def _padded(rows: list[Row], height: int) -> list[Row]:
    return (rows + [EMPTY] * height)[:height]


def changed_row(scene: Scene, m: MachineSnapshot) -> Row:
    """Old and new values, of the last instruction or since the user stopped last."""
    file, now = register_file(m), m.instructions
    one = now is None or now - scene.s.since == 1
    label = "changed" if one or now == scene.s.since else f"changed since {scene.s.since:,}"
    parts: Row = row((f" {label}  ", "dim"))
    if scene.moving:
        return row((" changed  -", "dim"))
    names = [name for name in m.registers if name in m.before and name != file.pc]
    if not names:
        return (*parts, ("nothing" if now else "-", "dim"))
    left = len(names)
    for name in names:
        old, new = m.before[name], _value(m, name)
        was = flag_words(m, old) if name == file.flags_in else f"{old:x}"
        part = row(f"{_title(m, name)} ", (f"{was} → ", "dim"), (new, "changed"), ("*   ", "changed"))
        if row_width(parts) + row_width(part) + 9 > scene.width:
            return (*parts, (f"and {left} more", "dim"))
        parts += part
        left -= 1
    return parts


def _grid(scene: Scene, m: MachineSnapshot, columns: int) -> list[Row]:
    """All general registers; each always at the same place."""
    file = register_file(m)
    names = [*file.general, *file.beside]
    if columns != 8:
        names += [file.pc, file.flags_in]
    width, rows = scene.width // columns, grid_rows(scene.width)
    out = []
    for y in range(rows):
        parts: list[tuple[str, str]] = []
        for x, name in enumerate(names[y * columns : (y + 1) * columns]):
            cell = _register(scene, m, name)
            parts = list(fit_row((*parts, *cell), (x + 1) * width))
        out.append(tuple(parts))
    return out


def _register(scene: Scene, m: MachineSnapshot, name: str) -> Row:
    changed = name in m.changed and not scene.moving
    zero = m.registers.get(name, 0) == 0
    role = "changed" if changed else "faint" if zero else "text"
    cell = row(
        " ",
        (f"{_title(m, name):<3} ", "dim"),
        (_value(m, name), role),
        ("*" if changed else "", "changed"),
    )
    return raised(cell) if name in scene.pointed else cell


def _now(scene: Scene, m: MachineSnapshot) -> Row:
    """Those that are not 0, in a row."""
    file = register_file(m)
    parts: Row = row((" now      ", "dim"))
    zeros = 0
    names = (*file.general, *file.beside, file.flags_in)
    for i, name in enumerate(names):
        value = m.registers.get(name, 0)
        if not value and name != file.flags_in:
            zeros += 1
            continue
        changed = name in m.changed and not scene.moving
        mark = ("* " if changed else "  ", "changed")
        part = row(
            (f"{_title(m, name)} ", "dim"), (_value(m, name), "changed" if changed else "text"), mark
        )
        if name in scene.pointed:
            part = raised(part)
        rest = sum(bool(m.registers.get(x, 0)) for x in names[i:])
        if row_width(parts) + row_width(part) + (10 if rest > 1 else 0) > scene.width:
            return (*parts, (f"{rest} more", "dim"))
        parts += part
    if zeros and row_width(parts) + 11 <= scene.width:
        parts += row((f"  {zeros} are 0", "faint"))
    return parts


# What the guest believes, what the CPU has


def _believed(m: MachineSnapshot, name: str) -> str:
    match name:
        case "ring":
            return f"{m.ring}"
        case "IF":
            return f"{m.registers.get('rflags', 0) >> 9 & 1}"
        case "gdtr" | "idtr":
            return f"{m.tables.get(name, 0):x}"
        case _:
            return f"{m.registers.get(name, 0):x}"


def real_value(m: MachineSnapshot, name: str) -> str | None:
    """What the CPU holds in its place: a value, ``HOST``; None where software executes the guest."""
    real = m.real
    if real is None:
        return None
    match name:
        case "ring":
            return f"{real['cs'] & 3}"
        case "IF":
            return f"{real['rflags'] >> 9 & 1}"
        case "cs" | "ss" | "ds" | "es" | "fs" | "gs":
            return f"{real[name]:x}"
        case _:
            return HOST


def real_rows(scene: Scene) -> list[Row]:
    """Two rows, aligned: on a trap core what it believes and what there is; without one, what the
    guest has."""
    m = next((x for x in scene.s.machines if x.real is not None), None)
    shown = m or scene.reference
    if "cr0" not in shown.registers:
        return []
    name = "" if m is None else "TRAP"
    above = list(row(" ", (f"{name:<5}" if name else "the ", "strong" if name else "dim")))
    above += row(("guest believes ", "dim"))
    below = list(row((" " * (row_width(tuple(above)) - 15) + "CPU really has ", "dim")))
    for title, width in BELIEVED:
        if row_width(tuple(above)) + width > scene.width:
            break
        believed = _believed(shown, title)
        real = real_value(shown, title)
        above += fit_row(row((title + " ", "dim"), believed), width)
        words = "" if real is None else real
        role = "host-bold" if real != believed else "dim"
        below += fit_row(row((" " * (len(title) + 1), "dim"), (words, role)), width)
    return [tuple(above), tuple(below) if m is not None else EMPTY]


# Where the machines differ


def _differences(scene: Scene, height: int) -> list[Row]:
    d = scene.s.divergence
    assert d is not None
    machines = scene.s.machines
    file = register_file(machines[0])
    names = (*file.general, file.pc, file.flags_in, *file.system)
    differ = [name for name in names if len({m.registers.get(name) for m in machines}) > 1]
    rows: list[Row] = []
    other = next(
        (name for name in d.differs if name not in (*file.general, file.flags_in, file.pc)), None
    )
    if other is not None and other not in differ:
        rows.append(_first_difference(scene, other))
    for name in differ:
        rows.append(_difference(scene, name))
    if len(rows) > height:
        hidden = len(rows) - height + 1
        rows = [*rows[: height - 1], row((f" and {hidden} more", "dim"))]
    elif len(rows) < height:
        rows.append(row((" All registers are equal." if not differ else " The others agree.", "dim")))
    return rows


def _first_difference(scene: Scene, name: str) -> Row:
    d = scene.s.divergence
    assert d is not None
    words = f"memory at {name[6:]}, the first difference" if name.startswith("mem:") else name
    cells: list[Row] = []
    first = next(iter(d.values.values()), {}).get(name)
    for lane in scene.lanes:
        value = d.values.get(lane.core, {}).get(name)
        shown = "-" if value is None else f"{value:02x}" if isinstance(value, int) else printable(value)
        role = "bad" if value != first else "text"
        cells.append(row((_end(shown, scene.lane - 1), role)))
    return lanes(scene, row((" ≠ ", "bad"), first_fit(scene.left - 4, words, name)), cells)


def _difference(scene: Scene, name: str) -> Row:
    first = scene.reference.registers.get(name)
    cells = []
    for lane in scene.lanes:
        m = lane.machine
        if m is None:
            cells.append(EMPTY)
            continue
        role = "bad" if m.registers.get(name) != first else "text"
        cells.append(row((_end(_value(m, name), scene.lane - 1), role)))
    return lanes(scene, row((" ≠ ", "bad"), _title(scene.reference, name)), cells)


def _end(text: str, width: int) -> str:
    """The end of a value that is too long."""
    return text if width_of(text) <= width else "…" + text[1 - width :]


# Each machine's own


def own_rows(scene: Scene, height: int) -> list[Row]:
    """The rule, then every register of every machine from ``scene.first`` on. What is 0 everywhere is
    told in one row where there is no room."""
    file = register_file(scene.reference)
    names = (*file.general, file.pc, file.flags_in)
    keys = row(("r", "key"), (" back   ", "dim"), ("↑↓", "key"), (" more", "dim"))
    head = rule(scene, row(("Registers, each machine's own", "strong")), keys)
    system = _system_rows(scene, file)
    rows = [_own(scene, file, name) for name in names]
    if len(rows) + len(system) > height:
        zero = [x for x in file.general if not any(m.registers.get(x) for m in scene.machines)]
        rows = [_own(scene, file, name) for name in names if name not in zero]
        if zero:
            rows.append(row((f" 0 everywhere: {' '.join(zero)}", "faint")))
    rows += system
    first = max(0, min(scene.first, len(rows) - height))
    return [head, *_padded(rows[first:], height)]


def own_count(scene: Scene) -> int:
    """Rows of ``own_rows`` at most."""
    file = register_file(scene.reference)
    return len(file.general) + 2 + len(_system_rows(scene, file))


def _own(scene: Scene, file: RegisterFile, name: str) -> Row:
    first = scene.reference.registers.get(name)
    cells = []
    for lane in scene.lanes:
        m = lane.machine
        if m is None:
            cells.append(EMPTY)
            continue
        value = m.registers.get(name, 0)
        text = flag_words(m, value) if name == file.flags_in else f"{value:0{file.digits}x}"
        differs, changed = value != first, name in m.changed and not scene.moving
        role = "bad" if differs else "changed" if changed else "faint" if not value else "text"
        mark = "≠" if differs else "*" if changed else ""
        cells.append(row((_end(text, scene.lane - 2), role), (mark, role)))
    line = lanes(scene, row(" ", (_title(scene.reference, name), "dim")), cells)
    return raised(line) if name in scene.pointed else line


def _system_rows(scene: Scene, file: RegisterFile) -> list[Row]:
    """The privileged ones; on a trap core with what the CPU has instead."""
    where = [
        EMPTY if (m := lane.machine) is None else row((_home(m, scene.lane - 1), _home_role(m)))
        for lane in scene.lanes
    ]
    label = first_fit(scene.left - 1, "the privileged ones", "privileged")
    rows = [lanes(scene, row(" ", (label, "dim")), where)]
    names = list(file.system)
    if "cr0" in scene.reference.registers:
        names = ["ring", "IF", *names, "gdtr", "idtr"]
    for name in names:
        cells = []
        for lane in scene.lanes:
            m = lane.machine
            if m is None:
                cells.append(EMPTY)
                continue
            believed, real = _believed(m, name), real_value(m, name)
            differs = believed != _believed(scene.reference, name)
            cell: Row = row((believed, "bad" if differs else "text"), ("≠" if differs else "", "bad"))
            if real is not None:
                words = "host's" if real == HOST else real
                if width_of(believed) + len(words) + 7 <= scene.lane:
                    cell += row((f" CPU: {words}", "host-bold" if real != believed else "dim"))
            cells.append(cell)
        rows.append(lanes(scene, row(" ", (name, "dim")), cells))
    return rows


def _home(m: MachineSnapshot, width: int) -> str:
    if emulates(m):
        return first_fit(width, "in host memory", "host memory")
    if kind(m.core) == "trap":
        return first_fit(width, "in the VMM's memory", "VMM's memory")
    return first_fit(width, "in KVM's vCPU 0", "KVM's vCPU 0")


def _home_role(m: MachineSnapshot) -> str:
    if kind(m.core) == "trap":
        return "host"
    return "soft" if by_software(m) else "cpu"


def own_facts(scene: Scene) -> list[Row]:
    facts = fact_rows(scene)
    return with_reasons(scene, [facts["names"], facts["general"]])
