"""Abilities of this host's KVM, each probed by a small guest at first use and cached.

With VT-x and AMD-V all of them are present. A KVM without hardware support interprets ring 0 in
software and runs ring 3 directly on the CPU, and both leave gaps.
"""

from __future__ import annotations

import contextlib
import threading
from functools import cache
from pathlib import Path
from struct import pack
from typing import NamedTuple

from cores.engines.base import Fault, Halted, Interrupted, PortWrite, RingZero, Stepped
from cores.engines.kvm import eventfds
from cores.engines.kvm.exit_errors import (
    GIBIBYTE_PAGES,
    PAGES_OUTSIDE,
    RING_0_DIRECT,
    STEPS_KERNEL,
    STEPS_USER,
)
from cores.engines.kvm.host import Host
from cores.engines.kvm.stepping import Manner
from cores.engines.kvm.trial import BY_TF, ENTRY, HANDLER, HLT, IDT, SCRATCH, Trial, attempt
from cores.pc.cpuid import CPUID_LEAVES
from cores.pc.platform import GDT, GDT_LIMIT, PML4
from cores.x86.registers import RAX, RBX, Cr0, Vector


class Ability(NamedTuple):
    """One probed ability. name: the behaviour that hardware support gives. consequence: a remark for
    the user, "" for none."""

    name: str
    present: bool
    consequence: str


def _halts(trial: Trial) -> bool:
    """Does the guest reach its own HLT, and not that of the exception handlers?"""
    return isinstance(trial.run(), Halted) and trial.cpu.rip > ENTRY


def _signals(trial: Trial) -> bool:
    return isinstance(trial.run(), PortWrite)


def _opens_a_window(trial: Trial) -> bool:
    trial.engine.inject(trial.cpu, lambda: 0x20)  # IF is clear
    return isinstance(trial.run(), Interrupted)


def _is_refused(trial: Trial) -> bool:
    """Does the guest halt in an exception handler? A refused RDMSR comes back once, for the VMM's
    answer (``api.Vm.watch_refused_msrs``)."""
    exit = trial.run()
    if isinstance(exit, Interrupted):
        exit = trial.run()
    return isinstance(exit, Halted) and trial.cpu.rip == HANDLER + 1


# mov eax, 1; add ebx, eax; xchg eax, [rdi]; mov [0], eax, which faults
_STEPS = bytes.fromhex("b801000000 01c3 8707 890425 00000000 f4")


def _steps(trial: Trial) -> bool:
    """Do three instructions and a page fault step with the right registers and error code?"""
    cpu, error = trial.cpu, 2 | (4 if trial.cpu.cpl == 3 else 0)
    for length in (5, 2, 2):
        before = cpu.rip
        if not isinstance(trial.step(), Stepped) or cpu.rip != before + length:
            return False
    at, stack = cpu.rip, cpu.gpr[4]
    fault = trial.step()
    return (
        isinstance(fault, Fault)
        and (fault.vector, fault.error, fault.address) == (Vector.PF, error, 0)
        and (cpu.rip, cpu.gpr[4], cpu.gpr[RAX], cpu.gpr[RBX]) == (at, stack, 0, 1)
    )


# mov eax, 1; cpuid; mov [rdi], eax; mov [rdi+4], ecx; hlt
_IDENTIFY = "b801000000 0fa2 8907 894f04 f4"


def _is_the_platforms(trial: Trial) -> bool:
    """Does CPUID return the leaves given to KVM? Compared are signature and features, which no host
    has by chance."""
    trial.run()
    eax, _, ecx, _ = CPUID_LEAVES[1]
    return trial.memory.read(SCRATCH, 8) == pack("<II", eax, ecx)


_SYSCALL, _INT_80 = b"\x0f\x05\xf4", b"\xcd\x80\xf4"
# sgdt [rdi]; sidt [rdi+16]; str [rdi+32]; sldt [rdi+34]; smsw [rdi+36]; hlt
_READS = bytes.fromhex("0f0107 0f014f10 0f004f20 0f004722 0f016724 f4")


def _is_truthful(trial: Trial) -> bool:
    """Does ring 3 read the guest's system registers? They hold values that no host has by chance."""
    cpu = trial.cpu
    cpu.tr.selector, cpu.cr0 = 0x1230, cpu.cr0 | Cr0.TS
    trial.run()
    seen = trial.memory.read(SCRATCH, 38)
    own = pack("<HQ6xHQ6xHHH", GDT_LIMIT, GDT, cpu.idtr.limit, IDT, 0x1230, 0, cpu.cr0 & 0xFFFF)
    return seen == own


@cache
def steps_kernel() -> bool:
    return attempt(_STEPS, _steps)


@cache
def steps_user() -> bool:
    return attempt(_STEPS, _steps, user=True)


@cache
def steps_user_by_tf() -> bool:
    return attempt(_STEPS, _steps, user=True, manner=BY_TF)


@cache
def truthful() -> bool:
    return attempt(_READS, _is_truthful, user=True)


@cache
def calls_by_syscall() -> bool:
    return attempt(_SYSCALL, _signals, user=True)


@cache
def calls_by_int() -> bool:
    return attempt(_INT_80, _signals, user=True)


def _maps_a_gibibyte(trial: Trial) -> bool:
    """Does the guest reach its own HLT after a load through a page of 1 GiB?"""
    trial.memory.write(PML4 + 0x1000 + 8, pack("<Q", 0x83))
    return _halts(trial)


@cache
def gibibyte_pages() -> bool:
    """Can the guest's page tables have pages of 1 GiB? mov eax, [0x40030000]; hlt"""
    return attempt(bytes.fromhex("8b042500000340 f4"), _maps_a_gibibyte)


def manner() -> Manner:
    """The properties of this host's KVM, probed at first use."""
    calls = calls_by_syscall() and calls_by_int()
    return Manner(
        steps_kernel(), steps_user(), truthful(), calls, interprets_kernel(), gibibyte_pages()
    )


_EMULATED = "insn_emulation"
"""The kernel's counter of instructions that KVM has interpreted (KVM API, KVM_GET_STATS_FD)."""
_TURNS = 1_000
_FILLED = "pf_fixed"
"""The kernel's counter of faults for which it filled an entry of a guest's shadow or nested tables."""
_ALIASES, _ALIASED, _ALIAS_TABLE = 256, 0x400000, 0x40000
# mov ecx, _ALIASES; mov edi, _ALIASED; again: mov eax, [rdi]; add rdi, 4096; dec ecx; jnz again; hlt
_TOUCH = (
    b"\xb9" + pack("<I", _ALIASES) + b"\xbf" + pack("<I", _ALIASED)
    + bytes.fromhex("8b07 4881c700100000 ffc9 75f3 f4")
)  # fmt: skip
_LOOP = b"\xb9" + _TURNS.to_bytes(4, "little") + bytes.fromhex("ffc9 75fc f4")  # dec ecx; jnz; hlt


def _counted(trial: Trial, name: str) -> int:
    """The rise of the kernel's counter while the guest ran until it exited; -1: no such counter."""
    before = (trial.engine.kernel_exits() or {}).get(name)
    trial.run()
    after = (trial.engine.kernel_exits() or {}).get(name)
    return -1 if before is None or after is None else after - before


def _is_interpreted(trial: Trial) -> bool:
    """Did the kernel interpret the guest's loop? Its own counter tells, whatever the host's load."""
    return _counted(trial, _EMULATED) >= _TURNS


def _fills_each_alias(trial: Trial) -> bool:
    """Does the kernel fill an entry for each of many pages that map one frame? Shadow tables need one
    for each page, nested tables one for the frame. A bits are clear, so that none is filled ahead."""
    trial.memory.write(_ALIAS_TABLE, pack("<Q", SCRATCH | 7) * 512)
    trial.memory.write(PML4 + 0x2000 + (_ALIASED >> 21) * 8, pack("<Q", _ALIAS_TABLE | 7))
    return _counted(trial, _FILLED) >= _ALIASES


@cache
def counts() -> bool:
    """Does this host's kernel have per-vCPU statistics (Linux 5.14 and newer)?"""
    known = {_EMULATED, _FILLED}
    return attempt(HLT, lambda trial: known <= (trial.engine.kernel_exits() or {}).keys())


@cache
def interprets_kernel() -> bool:
    """Does this KVM, for want of hardware support, execute ring 0 in software? Where its kernel has no
    statistics, SSE tells: KVM's instruction emulator lacks most of it (arch/x86/kvm/emulate.c)."""
    if counts():
        return attempt(_LOOP, _is_interpreted)
    return not attempt(bytes.fromhex(_SSE), _halts)


@cache
def shadows_pages() -> bool:
    """Does this KVM keep shadow page tables? Probed in ring 3, which no KVM interprets. False as well
    where its kernel has no statistics."""
    return attempt(_TOUCH, _fills_each_alias, user=True)


_MODULES = {"kvm_intel": "ept", "kvm_amd": "npt"}
"""KVM's modules for VT-x and AMD-V, with the parameter that says whether paging is nested
(Documentation/admin-guide/kernel-parameters.txt). sysfs lists them when they are built in, too."""
SYS_MODULE = Path("/sys/module")


@cache
def ring_zero() -> RingZero:
    """This KVM's way to execute the guest's ring 0, by the kernel's statistics; before Linux 5.14,
    which has none, by the loaded module."""
    if interprets_kernel():
        return RingZero.INTERPRETED
    if counts() or any((SYS_MODULE / name).is_dir() for name in _MODULES):
        return RingZero.GUEST_MODE
    return RingZero.UNKNOWN


def nested_paging() -> bool | None:
    """Does the CPU walk the guest's own page tables? Measured by the kernel's statistics, else read
    from its module's parameter; None where neither exists."""
    if counts():
        return not shadows_pages()
    for module, parameter in _MODULES.items():
        with contextlib.suppress(OSError):
            word = (SYS_MODULE / module / "parameters" / parameter).read_text(encoding="ascii").strip()
            return word in ("Y", "1")
    return False if ring_zero() is RingZero.INTERPRETED else None


def caveat() -> str:
    """A remark that is shown beside this core's results, "" for none (``Engine.caveat``)."""
    if not interprets_kernel():
        return ""
    return (
        "here KVM has no hardware support: the host's kernel interprets the guest's ring 0, slowly;"
        " ring 3 runs on the CPU"
    )


def why_not_exact() -> str:
    """The reason why there is no exact mode on this host, "" where there is."""
    if not steps_kernel():
        return "this host's KVM does not stop after each instruction and at each fault of ring 0"
    if not (steps_user() or steps_user_by_tf()):
        return "this host's KVM does not stop after each instruction and at each fault of ring 3"
    return ""


_probing = threading.Lock()


def host() -> Host:
    """This host's KVM as ``KvmEngine`` has to know it; a second thread waits for what the first finds.
    Raises UnavailableError where no thread can be started to probe it."""
    with _probing:
        return Host(
            manner(), why_not_exact(), pages_outside_long_mode(), ring_zero(), nested_paging(),
            caveat(), eventfds.irqfd,
        )  # fmt: skip


_SSE = "0f58c1 0f1107 f4"  # addps xmm0, xmm1; movups [rdi], xmm0; hlt
_STOPS = "a guest that uses it in ring 0 stops with an error that says so"
_INTERPRETED = (
    "the host's kernel interprets it, thousands of times slower (`bench direct` measures it); a guest"
    " whose instruction it does not know stops with an error that names it"
)
_NAMED = "a guest that asks gets the host's features in free mode"
_BRIDGED = "in ring 0 the VMM completes it, and it is counted as bridged"


def _running() -> list[Ability]:
    """Abilities that matter in free mode."""
    ring_0 = (
        ("int n in ring 0", "cd80f4", _signals, _BRIDGED),
        ("lar and lsl in ring 0", "bb10000000 0f02c3 0f03c3 f4", _halts, _BRIDGED),
        ("SSE in ring 0", _SSE, _halts, _STOPS),
        ("x87 in ring 0", "d9e8 d9fe f4", _halts, _STOPS),
        ("popcnt in ring 0", "f30fb8c0 f4", _halts, _STOPS),
        ("cmpxchg16b in ring 0", "480fc70f f4", _halts, _STOPS),
        ("vmcall comes back", "0f01c1 f4", lambda t: _halts(t) or _refused_now(t),
         "the guest hangs there until it is interrupted"),
        ("cpuid in ring 0 is the platform's", _IDENTIFY, _is_the_platforms, _NAMED),
        ("an interrupt window is noticed at once", "fb9090fa f4", _opens_a_window,
         "a guest that sets IF for a few instructions only may miss interrupts in free mode"),
        ("MSRs that the platform lacks are #GP", "b977020000 0f32 f4", _is_refused,
         "a guest that reads one gets the host's value in free mode"),
    )  # fmt: skip
    ring_3 = (
        ("cpuid in ring 3 is the platform's", _IDENTIFY, _is_the_platforms, _NAMED),
        ("ring 3 is kept from ports by the TSS", "e6e9f4", _is_refused,
         "user programs reach the devices"),
    )  # fmt: skip
    return [
        Ability(name, present := attempt(bytes.fromhex(code), good, user=user), "" if present else lack)
        for user, table in ((False, ring_0), (True, ring_3))
        for name, code, good, lack in table
    ]


def _refused_now(trial: Trial) -> bool:
    """Did the last run halt in an exception handler?"""
    return trial.cpu.rip == HANDLER + 1


def _stepping() -> list[Ability]:
    by_tf = (
        "the guest's own TF steps it instead; a guest without exception handlers stops there in exact"
        " mode with an error that says so"
        if steps_user_by_tf()
        else "there is no exact mode"
    )
    return [
        Ability(STEPS_KERNEL, steps_kernel(),
                "exact mode" if steps_kernel() else "there is no exact mode"),
        Ability(STEPS_USER, steps_user(), "" if steps_user() else by_tf),
        Ability("ring 3 reads the guest's own system registers", truthful(),
                "" if truthful() else "sgdt, str, smsw and their like give away the host in free mode; "
                "in exact mode the VMM completes them, counted as bridged"),
    ]  # fmt: skip


def _calls() -> list[Ability]:
    lack = (
        "a breakpoint at the guest's fault handlers finds it, and the VMM completes it: bridged, and "
        "slow; in free mode it is missed until the guest has left for a device after its LIDT"
    )
    tried = (("syscall in ring 3", calls_by_syscall()), ("int n in ring 3", calls_by_int()))
    return [Ability(name, present, "" if present else lack) for name, present in tried]


def _kernel() -> list[Ability]:
    stats = counts()
    counted = Ability(
        "the kernel's own exits are counted", stats,
        "" if stats else "only exits that reached the VMM are shown",
    )  # fmt: skip
    interpreted = interprets_kernel()
    return [counted, Ability(RING_0_DIRECT, not interpreted, _INTERPRETED if interpreted else "")]


@cache
def pages_outside_long_mode() -> bool:
    """Does a guest run with 32-bit paging? A KVM without hardware support drops CR0.PG there."""
    return attempt(HLT, _halts, legacy=True)


def _modes() -> list[Ability]:
    present = pages_outside_long_mode()
    lack = "" if present else "a guest in real or 32-bit mode stops with an error"
    huge = gibibyte_pages()
    fault = "a guest that uses them meets page faults, and stops with an error where it shuts down"
    return [Ability(PAGES_OUTSIDE, present, lack), Ability(GIBIBYTE_PAGES, huge, "" if huge else fault)]


def _eventfds() -> list[Ability]:
    """Could kicks and interrupts of virtio devices do without an exit to user space?"""
    rings, interrupts = eventfds.doorbells(), eventfds.irqfd()
    used = "a virtio interrupt reaches a guest in free mode without an exit"
    lack = "a virtio interrupt takes the guest's CPU in free mode"
    return [
        Ability("doorbells (ioeventfd)", rings,
                f"a virtio kick is {'no' if rings else 'an'} exit in free mode"),
        Ability(eventfds.IRQFD, interrupts, used if interrupts else lack),
    ]  # fmt: skip


@cache
def abilities() -> tuple[Ability, ...]:
    """All abilities, in the order of `doctor`. The first call takes some 50 ms; with a KVM that hangs,
    two seconds more."""
    return (*_kernel(), *_stepping(), *_calls(), *_modes(), *_running(), *_eventfds())
