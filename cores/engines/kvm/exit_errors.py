"""Error texts for exits after which KVM cannot continue. Each says whether guest or host is the
cause."""

from __future__ import annotations

from cores.engines.base import Failed
from cores.engines.kvm import api
from cores.pc.physical_memory import PhysicalMemory
from cores.x86.faults import GuestFault, Unsupported
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import Instruction, Sensitivity
from cores.x86.mmu.code_fetch import demand_ram, instruction_at
from cores.x86.mmu.paging import Mmu, walk
from cores.x86.mode import code_bits
from cores.x86.virtual_cpu import VirtualCpu

RING_0_DIRECT = "ring 0 runs on the CPU"
STEPS_KERNEL = "single step in ring 0, through faults"
STEPS_USER = "single step in ring 3, through faults"
PAGES_OUTSIDE = "paging outside long mode"
GIBIBYTE_PAGES = "pages of 1 GiB"
"""Abilities whose absence on a host stops a guest with an error (``Failed.limit``); the names are those
that `doctor` prints."""


NO_PAGING = Failed(
    "this host's KVM has no hardware support, and no paging outside long mode: a guest in real or"
    " 32-bit mode cannot run on it",
    PAGES_OUTSIDE,
)


NO_GIBIBYTE_PAGES = Failed(
    "this host's KVM has no pages of 1 GiB: the guest's access to one was a page fault, at which it"
    " shut down",
    GIBIBYTE_PAGES,
)


def in_gibibyte_page(memory: PhysicalMemory, cpu: VirtualCpu, gva: int) -> bool:
    """Do the guest's page tables lead from ``gva`` to a page of 1 GiB?"""
    try:
        return walk(memory, cpu, gva, user=False, mark=False).size == 1 << 30
    except GuestFault:
        return False


def failed_instruction(run: api.RunPage) -> bytes:
    """The bytes of the instruction that the kernel's emulator could not execute; b"" when the exit does
    not report them."""
    suberror, count, flags, length, code = api.INTERNAL.unpack_from(run, api.UNION)
    if suberror != api.ERROR_EMULATION or count < 3 or not flags & 1:
        return b""
    return bytes(code[:length])


def _decoded(code: bytes, bits: int) -> Instruction | None:
    try:
        return decode(code, bits)
    except (GuestFault, Truncated):
        return None


def is_sensitive(code: bytes, cpu: VirtualCpu) -> bool:
    """Is ``code`` a sensitive instruction, which the VMM can complete?"""
    insn = _decoded(code, code_bits(cpu))
    return insn is not None and insn.sensitivity is not Sensitivity.ORDINARY


def in_words(code: bytes, cpu: VirtualCpu) -> str:
    """The instruction in Intel syntax; "the instruction" where ``code`` does not decode."""
    insn = _decoded(code, code_bits(cpu))
    return f"'{text(insn, cpu.rip)}'" if insn is not None else "the instruction"


def _outside_ram(cpu: VirtualCpu, memory: PhysicalMemory) -> str:
    """The error for an instruction at RIP that is not in RAM, "" where it is: KVM fetches nothing from
    other addresses, and reports that it cannot emulate the instruction."""
    mmu = Mmu(memory, cpu)
    try:
        demand_ram(instruction_at(cpu, mmu, cpu.rip), cpu, mmu)
    except Unsupported as limit:
        return str(limit)
    except GuestFault:
        return ""
    return ""


def failure(
    run: api.RunPage, reason: int, cpu: VirtualCpu, memory: PhysicalMemory, interprets: bool
) -> Failed:
    """The exit as ``Failed``, with a sentence for the user. interprets: this KVM executes ring 0 in
    software, which is the cause when its instruction emulator fails in ring 0."""
    if reason == api.EXIT_FAIL_ENTRY:
        (why, _) = api.FAIL_ENTRY.unpack_from(run, api.UNION)
        return Failed(f"the CPU refused the guest's state (hardware entry failure {why:#x})")
    if reason != api.EXIT_INTERNAL_ERROR:
        name = api.EXIT_NAMES.get(reason, reason)
        return Failed(f"KVM came back with {name}, which this engine never asks for")
    suberror = api.INTERNAL.unpack_from(run, api.UNION)[0]
    if suberror != api.ERROR_EMULATION:
        return Failed(f"KVM gave up with its internal error {suberror} at RIP {cpu.rip:#x}")
    if outside := _outside_ram(cpu, memory):
        return Failed(outside)
    shown = in_words(failed_instruction(run), cpu)
    return Failed(
        f"this host's KVM cannot emulate {shown} at RIP {cpu.rip:#x} in ring {cpu.cpl}: "
        "it is a limit of the host, not of the guest",
        RING_0_DIRECT if interprets and cpu.cpl == 0 else "",
    )
