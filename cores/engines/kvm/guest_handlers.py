"""The guest's exception handlers as breakpoints, and in long mode the frame that exception delivery
pushed. Outside long mode gates and frames are others: legacy_handlers.py.

A CPU with hardware support delivers exceptions by itself, and its single-step trap comes after the
handler's first instruction; on some CPUs it comes only after the handler has returned. A step therefore
also arms the four breakpoint registers with the entries of the handlers that the instruction can reach.
The stepper identifies an exception by the entry at which the CPU arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack, unpack_from

from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.isa.opcodes import is_x87
from cores.x86.registers import RBP, RSP, SS, Cr0, Flag, Vector
from cores.x86.virtual_cpu import VirtualCpu

GATES = 20
"""Number of gates looked at: the last exception is #XM, vector 19."""
GATE_BYTES = 16
BREAKPOINTS = 4

DELIVERYS_OWN = Flag.TF | Flag.RF
"""Flags in a frame that the stepper or delivery has set, not the guest."""

WITH_ERROR = frozenset({8, 10, 11, 12, 13, 14, 17})
"""The exceptions that push an error code, outside real mode (SDM vol. 3, table 6-1)."""
_MAY_NOT_DIVIDE = frozenset({"div", "idiv", "aam"})


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame that delivery pushed (SDM vol. 3, 6.14.2). error: None when the vector has none."""

    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int
    error: int | None


def entries(idt: bytes) -> list[int | None]:
    """Handler entries by vector; None where the IDT ends before the gate, or the descriptor is not a
    present interrupt or trap gate."""
    found: list[int | None] = []
    for at in range(0, len(idt) - GATE_BYTES + 1, GATE_BYTES):
        low, kind, middle, high = unpack_from("<H3xBHI", idt, at)
        found.append(low | middle << 16 | high << 32 if kind & 0x9E == 0x8E else None)
    return found + [None] * (GATES - len(found))


def possible(insn: Instruction, cpu: VirtualCpu) -> list[int]:
    """Vectors of the exceptions that an ordinary instruction may raise here, the likelier first."""
    vectors = [Vector.PF, Vector.GP] if cpu.cr0 & Cr0.PG else [Vector.GP]
    if insn.mnemonic in _MAY_NOT_DIVIDE:
        vectors.append(Vector.DE)
    if insn.mnemonic == "bound":
        vectors.append(Vector.BR)
    if insn.mnemonic.startswith("ud") or insn.lock:
        vectors.append(Vector.UD)
    if insn.floating:
        if cpu.cr0 & (Cr0.TS | Cr0.EM):
            vectors += (Vector.NM, Vector.UD)
        else:
            vectors.append(Vector.MF if is_x87(parse(insn.code, insn.bits)) else Vector.XM)
    if cpu.cpl == 3 and cpu.rflags & Flag.AC and cpu.cr0 & Cr0.AM:
        vectors.append(Vector.AC)
    if insn.implicit not in ("", "string", "bits") or any(
        isinstance(o, MemoryOperand) and _through_stack(o) for o in insn.operands
    ):  # a bad address raises #SS only through the stack segment
        vectors.append(Vector.SS)
    return vectors


def _through_stack(operand: MemoryOperand) -> bool:
    """Whether an access by ``operand`` may raise #SS. In 64-bit code a prefix does not choose SS."""
    return operand.base in (RSP, RBP) or (operand.bits != 64 and operand.segment == SS)


def choose(handlers: list[int | None], vectors: list[int], room: int) -> dict[int, list[int]]:
    """Up to ``room`` addresses to stop at, each with the vectors that are delivered there.

    A vector without a handler ends as #DF, #NP or #GP instead, or in a shutdown. #UD comes last: this
    CPU may lack any instruction that the platform's has (0F 0D with a register on AMD). In room that is
    left #SS is added, with no vector: most instructions then have the same breakpoints, and to set
    others costs 7 us."""
    wanted = list(vectors)
    if any(handlers[v] is None for v in vectors):
        wanted += [Vector.DF, Vector.NP]
    if Vector.UD not in vectors:
        wanted.append(Vector.UD)
    places: dict[int, list[int]] = {}
    for vector in wanted:
        entry = handlers[vector]
        if entry in places or (entry is not None and len(places) < room):
            places.setdefault(entry, []).append(vector)
    entry = handlers[Vector.SS]
    if entry is not None and len(places) < room:
        places.setdefault(entry, [])
    return places


def by_error_code(vectors: list[int], rsp: int) -> list[int]:
    """Those of ``vectors`` that fit the frame at ``rsp``. Delivery aligns the stack to 16 bytes and
    pushes five words, or six with an error code, so that RSP's low bits tell which."""
    has_error = rsp % 16 == 0
    return [v for v in vectors if (v in WITH_ERROR) is has_error]


def frame(words: bytes, rsp: int) -> Frame:
    """Read the frame from the 48 bytes at ``rsp``."""
    first, *rest = unpack("<6Q", words)
    error = None
    if rsp % 16 == 0:
        error, first, rest = first & 0xFFFFFFFF, rest[0], rest[1:]
    cs, rflags, old_rsp, ss = rest[:4]
    return Frame(first, cs, rflags, old_rsp, ss, error)
