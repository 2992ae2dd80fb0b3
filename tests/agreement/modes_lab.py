"""Guests in 16- and 32-bit code (modes/*.guests), each inside frame32.s: see agreement_lab.py.

    ## name [options]: what it proves
    %refused words              what the sentence says with which it is refused, in place of:
    %console 0d:0000 0c:0018    what it writes: exceptions as "vector:error", values in hexadecimal
    ...                         32-bit code in ring 0
    %user                       32-bit code in ring 3, which `jmp enter_user` enters
    %more                       handlers and data of its own
    %gdt                        its descriptors, from selector 0x38 on

A line that begins with `!` may fault: the guest goes on behind it. Options: ``iopl=3``: of ring 3.
``not-bochs``, ``not-qemu``: what that peer does otherwise, with the reason in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agreement_lab import ERROR_CODES, HEADING, wanted

from cores.engines import registry
from cores.engines.base import DeprivilegedEngine
from cores.engines.kvm.exit_errors import PAGES_OUTSIDE
from cores.lockstep.options import Options
from cores.programs.loader import assemble_program
from cores.programs.program import Program

FOLDER = Path(__file__).parent / "modes"
FRAME = (FOLDER / "frame32.s").read_text()
OPTIONS = Options(ram=8 << 20)


@dataclass(frozen=True)
class ModeGuest:
    """One guest: its source, and the console that it must write. on_kvm: what it writes running freely
    on KVM, where the host's CPU decides (cores/x86/isa/cpu_differences.py). refused: words of the
    sentence with which the platform stops it, or ""."""

    name: str
    proves: str
    options: dict[str, str]
    source: str
    console: str
    on_kvm: str = ""
    refused: str = ""

    def expected(self, core: str) -> str:
        """What it writes running freely."""
        return self.on_kvm if core == "kvm" and self.on_kvm else self.console

    @property
    def program(self) -> Program:
        return _assembled(self.source, self.name)


@cache
def _assembled(source: str, name: str) -> Program:
    """A guest's program, assembled once: that takes a process of its own each time."""
    return assemble_program(source.encode(), f"{name}.s")


def load() -> dict[str, ModeGuest]:
    """Read all guests, by name; a file that ends in .s is one guest by itself."""
    guests = {}
    for path in sorted(FOLDER.glob("*.s")):
        if path.name != "frame32.s":
            text = path.read_text()
            first, second, *_ = text.splitlines()
            console, on_kvm = first.partition("console: ")[2], second.partition("on kvm, free: ")[2]
            on_kvm = on_kvm.partition(" ")[0]
            guests[path.stem] = ModeGuest(path.stem, "", {}, text, console, on_kvm)
    for path in sorted(FOLDER.glob("*.guests")):
        text = path.read_text()
        headings = list(HEADING.finditer(text))
        for heading, following in zip(headings, [*headings[1:], None], strict=True):
            guest = _guest(heading, text[heading.end() : following.start() if following else None])
            assert guest.name not in guests, f"{guest.name} stands twice"
            guests[guest.name] = guest
    return guests


def _guest(heading: re.Match[str], body: str) -> ModeGuest:
    name, options, proves = heading.groups()
    words = dict((*word.partition("="),)[::2] for word in (options or "").split())
    parts = {"kernel": "", "user": "", "more": "", "gdt": ""}
    part, console, refused = "kernel", "", ""
    for number, line in enumerate(body.splitlines()):
        if line.startswith("%console"):
            console += line.removeprefix("%console").strip() + " "
        elif line.startswith("%refused"):
            refused = line.removeprefix("%refused").strip()
        elif line.startswith("%"):
            part = line[1:].strip()
        else:
            parts[part] += _going_on(line, f"{part}_{number}") + "\n"
    parts |= {"stubs": _stubs(), "gates": _gates()}
    parts["iopl"] = f"{int(words.get('iopl', '0')) << 12:#x}"
    source = re.sub(r"\{(\w+)\}", lambda m: parts[m[1]], FRAME)
    return ModeGuest(name, proves, words, source, console, refused=refused)


def _going_on(line: str, label: str) -> str:
    """Translate ``! instruction``: ``resume`` holds the address at which the guest goes on."""
    stripped = line.strip()
    if not stripped.startswith("!"):
        return line
    return f"mov dword ptr gs:[resume], offset after_{label}\n{stripped[1:]}\nafter_{label}:"


def _stubs() -> str:
    lines = []
    for vector in range(32):
        error = "" if vector in ERROR_CODES else "push 0; "
        lines.append(f"v{vector}: {error}push {vector}; jmp common")
    return "\n".join(lines)


def _gates() -> str:
    """32-bit interrupt gates; traps, and 0x30, which ends the guest, are open to ring 3."""

    def gate(label: str, attributes: int) -> str:
        return f".short {label} - _start, 8; .byte 0, {attributes}; .short 0x10"

    gates = [gate(f"v{v}", 0xEE if v in (3, 4) else 0x8E) for v in range(32)]
    return "\n".join([*gates, *[gate("v13", 0x0E)] * 16, gate("finish", 0xEE)])


_ALL = load()
GUESTS = {name: guest for name, guest in _ALL.items() if not guest.refused}
REFUSED = {name: guest for name, guest in _ALL.items() if guest.refused}


@cache
def legacy_cores() -> list[str]:
    """The cores here that execute 16- and 32-bit code, the interpreter first."""
    found = ["interpreter"]
    for core in filter(wanted, ("trap:native", "trap:portable")):
        if registry.availability(core).available:
            engine = registry.create(core)
            if isinstance(engine, DeprivilegedEngine) and engine.executes_legacy_code:
                found.append(core)
            engine.close()
    if kvm_has_all_modes():
        found.append("kvm")
    return found


def kvm_has_all_modes() -> bool:
    """Whether KVM runs here, and has 16- and 32-bit code (a KVM without hardware support has not)."""
    kvm = registry.availability("kvm", detailed=True)
    return kvm.available and any(has for name, has, _ in kvm.abilities if name == PAGES_OUTSIDE)
