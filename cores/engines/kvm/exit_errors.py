"""Exits after which KVM cannot go on, in words: is it the guest, or this host's KVM?"""

from __future__ import annotations

from cores.engines.base import Failed
from cores.engines.kvm import api
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import Instruction, Sensitivity
from cores.x86.virtual_cpu import VirtualCpu

RING_0_DIRECT = "ring 0 runs on the CPU"
STEPS_KERNEL = "single step in ring 0, through faults"
STEPS_USER = "single step in ring 3, through faults"
"""Names in `doctor` of what a host may lack so that a guest stops with an error (``Failed.limit``)."""


def failed_instruction(run: api.RunPage) -> bytes:
    """The bytes at which the kernel's instruction emulator gave up; b"" when it does not say."""
    suberror, count, flags, length, code = api.INTERNAL.unpack_from(run, api.UNION)
    if suberror != api.ERROR_EMULATION or count < 3 or not flags & 1:
        return b""
    return bytes(code[:length])


def _decoded(code: bytes) -> Instruction | None:
    try:
        return decode(code)
    except (GuestFault, Truncated):
        return None


def is_sensitive(code: bytes) -> bool:
    """Is it one of those that the VMM knows how to complete?"""
    insn = _decoded(code)
    return insn is not None and insn.sensitivity is not Sensitivity.ORDINARY


def in_words(code: bytes, rip: int) -> str:
    """The instruction in Intel syntax, as far as it is known."""
    insn = _decoded(code)
    return f"'{text(insn, rip)}'" if insn is not None else "the instruction"


def failure(run: api.RunPage, reason: int, cpu: VirtualCpu, interprets: bool) -> Failed:
    """The exit, with a sentence for the user. interprets: this KVM executes ring 0 in software, which
    is the cause where its instruction emulator gives up in ring 0."""
    if reason == api.EXIT_FAIL_ENTRY:
        (why, _) = api.FAIL_ENTRY.unpack_from(run, api.UNION)
        return Failed(f"the CPU refused the guest's state (hardware entry failure {why:#x})")
    if reason != api.EXIT_INTERNAL_ERROR:
        name = api.EXIT_NAMES.get(reason, reason)
        return Failed(f"KVM came back with {name}, which this engine never asks for")
    suberror = api.INTERNAL.unpack_from(run, api.UNION)[0]
    if suberror != api.ERROR_EMULATION:
        return Failed(f"KVM gave up with its internal error {suberror} at RIP {cpu.rip:#x}")
    shown = in_words(failed_instruction(run), cpu.rip)
    return Failed(
        f"this host's KVM cannot emulate {shown} at RIP {cpu.rip:#x} in ring {cpu.cpl}: "
        "it is a limit of the host, not of the guest",
        RING_0_DIRECT if interprets and cpu.cpl == 0 else "",
    )
