"""What the makers of handlers get: one instruction at which the guest exits (known_sites.py)."""

from __future__ import annotations

from typing import NamedTuple

from cores.engines.base import RegisterWindow
from cores.vmm.completion import Completion
from cores.vmm.first_stores import FirstStores
from cores.vmm.known_exits import KnownExits
from cores.vmm.patched_code import PatchedCode
from cores.vmm.state import GuestContext
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Instruction


class Site(NamedTuple):
    """An instruction at which the guest exits, and what its handler needs.

    record: of an exit there. following: RIP after it. ring: the CPL."""

    guest: GuestContext
    known: KnownExits
    completion: Completion
    stores: FirstStores
    patched: PatchedCode
    window: RegisterWindow
    insn: Instruction
    record: ExitEvent
    following: int
    ring: int
