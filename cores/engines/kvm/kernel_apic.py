"""A local APIC in the kernel, which the guest never sees: it delivers the interrupts of an irqfd.

An irqfd needs an interrupt controller in the kernel, and the PC's are Ringscope's own, alike on every
core. So a vCPU gets one more, and only that one's *delivery* is used: the message of the irqfd has the
vector for which the guest's own controllers stand ready (``EventfdLine.vector``), and the kernel hands
it to the guest in guest mode or out of HLT. After the next exit the guest's own controllers are told,
and the kernel's forgets the interrupt. It holds nothing from one entry to the next.

Its registers lie under RAM: a memory slot comes before them, so that no access reaches them, and those
to 0xFEE00000 exit as ever (KVM API, KVM_CAP_SPLIT_IRQCHIP; SDM vol. 3, 10.4.5 and 10.11).
"""

from __future__ import annotations

from struct import pack, pack_into, unpack_from

from cores.engines.base import EventfdLine
from cores.engines.kvm import api
from cores.pc.physical_memory import HOLE

PLACE = HOLE.stop
"""The registers' address: 1 MiB, where there always is RAM."""
_SVR, _ISR, _IRR, _LINT0 = 0xF0, 0x100, 0x200, 0x350
_ENABLED, _EXTINT = 0x1FF, 0x700
_VECTORS = 0x80
"""Bytes of ISR, and of IRR: a word of each 16 bytes."""
_MESSAGE = 0xFEE00000
"""The address of a message to the APIC with ID 0."""


class KernelApic:
    """The one of a vCPU. To be made before the vCPU is entered, and after its CPUID is set."""

    def __init__(self, vm: api.Vm, vcpu: api.Vcpu) -> None:
        self._vm, self._vcpu = vm, vcpu
        self._line: EventfdLine | None = None
        self._vector = 0
        self.reset()

    def reset(self) -> None:
        """Let it accept messages, and the kernel open interrupt windows, which LINT0 decides."""
        registers = self._vcpu.lapic()
        pack_into("<I", registers, _SVR, _ENABLED)
        pack_into("<I", registers, _LINT0, _EXTINT)
        self._vcpu.set_lapic(registers)

    def connect(self, line: EventfdLine | None) -> None:
        """Deliver the interrupts of this line from now on; None: no more. Raises OSError."""
        if self._line is not None:
            self._vm.irqfd(self._line.eventfd, on=False)
        self._line = line
        if line is not None:
            self._vm.irqfd(line.eventfd, on=True)

    def enter(self) -> None:
        """KVM_RUN, while the line may be raised. Raises OSError."""
        line = self._line
        vector = None if line is None else line.vector()
        if line is None or vector is None:
            self._vcpu.enter()
            return
        if vector != self._vector:
            self._vm.route(_MESSAGE, vector)
            self._vector = vector
        line.open()
        try:
            self._vcpu.enter()
        finally:
            if line.close():
                line.raised(taken=self._forget(vector))

    def _forget(self, vector: int) -> bool:
        """Drop the interrupt. True: the guest has taken it. Else it is still requested: a message is
        when the write to the eventfd returns."""
        registers = self._vcpu.lapic()
        (requested,) = unpack_from("<I", registers, _IRR + vector // 32 * 16)
        registers[_ISR : _ISR + _VECTORS] = registers[_IRR : _IRR + _VECTORS] = bytes(_VECTORS)
        self._vcpu.set_lapic(registers)
        return not requested >> vector % 32 & 1

    def inject(self, vector: int) -> None:
        """What KVM_INTERRUPT does without this APIC: the guest takes the interrupt at the next entry,
        whatever its TPR."""
        run, at = self._vcpu.run, api.SYNC_EVENTS + api.EVENT_INTERRUPT
        run[at : at + api.INTERRUPT_SIZE] = pack("<BBB", 1, vector, 0)
        events = bytearray(run[api.SYNC_EVENTS : api.SYNC_EVENTS + api.EVENTS_SIZE])
        pack_into("<I", events, api.EVENT_FLAGS, 0)  # leave a pending NMI as it is
        self._vcpu.set_events(events)

    def wakes(self) -> bool:
        """Has the guest been left asleep, by HLT, which is no exit here? It sleeps no more."""
        asleep = self._vcpu.is_halted()
        if asleep:
            self._vcpu.wake()
        return asleep
