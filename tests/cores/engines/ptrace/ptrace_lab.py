"""A guest of a few bytes on the native trap engine: RAM, engine and registers together."""

from __future__ import annotations

from cores.engines.base import KERNEL_SPACE, Exit
from cores.engines.ptrace.engine import PtraceEngine
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import PAGE, Ram
from tests.flat_cpu import flat_cpu

CODE, DATA, STACK = 0x100000, 0x200000, 0x300000
NOWHERE = 0x5555_0000_0000


class Guest:
    """Code at CODE (executable, not writable), a data page and a stack page."""

    def __init__(self) -> None:
        self.ram = Ram(4 << 20)
        self.engine = PtraceEngine()
        self.engine.load(PhysicalMemory(self.ram))
        self.cpu = flat_cpu(rip=CODE, rflags=0x202)
        self.cpu.gpr[4] = STACK + PAGE - 64
        self.map_all(KERNEL_SPACE)

    def map_all(self, space: int) -> None:
        for page, writable in ((CODE, False), (DATA, True), (STACK, True)):
            assert self.engine.map(space, page, page, PAGE, writable=writable, executable=page == CODE)

    def code(self, code: str | bytes, **registers: int) -> None:
        """Write code (bytes, or hex) to CODE, set RIP to it, and set registers ("rcx", "r9", ...)."""
        data = bytes.fromhex(code) if isinstance(code, str) else code
        self.ram.view[CODE : CODE + PAGE] = data.ljust(PAGE, b"\xf4")
        self.cpu.rip = CODE
        names = (
            "rax",
            "rcx",
            "rdx",
            "rbx",
            "rsp",
            "rbp",
            "rsi",
            "rdi",
            *(f"r{n}" for n in range(8, 16)),
        )
        for name, value in registers.items():
            self.cpu.gpr[names.index(name)] = value

    def step(self, code: str | bytes, **registers: int) -> Exit:
        self.code(code, **registers)
        return self.engine.step(self.cpu)

    def run(self, code: str | bytes, **registers: int) -> Exit:
        self.code(code, **registers)
        return self.engine.run(self.cpu)

    def close(self) -> None:
        self.engine.close()
        self.ram.close()
