"""Cost of an instruction on this host, for lessons to quote: one loop, executed in four ways.

    speed.stepped       the interpreter stops after each instruction, as in exact mode
    speed.watched       the trap core stops after each, as in exact mode
    speed.translated    the interpreter runs freely: blocks of code, translated once, run often
    speed.direct        the trap core runs freely: the CPU itself

In nanoseconds an instruction. Measured when first asked for, which takes about a fifth of a second.
"""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache

from cores.errors import UnavailableError
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.programs.program import LOAD_ADDRESS, Program, Segment

INSTRUCTIONS_A_TURN = 5
TURNS = 1_000_000
STEPS = 2_000
TIMES = 3
"""The least of so many runs counts: whatever else the computer does can only add."""
KINDS = ("stepped", "watched", "translated", "direct")
ON_THE_CPU = ("watched", "direct")


@cache
def nanoseconds(kind: str) -> float | None:
    """One of KINDS; None where the core is not here."""
    return min((each for _ in range(TIMES) if (each := _once(kind)) is not None), default=None)


def _once(kind: str) -> float | None:
    """Nanoseconds an instruction in one run; None: it cannot run here, or came to no end."""
    try:
        machine = start(_loop(), "trap:native" if kind in ON_THE_CPU else "interpreter", Options())
    except UnavailableError:
        return None
    with contextlib.closing(machine):
        done = _step(machine) if kind in ("stepped", "watched") else _run(machine)
        return machine.seconds * 1e9 / done if done else None


def _step(machine: Machine) -> int:
    for _ in range(STEPS):
        machine.step()
    return STEPS


def _run(machine: Machine) -> int:
    machine.run_free(30)
    return TURNS * INSTRUCTIONS_A_TURN if machine.stop is Stop.EXIT else 0


def _loop() -> Program:
    """mov ecx, TURNS; 1: add rax, rcx; xor rbx, rax; mov [rsp-8], rbx; dec ecx; jnz 1b; out 0xf4, al"""
    turns = TURNS.to_bytes(4, "little").hex()
    code = bytes.fromhex(f"b9 {turns} 4801c8 4831c3 48895c24f8 ffc9 75f1 e6f4")
    segment = Segment(LOAD_ADDRESS, code, len(code))
    return Program("loop", "flat", LOAD_ADDRESS, (segment,), hashlib.sha256(code).hexdigest())
