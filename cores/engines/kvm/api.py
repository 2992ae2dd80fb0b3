"""The /dev/kvm API: ioctl numbers, argument layouts, and thin wrappers (KVM API, linux/kvm.h).

The only file of this engine that may use fcntl, mmap and ctypes. It holds no policy.
Layouts are struct formats rather than ctypes classes: one ``unpack_from`` of the 18 registers
costs 0.5 us, and the whole file can be held against the C headers (tests/cores/engines/kvm).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from struct import Struct, pack, unpack_from
from typing import Final

RunPage = mmap.mmap
"""struct kvm_run, shared with the kernel."""

DEVICE = "/dev/kvm"
API_VERSION = 12

# ioctls of the device, of a VM, of a vCPU.
GET_API_VERSION, CREATE_VM, CHECK_EXTENSION, GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE03, 0xAE04
ENABLE_CAP = 0x4068AEA3
CREATE_VCPU, SET_USER_MEMORY_REGION, SET_MSR_FILTER = 0xAE41, 0x4020AE46, 0x4188AEC6
RUN: Final = 0xAE80
INTERRUPT, NMI, SET_SIGNAL_MASK, SET_CPUID2 = 0x4004AE86, 0xAE9A, 0x4004AE8B, 0x4008AE90
GET_REGS, SET_REGS, GET_SREGS, SET_SREGS = 0x8090AE81, 0x4090AE82, 0x8138AE83, 0x4138AE84
GET_MSRS, SET_MSRS, GET_XSAVE, SET_XSAVE = 0xC008AE88, 0x4008AE89, 0x9000AEA4, 0x5000AEA5
SET_GUEST_DEBUG, GET_DEBUGREGS, SET_DEBUGREGS = 0x4048AE9B, 0x8080AEA1, 0x4080AEA2
SET_VCPU_EVENTS, GET_STATS_FD = 0x4040AEA0, 0xAECE
IOEVENTFD, IRQFD, SET_GSI_ROUTING = 0x4040AE79, 0x4020AE76, 0x4008AE6A
GET_LAPIC, SET_LAPIC, GET_MP_STATE, SET_MP_STATE = 0x8400AE8E, 0x4400AE8F, 0x8004AE98, 0x4004AE99

# Capabilities (CHECK_EXTENSION).
CAP_USER_MEMORY, CAP_SET_GUEST_DEBUG, CAP_IMMEDIATE_EXIT = 3, 23, 136
CAP_IOEVENTFD, CAP_SPLIT_IRQCHIP = 36, 121
CAP_SYNC_REGS, CAP_USER_SPACE_MSR, CAP_MSR_FILTER, CAP_BINARY_STATS_FD = 74, 188, 189, 203
MSR_EXIT_FILTER = 4

# Offsets in struct kvm_run, which user space and the kernel share around RUN.
REQUEST_INTERRUPT_WINDOW, IMMEDIATE_EXIT = 0, 1
EXIT_REASON, READY_FOR_INTERRUPT, CR8, UNION = 8, 12, 16, 32
VALID_REGS, DIRTY_REGS = 288, 296
SYNC_REGS, SYNC_SREGS, SYNC_EVENTS = 304, 448, 760
"""Offsets of the synced registers: the kernel fills them at each exit (KVM_CAP_SYNC_REGS)."""
REGS_SIZE, SREGS_SIZE, EVENTS_SIZE, RUN_SIZE = 144, 312, 64, 2352
DIRTY_GENERAL, DIRTY_SPECIAL, DIRTY_EVENTS = 1, 2, 4

# kvm_run.exit_reason.
EXIT_IO, EXIT_HYPERCALL, EXIT_DEBUG, EXIT_HLT, EXIT_MMIO = 2, 3, 4, 5, 6
EXIT_IRQ_WINDOW_OPEN, EXIT_SHUTDOWN, EXIT_FAIL_ENTRY, EXIT_INTR, EXIT_SET_TPR = 7, 8, 9, 10, 11
EXIT_INTERNAL_ERROR, EXIT_RDMSR, EXIT_WRMSR = 17, 29, 30
EXIT_NAMES = {
    0: "UNKNOWN", 1: "EXCEPTION", 2: "IO", 3: "HYPERCALL", 4: "DEBUG", 5: "HLT", 6: "MMIO",
    7: "IRQ_WINDOW_OPEN", 8: "SHUTDOWN", 9: "FAIL_ENTRY", 10: "INTR", 11: "SET_TPR",
    17: "INTERNAL_ERROR", 24: "SYSTEM_EVENT", 29: "X86_RDMSR", 30: "X86_WRMSR", 33: "X86_BUS_LOCK",
    37: "NOTIFY", 39: "MEMORY_FAULT",
}  # fmt: skip
IO_OUT = 1
ERROR_EMULATION = 1
"""INTERNAL_ERROR's suberror: the kernel's instruction emulator does not know the instruction."""

# The union at UNION, by exit reason.
MMIO_DATA = UNION + 8
IO = Struct("<BBHIQ")  # direction, size, port, count, offset of the data in kvm_run
MMIO = Struct("<Q8sIB")  # physical address, data, length, is_write
MSR = Struct("<B7xIIQ")  # error, reason, index, data
DEBUG = Struct("<IIQQQ")  # exception, pad, pc, dr6, dr7
INTERNAL = Struct("<IIQB15s")  # suberror, ndata, flags, instruction length, instruction bytes
FAIL_ENTRY = Struct("<QI")  # hardware's reason, CPU

REGS = Struct("<18Q")  # rax rbx rcx rdx rsi rdi rsp rbp r8-r15 rip rflags
SEGMENT = Struct("<QIH10B")  # base limit selector type present dpl db s l g avl unusable padding
TABLE = Struct("<QH6x")
CONTROLS = Struct("<7Q32x")  # cr0 cr2 cr3 cr4 cr8 efer apic_base, interrupt_bitmap left zero
CONTROLS_AT = 8 * SEGMENT.size + 2 * TABLE.size

# struct kvm_vcpu_events.
EVENT_EXCEPTION, EVENT_INTERRUPT, EVENT_SHADOW, EVENT_FLAGS = 0, 8, 11, 20
INTERRUPT_SIZE = 3
"""Bytes of the interrupt's part: injected, vector, soft."""
EVENT_VALID_SHADOW = 4

# struct kvm_guest_debug.control.
DEBUG_ENABLE, DEBUG_STEP, DEBUG_HARDWARE = 1, 2, 0x20000
GUEST_DEBUG = Struct("<II8Q")
DEBUGREGS = Struct("<6Q80x")  # db0-db3 dr6 dr7, flags and reserved
DR6_STEP, DR6_BREAKPOINTS = 1 << 14, 0xF

XSAVE_SIZE, FXSAVE_SIZE, XSTATE_BV = 4096, 512, 512
"""KVM_GET_FPU would be smaller, but neither reads nor sets MXCSR."""
X87_AND_SSE = 3
STATS_HEADER = Struct("<6I")  # flags name_size num_desc id_offset desc_offset data_offset
STATS_DESCRIPTOR = Struct("<IhHII")  # flags exponent size offset bucket_size, then the name
_CPUID_ENTRY = Struct("<7I12x")  # function index flags eax ebx ecx edx
_MSR_ENTRY = Struct("<I4xQ")
_MSR_RANGE = Struct("<3I4xQ")  # flags (1 read, 2 write), count, first, address of the bitmap
_MSR_RANGES = 16


_IRQFD = Struct("<IIII16x")  # eventfd, number of the route, flags, resamplefd
_ROUTE = Struct("<IIIIIIII16x")  # number, type, flags, pad; of a message: address (64 bits), data, pad
IRQFD_DEASSIGN, ROUTE_MSI = 1, 2
LAPIC_SIZE = 0x400
MP_RUNNABLE, MP_HALTED = 0, 3
_IOEVENTFD = Struct("<QQIiI36x")  # datamatch, address, length, eventfd, flags
IOEVENTFD_DATAMATCH, IOEVENTFD_DEASSIGN = 1, 4


class _Own(threading.local):
    """The calling thread's vCPUs. The kick signal stays blocked for as long as there is one: the kernel
    drops a signal that is ignored and not blocked, and RUN would not end."""

    vcpus = 0
    blocked_before = False


_own = _Own()
KICK = signal.SIGURG if hasattr(signal, "SIGURG") else None
"""The signal that makes a vCPU leave the guest. Its default action is to be ignored, so that a signal
that arrives outside RUN does no harm."""

_SYS_TGKILL = 234
_SIGNAL_BYTES = 8
_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def _call(fd: int, request: int, argument: bytes | bytearray | int = 0) -> int:
    result = fcntl.ioctl(fd, request, argument)
    return result if isinstance(result, int) else 0


def _fill(fd: int, request: int, size: int) -> bytearray:
    buffer = bytearray(size)
    fcntl.ioctl(fd, request, buffer)
    return buffer


class Kvm:
    """The device. Opening raises OSError: ENOENT, EACCES..."""

    def __init__(self) -> None:
        self.fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def version(self) -> int:
        return _call(self.fd, GET_API_VERSION)

    def extension(self, capability: int) -> int:
        """0 when the kernel lacks it, else positive; the capability defines the value's meaning."""
        return _call(self.fd, CHECK_EXTENSION, capability)

    def create_vm(self) -> Vm:
        return Vm(_call(self.fd, CREATE_VM), _call(self.fd, GET_VCPU_MMAP_SIZE))

    def close(self) -> None:
        os.close(self.fd)


class Vm:
    """A virtual machine: guest physical memory and what its vCPU may do."""

    def __init__(self, fd: int, run_size: int) -> None:
        self.fd = fd
        self._run_size = run_size

    def set_memory(self, slot: int, gpa: int, size: int, address: int) -> None:
        """Map ``size`` bytes of this process's memory at ``address`` as RAM at ``gpa``; size 0 deletes
        the slot."""
        _call(self.fd, SET_USER_MEMORY_REGION, pack("<IIQQQ", slot, 0, gpa, size, address))

    def doorbell(self, gpa: int, value: int, eventfd: int, *, on: bool) -> None:
        """Let a 32-bit store of ``value`` to ``gpa`` add one to ``eventfd``, without an exit; or no
        more. Raises OSError."""
        flags = IOEVENTFD_DATAMATCH | (0 if on else IOEVENTFD_DEASSIGN)
        _call(self.fd, IOEVENTFD, _IOEVENTFD.pack(value, gpa, 4, eventfd, flags))

    def split_irqchip(self) -> None:
        """Have a local APIC for each vCPU in the kernel, and no other interrupt controller; only before
        the vCPUs are made. Raises OSError."""
        _call(self.fd, ENABLE_CAP, pack("<II4Q64x", CAP_SPLIT_IRQCHIP, 0, 0, 0, 0, 0))

    def irqfd(self, eventfd: int, *, on: bool) -> None:
        """Let a write to ``eventfd`` send the message of route 0; or no more. Raises OSError."""
        _call(self.fd, IRQFD, _IRQFD.pack(eventfd, 0, 0 if on else IRQFD_DEASSIGN, 0))

    def route(self, address: int, data: int) -> None:
        """Make this the message of route 0, the only one (SDM vol. 3, 10.11)."""
        message = _ROUTE.pack(0, ROUTE_MSI, 0, 0, address, 0, data, 0)
        _call(self.fd, SET_GSI_ROUTING, pack("<II", 1, 0) + message)

    def allow_msrs(self, numbers: list[int]) -> None:
        """Only these MSRs exist for the guest: any other is #GP, raised by the kernel itself."""
        bitmap = (ctypes.c_uint8 * 8)(1)
        ranges = b"".join(_MSR_RANGE.pack(3, 1, n, ctypes.addressof(bitmap)) for n in numbers)
        _call(
            self.fd,
            SET_MSR_FILTER,
            pack("<I4x", 1) + ranges.ljust(_MSR_RANGES * _MSR_RANGE.size, b"\0"),
        )

    def watch_refused_msrs(self) -> None:
        """Make accesses to MSRs that ``allow_msrs`` left out exits to user space, instead of #GP."""
        _call(self.fd, ENABLE_CAP, pack("<II4Q64x", CAP_USER_SPACE_MSR, 0, MSR_EXIT_FILTER, 0, 0, 0))

    def create_vcpu(self) -> Vcpu:
        return Vcpu(_call(self.fd, CREATE_VCPU), self._run_size)

    def close(self) -> None:
        os.close(self.fd)


class Vcpu:
    """A virtual CPU. run: the page shared with the kernel, struct kvm_run. words: its first 64-bit
    words.
    enter: KVM_RUN. Raises OSError: EINTR after a kick or with an immediate exit; others are the host's.
        No third argument: with one, CPython's ioctl takes 1.2 us longer."""

    def __init__(self, fd: int, run_size: int) -> None:
        self.fd = fd
        try:
            self.run = mmap.mmap(fd, run_size)
        except OSError:
            os.close(fd)
            raise
        self.enter = partial(fcntl.ioctl, fd, RUN)
        self.words = memoryview(self.run)[:RUN_SIZE].cast("Q")
        self.kicked = False
        self._thread = 0
        self._adopted = False
        self._stats: _Stats | None = None

    def adopt_thread(self) -> None:
        """Make the calling thread the one that enters the guest, and that ``kick`` interrupts.

        The kick signal stays blocked in the thread and is unblocked only inside RUN, which it ends with
        EINTR (KVM_SET_SIGNAL_MASK). No signal handler is needed, and so it works in any thread."""
        assert KICK is not None
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {KICK})
        if not _own.vcpus:
            _own.blocked_before = KICK in old
        if not self._adopted:
            self._adopted = True
            _own.vcpus += 1
        inside = sum(1 << (number - 1) for number in old if number != KICK)
        _call(self.fd, SET_SIGNAL_MASK, pack("<IQ", _SIGNAL_BYTES, inside))
        self._thread = threading.get_native_id()

    def kick(self) -> None:
        """End the running RUN, or the next one, with EINTR. May be called from any thread."""
        self.kicked = True
        self.run[IMMEDIATE_EXIT] = 1
        if _libc is not None and KICK is not None and self._thread:
            _libc.syscall(_SYS_TGKILL, os.getpid(), self._thread, int(KICK))

    @contextlib.contextmanager
    def immediate_exit(self) -> Iterator[None]:
        """Context in which RUN finishes an incomplete instruction, begins none, and ends with EINTR."""
        asked = self.run[IMMEDIATE_EXIT]
        self.run[IMMEDIATE_EXIT] = 1
        try:
            yield
        finally:
            self.run[IMMEDIATE_EXIT] = asked or self.kicked

    def swallow_kick(self) -> None:
        """Consume the kick's signal after EINTR, so that the next RUN enters the guest."""
        self.kicked = False
        self.run[IMMEDIATE_EXIT] = 0
        if KICK is not None:
            while signal.sigtimedwait({KICK}, 0) is not None:
                pass

    def set_cpuid(self, leaves: dict[int, tuple[int, int, int, int]]) -> None:
        entries = b"".join(_CPUID_ENTRY.pack(leaf, 0, 0, *words) for leaf, words in leaves.items())
        # A bytearray: Python's ioctl accepts at most 1024 bytes of an immutable argument.
        _call(self.fd, SET_CPUID2, bytearray(pack("<II", len(leaves), 0) + entries))

    def sregs(self) -> bytearray:
        return _fill(self.fd, GET_SREGS, SREGS_SIZE)

    def set_sregs(self, sregs: bytearray) -> None:
        fcntl.ioctl(self.fd, SET_SREGS, sregs)

    def regs(self) -> bytearray:
        return _fill(self.fd, GET_REGS, REGS_SIZE)

    def read_msrs(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Their values. Raises OSError (EIO) when the kernel does not know one of them."""
        buffer = bytearray(
            pack("<II", len(numbers), 0) + b"".join(_MSR_ENTRY.pack(n, 0) for n in numbers)
        )
        if fcntl.ioctl(self.fd, GET_MSRS, buffer) != len(numbers):
            raise OSError(5, "KVM_GET_MSRS read fewer MSRs than asked for")
        return tuple(unpack_from("<Q", buffer, 16 + i * 16)[0] for i in range(len(numbers)))

    def write_msrs(self, values: dict[int, int]) -> None:
        buffer = bytearray(
            pack("<II", len(values), 0) + b"".join(_MSR_ENTRY.pack(n, v) for n, v in values.items())
        )
        if fcntl.ioctl(self.fd, SET_MSRS, buffer) != len(values):
            raise OSError(5, "KVM_SET_MSRS set fewer MSRs than asked for")

    def fpu(self) -> bytes:
        """x87 and SSE state as an FXSAVE64 image: the legacy area of an XSAVE image."""
        return bytes(_fill(self.fd, GET_XSAVE, XSAVE_SIZE)[:FXSAVE_SIZE])

    def set_fpu(self, image: bytes) -> None:
        buffer = bytearray(XSAVE_SIZE)
        buffer[:FXSAVE_SIZE] = image
        buffer[XSTATE_BV] = X87_AND_SSE
        fcntl.ioctl(self.fd, SET_XSAVE, buffer)

    def debug_registers(self) -> list[int]:
        """db0-db3, dr6, dr7."""
        return list(DEBUGREGS.unpack(_fill(self.fd, GET_DEBUGREGS, DEBUGREGS.size)))

    def set_debug_registers(self, values: list[int]) -> None:
        _call(self.fd, SET_DEBUGREGS, DEBUGREGS.pack(*values))

    def guest_debug(self, control: int, breakpoints: tuple[int, ...] = ()) -> None:
        """Set single-stepping and up to four code breakpoints of the host, invisible to the guest."""
        enabled = sum(2 << (2 * i) for i in range(len(breakpoints)))
        addresses = (*breakpoints, 0, 0, 0, 0)[:4]
        _call(
            self.fd, SET_GUEST_DEBUG, GUEST_DEBUG.pack(control, 0, *addresses, 0, 0, 0, 0x400 | enabled)
        )

    def interrupt(self, vector: int) -> None:
        """Queue an external interrupt; it is delivered when the guest is entered."""
        _call(self.fd, INTERRUPT, pack("<I", vector))

    def nmi(self) -> None:
        """Queue an NMI."""
        _call(self.fd, NMI)

    def set_events(self, events: bytearray) -> None:
        """Set exceptions and interrupts on their way (struct kvm_vcpu_events)."""
        _call(self.fd, SET_VCPU_EVENTS, events)

    def lapic(self) -> bytearray:
        """The registers of the local APIC in the kernel, laid out as in its page."""
        return _fill(self.fd, GET_LAPIC, LAPIC_SIZE)

    def set_lapic(self, registers: bytearray) -> None:
        fcntl.ioctl(self.fd, SET_LAPIC, registers)

    def is_halted(self) -> bool:
        """Does the vCPU sleep in the kernel, by HLT? Only with a local APIC there."""
        return bool(unpack_from("<I", _fill(self.fd, GET_MP_STATE, 4))[0] == MP_HALTED)

    def wake(self) -> None:
        """End that sleep."""
        _call(self.fd, SET_MP_STATE, pack("<I", MP_RUNNABLE))

    def statistics(self) -> dict[str, int]:
        """The kernel's counters of this vCPU by name. Raises OSError where the kernel has none."""
        if self._stats is None:
            self._stats = _Stats(_call(self.fd, GET_STATS_FD))
        return self._stats.read()

    def close(self) -> None:
        if self._stats is not None:
            self._stats.close()
        self.words.release()
        self.run.close()
        os.close(self.fd)
        if not self._adopted or self._thread != threading.get_native_id() or KICK is None:
            return
        self._adopted = False
        _own.vcpus -= 1
        if not _own.vcpus and not _own.blocked_before:
            with contextlib.suppress(OSError):
                while signal.sigtimedwait({KICK}, 0) is not None:
                    pass
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {KICK})


class _Stats:
    """The binary statistics file of a vCPU (KVM API 4.134): descriptors are read once, data often."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        _, name_size, count, _, at, self._data_at = STATS_HEADER.unpack(
            os.pread(fd, STATS_HEADER.size, 0)
        )
        stride = STATS_DESCRIPTOR.size + name_size
        table = os.pread(fd, stride * count, at)
        self._offsets: dict[str, int] = {}
        for start in range(0, stride * count, stride):
            _, _, size, offset, _ = STATS_DESCRIPTOR.unpack_from(table, start)
            name = table[start + STATS_DESCRIPTOR.size : start + stride].split(b"\0")[0].decode()
            if size == 1:  # histograms have more
                self._offsets[name] = offset
        self._length = max(self._offsets.values(), default=0) + 8

    def read(self) -> dict[str, int]:
        data = os.pread(self.fd, self._length, self._data_at)
        return {name: unpack_from("<Q", data, offset)[0] for name, offset in self._offsets.items()}

    def close(self) -> None:
        os.close(self.fd)
