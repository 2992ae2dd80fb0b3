"""Small guests that probe this host's KVM (see capabilities.py)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from struct import pack

from cores.engines.base import Exit, Interrupted
from cores.engines.kvm.engine import KvmEngine
from cores.engines.kvm.host import Host
from cores.engines.kvm.stepping import Manner
from cores.errors import UnavailableError
from cores.pc.boot.long_mode import boot
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import INITIAL_FPU, PML4, TSS
from cores.pc.ram import Ram
from cores.programs.program import Program, Segment
from cores.x86.registers import CS, DS, ES, FS, GS, RCX, RDI, SS, Cr4
from cores.x86.virtual_cpu import Segment as SegmentRegister
from cores.x86.virtual_cpu import VirtualCpu

ENTRY = 0x100000
IDT, HANDLER = 0x20000, 0x22000
SIGNAL_VECTOR = 0x80
SCRATCH = 0x30000
_RAM, _CALL_HANDLER, _STACK = 2 << 20, 0x22010, 0x90000
_LARGE_PAGE = 0x83
"""Entry of a page directory: a present, writable page of 4 MiB at 0 (SDM vol. 3, 4.3)."""
_USER_STAR = 0x20 << 48 | 0x10 << 32
_WINDOW, _CLOCK_LIMIT, _WINDOWS = 0.5, 60.0, 4
"""A guest that has not exited is interrupted each _WINDOW seconds of this thread's CPU time, and after
_CLOCK_LIMIT seconds of wall-clock time, for one that hangs without using the CPU. It hangs when it has
been found in the same place _WINDOWS times: time alone does not tell, since in a virtual machine CPU
time includes what a busy host took away."""

HLT, SIGNAL = b"\xf4", b"\xe6\xe9\xf4"  # hlt; out 0xe9, al and hlt
BY_KVM = Manner(kernel=True, user=True, truthful=True)
BY_TF = Manner(kernel=True, user=False, truthful=True)


class Trial:
    """A guest whose code is ``code`` at ``ENTRY``, with handlers: exceptions halt, SIGNAL_VECTOR and
    SYSCALL write to port 0xE9. user: it begins at CPL3, on pages that ring 3 may use. legacy: it begins
    in 32-bit protected mode, with 32-bit paging. irqfd: its engine takes interrupts by an irqfd."""

    def __init__(
        self, code: bytes, *, user: bool = False, legacy: bool = False, manner: Manner = BY_KVM,
        irqfd: bool = False,
    ) -> None:  # fmt: skip
        self.memory = PhysicalMemory(Ram(_RAM))
        self.cpu = VirtualCpu()
        self.engine = KvmEngine(Host(manner))
        self.engine.wants_irqfd = irqfd
        program = Program("probe", "flat", ENTRY, (Segment(ENTRY, code, len(code)),), "")
        boot(program, self.memory, self.cpu)
        self._handlers()
        if user:
            self._to_ring_3()
        if legacy:
            self._to_32_bits()
        self._interrupted = 0
        self.engine.load(self.memory)
        self.engine.write_fpu(INITIAL_FPU)

    def _handlers(self) -> None:
        memory, cpu = self.memory, self.cpu
        for vector in (*range(32), SIGNAL_VECTOR):
            entry, kind = (HANDLER, 0x8E) if vector < 32 else (_CALL_HANDLER, 0xEE)
            memory.write(
                IDT + vector * 16, pack("<HHBBHQ", entry & 0xFFFF, 0x10, 0, kind, entry >> 16, 0)
            )
        memory.write(HANDLER, HLT)
        memory.write(_CALL_HANDLER, SIGNAL)
        memory.write(TSS + 4, pack("<Q", _STACK))
        cpu.idtr.base, cpu.idtr.limit = IDT, 0xFFF
        cpu.star, cpu.lstar = _USER_STAR, _CALL_HANDLER
        cpu.gpr[RDI] = SCRATCH

    def _to_ring_3(self) -> None:
        """Start in ring 3, which may use every page except that of the handlers."""
        for table in (PML4, PML4 + 0x1000, PML4 + 0x2000):
            self.memory.view[table] |= 4
        pages = PML4 + 0x3000
        for page in range(512):
            if page != HANDLER >> 12:
                self.memory.view[pages + page * 8] |= 4
        data = SegmentRegister(0x2B, 0, 0xFFFFFFFF, 0xC0F3)
        self.cpu.segments[CS] = SegmentRegister(0x33, 0, 0xFFFFFFFF, 0xA0FB)
        for number in (ES, SS, DS, FS, GS):
            self.cpu.segments[number] = data.copy()

    def _to_32_bits(self) -> None:
        """Start outside long mode, with a directory of one page of 4 MiB."""
        cpu = self.cpu
        self.memory.write(PML4, pack("<I", _LARGE_PAGE))
        cpu.efer, cpu.cr4 = 0, Cr4.PSE
        for number, segment in enumerate(cpu.segments):
            segment.base, segment.limit = 0, 0xFFFFFFFF
            segment.attributes = 0xC09B if number == CS else 0xC093

    def run(self) -> Exit:
        return self._enter(self.engine.run)

    def step(self) -> Exit:
        return self._enter(self.engine.step)

    def interrupt(self) -> None:
        """End the entry that is under way; it is resumed unless the guest hangs. For another thread."""
        self._interrupted += 1
        self.engine.interrupt()

    def _enter(self, enter: Callable[[VirtualCpu], Exit]) -> Exit:
        """Enter the guest until it exits, or hangs."""
        stood, place = 0, (0, 0, 0)
        while True:
            known = self._interrupted
            exit = enter(self.cpu)
            if not isinstance(exit, Interrupted) or self._interrupted == known:
                return exit
            cpu = self.cpu
            here = cpu.rip, cpu.gpr[RCX], cpu.gpr[RDI]  # the trials' loops count in these
            stood, place = stood + 1 if here == place else 1, here
            if stood == _WINDOWS:
                return exit

    def close(self) -> None:
        self.engine.close()
        self.memory.ram.close()


def attempt(
    code: bytes,
    good: Callable[[Trial], bool],
    *,
    user: bool = False,
    legacy: bool = False,
    manner: Manner = BY_KVM,
    irqfd: bool = False,
) -> bool:
    """Run ``code`` as a guest and return what ``good`` says of it; False as well where the host refuses
    with an OSError. Raises UnavailableError where no thread can be started."""
    try:
        trial = Trial(code, user=user, legacy=legacy, manner=manner, irqfd=irqfd)
    except OSError:
        return False
    try:
        with _Watch(trial):
            return good(trial)
    except OSError:
        return False
    finally:
        trial.close()


class _Watch:
    """Watchdog, as a context manager: interrupts the trial again and again while the calling thread is
    in the guest."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._over = threading.Event()
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._thread = threading.Thread(target=self._watch, name="KVM trial", daemon=True)

    def _watch(self) -> None:
        began, end = time.clock_gettime(self._clock), time.monotonic() + _CLOCK_LIMIT
        while not self._over.wait(_WINDOW):
            now = time.clock_gettime(self._clock)
            if now - began >= _WINDOW or time.monotonic() > end:
                began = now
                self._trial.interrupt()

    def __enter__(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            raise UnavailableError(f"this host gives no thread to try it with: {error}") from None

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
