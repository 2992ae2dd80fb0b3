"""The KVM engine: the guest runs in this CPU's guest mode, and the hardware isolates it from the host.

All of the guest's registers are the CPU's own, privileged ones too: CLI clears a real IF, MOV CR3
loads a real CR3, and exceptions reach the guest's handlers without an exit. The VMM handles only what
the hardware does not: devices, HLT, and the shutdown.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from struct import pack

from cores.engines.kvm.exit_errors import (
    NO_GIBIBYTE_PAGES,
    NO_PAGING,
    STEPS_KERNEL,
    STEPS_USER,
    failed_instruction,
    failure,
    in_gibibyte_page,
    is_sensitive,
)
from cores.engines.kvm.kernel_apic import PLACE, KernelApic
from cores.engines.kvm.syscall_fixup import NOWHERE, WATCHED_MSRS, SyscallFixup
from cores.engines.kvm.zero_vector import take_back
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.pc.ram import PAGE
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.paging import Mmu
from cores.x86.virtual_cpu import VirtualCpu

from ...errors import UnavailableError
from ...x86.faults import GuestFault
from ...x86.registers import COUNTER_MSRS, MSRS, Cr0, Efer, Flag, Msr
from ...x86.system.control_registers import read_msr, write_msr
from ..base import (
    HALTED,
    INTERRUPTED,
    LACKING,
    SHUTDOWN,
    SHUTDOWN_LOST,
    EventfdLine,
    Exit,
    Failed,
    Handlers,
    MmioRead,
    MmioWrite,
    PortEngine,
    PortRead,
    PortWrite,
    RingZero,
    Traits,
)
from . import api, state
from .access import explain, in_words
from .cpuid_leaves import LEAVES
from .host import Host
from .stepping import INTERCEPTS, Stepper

_EXITS = frozenset({Reason.IO, Reason.MMIO, Reason.HLT})
"""Reasons for which a guest in free mode exits to user space. In exact mode the VMM completes more
instructions (``Traits.intercepts``), which are not counted as exits."""
LEFT_TO_THE_VMM = frozenset({Msr.APIC_BASE, *COUNTER_MSRS})
"""MSRs of the platform that the VMM answers: the kernel would let a guest move its APIC, and count."""
_LABELS = {
    RingZero.GUEST_MODE: "this CPU executes, in guest mode",
    RingZero.INTERPRETED: "this CPU executes ring 3, KVM ring 0",
    RingZero.UNKNOWN: "KVM executes",
}
_ACCESS, _DATA_AT = api.UNION // 8, api.UNION // 8 + 1
"""Of the shared page's words, the one that holds direction, size, port and count, and the next."""
_RIP = api.SYNC_REGS // 8 + 16
_REASON, _IO, _SPECIAL = api.EXIT_REASON, api.EXIT_IO, state.SPECIAL
_MXCSR_MASK = b"\xff\xff\0\0"


def _key(words: memoryview) -> int:
    return words[_RIP] << 64 | words[_ACCESS]


class KvmEngine(PortEngine):
    """One VM with one vCPU.

    ``cpu`` is written and read through the page shared with the kernel. While an access to a device is
    pending, the instruction is incomplete and only the kernel can finish it: the next entry therefore
    uses the vCPU's own state and ignores ``cpu``.
    """

    executed = None

    def __init__(self, host: Host) -> None:
        """host: as probed (``capabilities.host``)."""
        self._host = host
        self.exact_reason = host.why_not_exact
        self._manner = host.manner
        self._resources = contextlib.ExitStack()
        self.fd = -1
        self._pending = self._stepping = False
        self._watches_zero = self._ignores_zero = False
        self._fixup: SyscallFixup | None = None
        self._apic: KernelApic | None = None
        self.traits = Traits(
            core="kvm", engine="KVM", label=_LABELS[host.ring_zero],
            exact=not self.exact_reason, counts=False, native=True, follows=True, delivers=True,
            intercepts=INTERCEPTS, exits_for=_EXITS,
            registers="in the CPU while it executes the guest, else in the host's kernel",
            ring_zero=host.ring_zero, nested_paging=host.nested_paging,
        )  # fmt: skip

    @staticmethod
    def probe() -> str | None:
        """The reason why this host cannot run it, in a sentence with the remedy; None when it can."""
        return explain()

    def load(self, memory: PhysicalMemory) -> None:
        if (reason := explain(trying=False)) is not None:
            raise UnavailableError(reason)
        self._memory = memory
        try:
            self._open()
        except OSError as error:
            self.close()
            raise UnavailableError(in_words(error)) from None
        self.fd = self._vcpu.fd
        self._run = self._vcpu.run
        self._enter: Callable[[], object] = self._vcpu.enter
        self._registers = state.Registers(self._vcpu)
        if self.sleeps_inside:
            self._apic = KernelApic(self._vm, self._vcpu)
            self._registers.apic_at = PLACE
        self._stepper = Stepper(self._vcpu, self._registers, memory, self._manner)
        if not self._manner.calls:
            self._fixup = SyscallFixup(self._vcpu, self._registers, memory)
            self._registers.decoy = NOWHERE

    def _open(self) -> None:
        """Open the device and create VM and vCPU, with the platform's memory, CPUID and MSRs."""
        self._kvm = api.Kvm()
        self._resources.callback(self._kvm.close)
        self._vm = self._kvm.create_vm()
        self._resources.callback(self._vm.close)
        self._map()
        if self._kvm.extension(api.CAP_MSR_FILTER):
            hidden = LEFT_TO_THE_VMM if self._manner.calls else LEFT_TO_THE_VMM | WATCHED_MSRS
            self._vm.allow_msrs(sorted(MSRS - hidden))
            self._vm.watch_refused_msrs()
        wanted = self.wants_irqfd and self._kvm.extension(api.CAP_SPLIT_IRQCHIP)
        if wanted and self._host.irqfd():
            self._vm.split_irqchip()
            self.sleeps_inside = True
        self._vcpu = self._vm.create_vcpu()
        self._resources.callback(self._vcpu.close)
        self._vcpu.set_cpuid(LEAVES)
        self._vcpu.adopt_thread()

    def _map(self) -> None:
        """Map RAM below and above the hole; accesses to every other physical address exit as MMIO."""
        ram = self._memory.ram
        self._vm.set_memory(0, 0, HOLE.start, ram.address)
        self._vm.set_memory(1, HOLE.stop, ram.size - HOLE.stop, ram.address + HOLE.stop)

    def give(self, gpa: int, place: int | None) -> None:
        if place is None:
            self._vm.set_memory(2, gpa, 0, 0)
        else:
            self._vm.set_memory(2, gpa, PAGE, self._memory.ram.address + place)

    def doorbell(self, gpa: int, value: int, eventfd: int, *, on: bool) -> bool:
        if not self._kvm.extension(api.CAP_IOEVENTFD):
            return False
        try:
            self._vm.doorbell(gpa, value, eventfd, on=on)
        except OSError:  # no room for more, ENOSPC
            return False
        return True

    def irqfd(self, line: EventfdLine | None) -> bool:
        if self._apic is None:
            return False
        self._apic.connect(line)
        self._enter = self._vcpu.enter if line is None else self._apic.enter
        return True

    # Entering and leaving

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        if self._lacks(cpu):
            return NO_PAGING
        self._load(cpu)
        if self._fixup is not None:
            self._fixup.arm(cpu)
        else:
            self._watch_zero(cpu)
        try:
            self._enter()
        except OSError as error:
            return self._not_entered(cpu, error)
        return self._left(cpu)

    def run_known(self, cpu: VirtualCpu, handlers: Handlers) -> Exit:
        """See ``Engine.run_known``; the key: ``port_access``. An exit in other segments or with other
        control registers than ``cpu`` has is returned."""
        if self._lacks(cpu):
            return NO_PAGING
        self._load(cpu)
        run, words, special = self._run, self._vcpu.words, self._registers.special
        fixup, find, enter = self._fixup, handlers.get, self._enter
        try:
            if fixup is not None:
                fixup.arm(cpu)
            else:
                self._watch_zero(cpu)
            while True:
                enter()
                if run[_REASON] != _IO or run[_SPECIAL] != special:
                    break
                handler = find(words[_RIP] << 64 | words[_ACCESS])
                if handler is None or (go_on := handler()) is None:
                    break
                if not go_on:
                    self._taken(cpu)
                    return INTERRUPTED
                cpu.rip = words[_RIP]
                if fixup is not None and not fixup.is_armed(cpu.rip):
                    fixup.arm(cpu)
        except OSError as error:
            return self._not_entered(cpu, error)
        return self._left(cpu)

    def _lacks(self, cpu: VirtualCpu) -> bool:
        """Is the guest in a mode that this host's KVM does not have? Without paging outside long mode
        it cannot even deliver an interrupt there."""
        return not cpu.efer & Efer.LMA and not self._host.pages_outside

    def _load(self, cpu: VirtualCpu) -> None:
        """Write the guest's registers, unless the kernel has to finish an instruction first."""
        if self._pending:
            self._pending = False
            return
        if self._stepping:
            self._stepping = self._watches_zero = False
            self._stepper.disarm()
            if self._fixup is not None:
                self._fixup.forget()
        self._registers.write(cpu)

    def _watch_zero(self, cpu: VirtualCpu) -> None:
        """In real mode, stop the guest where a vector of zero leads (zero_vector.py). Its own
        breakpoints do not count meanwhile (KVM API, KVM_SET_GUEST_DEBUG)."""
        wanted = not (cpu.cr0 & Cr0.PE or self._ignores_zero)
        if wanted is not self._watches_zero:
            self._watches_zero = wanted
            control = api.DEBUG_ENABLE | api.DEBUG_HARDWARE if wanted else 0
            self._vcpu.guest_debug(control, (0,) if wanted else ())
            self._registers.forget_debug()

    def _left(self, cpu: VirtualCpu) -> Exit:
        reason = self._run[api.EXIT_REASON]
        if reason == api.EXIT_IO:
            return self._port(cpu)
        if reason == api.EXIT_MMIO:
            return self._mmio(cpu)
        return self._leave(cpu, reason)

    def port_access(self) -> tuple[int, int, int, bool] | None:
        """The port access that the guest has been left for last: (key, port, size, is it an OUT). None
        where it was another exit, or a string of accesses."""
        if self._run[api.EXIT_REASON] != api.EXIT_IO:
            return None
        direction, size, port, count, _ = api.IO.unpack_from(self._run, api.UNION)
        return (_key(self._vcpu.words), port, size, direction == api.IO_OUT) if count == 1 else None

    def port_data(self, size: int) -> int:
        """The value of a pending OUT."""
        at = self._vcpu.words[_DATA_AT]
        if size == 1:
            return self._run[at]
        return int.from_bytes(self._run[at : at + size], "little")

    def step(self, cpu: VirtualCpu) -> Exit:
        if self.exact_reason:
            return Failed(self.exact_reason, STEPS_USER if self._manner.kernel else STEPS_KERNEL)
        if self._lacks(cpu):
            return NO_PAGING
        if self._pending and (more := self.settle(cpu)) is not None:
            return more
        self._go_exact()
        exit = self._stepper.step(cpu)
        self._slept()  # the VMM completes HLT, but a stale TLB entry may have led to one
        return exit

    def reach(self, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        if self._pending and (more := self.settle(cpu)) is not None:
            return more
        self._go_exact()
        exit = self._stepper.reach(cpu, rip, gpr, passes)
        self._slept()
        return exit

    def _go_exact(self) -> None:
        if not self._stepping:
            self._stepping, self._watches_zero = True, False
            self._stepper.forget()
            self._run[api.REQUEST_INTERRUPT_WINDOW] = 0  # exact mode delivers interrupts itself

    def _leave(self, cpu: VirtualCpu, reason: int) -> Exit:
        """Handle an exit that is not a device access. ``cpu`` gets the whole state, unless AMD-V has
        reset the vCPU."""
        if reason == api.EXIT_SHUTDOWN and self._apic is not None:
            self._apic.reset()
        if reason == api.EXIT_SHUTDOWN and state.is_reset(self._run):
            self._registers.forget()
            return SHUTDOWN_LOST
        self._registers.read_all(cpu)
        if reason in (api.EXIT_RDMSR, api.EXIT_WRMSR):
            self._msr_access(cpu, reason)
            return INTERRUPTED
        if self._fixup is not None and (exit := self._fixup_exit(cpu, reason)) is not None:
            return exit
        match reason:
            case api.EXIT_HLT:
                return HALTED
            case api.EXIT_IRQ_WINDOW_OPEN | api.EXIT_INTR | api.EXIT_SET_TPR:
                # ``inject`` requests the window again, unless the interrupt has been withdrawn: KVM
                # would then exit at each entry before executing an instruction.
                self._run[api.REQUEST_INTERRUPT_WINDOW] = 0
                return HALTED if self._slept() else INTERRUPTED
            case api.EXIT_DEBUG if self._watches_zero:
                if take_back(Mmu(self._memory, cpu), cpu):
                    return LACKING
                self._ignores_zero = True
                return INTERRUPTED
            case api.EXIT_SHUTDOWN:
                self._registers.forget()
                if not self._manner.gibibytes and in_gibibyte_page(self._memory, cpu, cpu.cr2):
                    return NO_GIBIBYTE_PAGES
                return SHUTDOWN
            case api.EXIT_INTERNAL_ERROR if is_sensitive(failed_instruction(self._run), cpu):
                return LACKING
        return failure(self._run, reason, cpu, self._memory, self._manner.interprets)

    def _fixup_exit(self, cpu: VirtualCpu, reason: int) -> Exit | None:
        """Handle the exits that only a host without hardware support has; None for the others."""
        assert self._fixup is not None
        match reason:
            case api.EXIT_DEBUG if self._fixup.halting:
                self._slept()
                return HALTED
            case api.EXIT_DEBUG:
                system_call = self._fixup.is_system_call(cpu)
            case api.EXIT_SHUTDOWN:
                system_call = self._fixup.shut_down_by_system_call(cpu)
            case _:
                return None
        if system_call:
            return LACKING
        return INTERRUPTED if reason == api.EXIT_DEBUG else None

    def _msr_access(self, cpu: VirtualCpu, reason: int) -> None:
        """Answer RDMSR or WRMSR of an MSR that the kernel may not answer; the next entry completes the
        instruction."""
        at = api.UNION
        _, _, index, value = api.MSR.unpack_from(self._run, at)
        refused = index not in LEFT_TO_THE_VMM | WATCHED_MSRS
        try:
            if reason == api.EXIT_RDMSR:
                value = read_msr(cpu, index, 0)
            elif not refused:
                write_msr(cpu, index, value, 0)
                if index == Msr.APIC_BASE:
                    self._registers.write_apic_base(value)
                if self._fixup is not None and index in WATCHED_MSRS:
                    self._registers.take_in(cpu)
        except GuestFault:
            refused = True
        self._run[at : at + api.MSR.size] = pack("<B7xIIQ", refused, 0, index, value)
        self._pending = True

    def _not_entered(self, cpu: VirtualCpu, error: OSError) -> Exit:
        """KVM_RUN has failed: by a kick, or by an error of the host."""
        if error.errno not in (errno.EINTR, errno.EAGAIN):
            return Failed(f"KVM_RUN failed: {error.strerror}")
        self._vcpu.swallow_kick()
        self._registers.read_all(cpu)
        return HALTED if self._slept() else INTERRUPTED

    def _slept(self) -> bool:
        """Has the guest been left asleep inside KVM_RUN? To the VMM that is its HLT's exit."""
        return self._apic is not None and self._apic.wakes()

    # Devices

    def leaves_behind(self, exit: PortRead | PortWrite | MmioRead | MmioWrite) -> bool:
        """KVM's emulator writes RIP back before a store to a device returns (arch/x86/kvm/x86.c,
        x86_emulate_instruction). An OUT that hardware traps is left at (kvm_fast_pio_out)."""
        if isinstance(exit, PortWrite):
            return self.traits.ring_zero is RingZero.INTERPRETED
        return isinstance(exit, MmioWrite)

    def _port(self, cpu: VirtualCpu) -> Exit:
        run = self._run
        direction, size, port, count, at = api.IO.unpack_from(run, api.UNION)
        self._taken(cpu)
        length = size * count
        if direction == api.IO_OUT:
            return PortWrite(port, size, run[at : at + length])
        return PortRead(port, size, count)

    def _mmio(self, cpu: VirtualCpu) -> Exit:
        gpa, data, length, is_write = api.MMIO.unpack_from(self._run, api.UNION)
        self._taken(cpu)
        if is_write:
            return MmioWrite(gpa, data[:length])
        return MmioRead(gpa, length)

    def _taken(self, cpu: VirtualCpu) -> None:
        """The guest has been left in the middle of a device access."""
        self._pending = True
        self._registers.read(cpu)
        cpu.interrupt_shadow = False  # the instruction that was under it is this one

    def complete(self, data: bytes) -> None:
        """Store the device's answer where the kernel reads it at the next entry."""
        if self._run[api.EXIT_REASON] == api.EXIT_IO:
            _, size, _, count, at = api.IO.unpack_from(self._run, api.UNION)
            wanted = size * count
        else:
            _, _, wanted, _ = api.MMIO.unpack_from(self._run, api.UNION)
            at = api.MMIO_DATA
        if len(data) != wanted:
            raise ValueError(f"a pending read of {wanted} bytes was answered with {len(data)}")
        self._run[at : at + wanted] = data

    def settle(self, cpu: VirtualCpu) -> Exit | None:
        """Let the kernel finish the pending instruction. One that makes more than one access (a store
        across two pages of a device) returns the next access, which is then pending."""
        if not self._pending:
            return None
        self._pending = False
        try:
            with self._vcpu.immediate_exit():
                self._vcpu.enter()
        except OSError as error:
            if error.errno != errno.EINTR:
                return Failed(f"KVM_RUN failed: {error.strerror}")
            self._registers.read_all(cpu)
            return None
        reason = self._run[api.EXIT_REASON]
        if reason == api.EXIT_IO:
            return self._port(cpu)
        if reason == api.EXIT_MMIO:
            return self._mmio(cpu)
        return self._leave(cpu, reason)

    # Interrupts

    def inject(self, cpu: VirtualCpu, acknowledge: Callable[[], int]) -> bool:
        """Inject a device's interrupt (KVM_INTERRUPT) if the guest can take it. True: it is delivered
        before the next instruction. False: ``run`` returns Interrupted as soon as the guest can."""
        run = self._run
        if self._pending:
            ready = bool(run[api.READY_FOR_INTERRUPT])
        else:
            ready = (
                bool(cpu.rflags & Flag.IF)
                and not cpu.interrupt_shadow
                and not self._registers.event_in_flight()
            )
        if ready and self._apic is not None:
            self._apic.inject(acknowledge())
        elif ready:
            self._vcpu.interrupt(acknowledge())
        run[api.REQUEST_INTERRUPT_WINDOW] = not ready
        return ready

    def inject_nmi(self) -> None:
        self._vcpu.nmi()

    def prioritized(self, cr8: int) -> None:
        self._run[api.CR8] = cr8  # the kernel loads it at each entry, whatever else is written
        if self._apic is not None:  # but not where it has a local APIC itself
            self._registers.write_cr8(cr8)

    def interrupt(self) -> None:
        if self.fd >= 0:
            self._vcpu.kick()

    # The rest

    def read_fpu(self) -> bytes:
        image = self._vcpu.fpu()
        return image[:28] + _MXCSR_MASK + image[32:416] + bytes(96)  # the end is the kernel's own

    def write_fpu(self, image: bytes) -> None:
        self._vcpu.set_fpu(image)

    def flush(self, gva: int | None = None) -> None:
        """Flush the TLB for an INVLPG or MOV CR3 that the VMM has completed; those that the guest
        executes itself reach the CPU or the kernel without it."""
        self._stepper.flush()

    def memory_changed(self) -> None:
        """The VMM has stored to RAM. Shadow paging does not notice the host's stores to guest page
        tables: the memory slots are deleted and set again, which drops all shadow tables (240 us)."""
        if self._pending or self._stepper.waiting:
            self._abandon()
        ram = self._memory.ram
        self._vm.set_memory(0, 0, 0, ram.address)
        self._vm.set_memory(1, HOLE.stop, 0, ram.address + HOLE.stop)
        self._map()
        self._registers.forget()
        self._stepper.flush()

    def _abandon(self) -> None:
        """Finish an incomplete instruction and ignore its outcome: the state will be replaced."""
        self._pending = False
        self._stepper.forget()
        with contextlib.suppress(OSError), self._vcpu.immediate_exit():
            self._vcpu.enter()

    def kernel_exits(self) -> dict[str, int] | None:
        """The kernel's own exit counters by name ("exits", "io_exits", "halt_exits", ...), including
        the exits that reached user space; None where the kernel has no such counters."""
        if not self._kvm.extension(api.CAP_BINARY_STATS_FD):
            return None
        return self._vcpu.statistics()

    def caveat(self) -> str:
        return self._host.caveat

    def where(self) -> str:
        """The vCPU and its descriptor, for the pane's headline."""
        return f"vCPU 0 of {api.DEVICE}, descriptor {self.fd}"

    def close(self) -> None:
        self.fd = -1
        self._resources.close()
