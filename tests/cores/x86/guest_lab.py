"""A small guest to test the architecture with: booted RAM, and a Unicorn over the same bytes as
oracle."""

from __future__ import annotations

import ctypes
import struct

import unicorn
from unicorn import x86_const as ux

from cores.pc.boot import long_mode
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.programs.program import Program
from cores.programs.program import Segment as Bytes
from cores.x86.mmu.paging import Mmu
from cores.x86.registers import CS, DS, ES, FS, GPR_NAMES, GS, SS
from cores.x86.virtual_cpu import VirtualCpu

CODE = 0x100000
RAM_SIZE = 4 << 20
ERROR_CODE_OFFSET = 5424
"""Where Unicorn 2.1.4 keeps the error code in a saved context; tests calibrate it before use."""


class Lab:
    """A booted guest: ``memory``, ``cpu`` and ``mmu``, with helpers to write its tables."""

    def __init__(self, code: bytes = b"\xf4") -> None:
        self.ram = Ram(RAM_SIZE)
        self.memory = PhysicalMemory(self.ram)
        self.cpu = VirtualCpu()
        program = Program("-", "flat", CODE, (Bytes(CODE, code, len(code)),), "")
        long_mode.boot(program, self.memory, self.cpu)
        self.mmu = Mmu(self.memory, self.cpu)

    def poke(self, gpa: int, *qwords: int) -> None:
        self.ram.view[gpa : gpa + 8 * len(qwords)] = struct.pack(f"<{len(qwords)}Q", *qwords)

    def peek(self, gpa: int) -> int:
        return int.from_bytes(self.ram.view[gpa : gpa + 8], "little")

    def chain(self, gva: int, entries: list[int], tables: int = 0x20000) -> list[int]:
        """Write one entry a level for ``gva``, from the PML4 down, each in a table of its own.

        ``entries``: flags; those of upper levels get the next table's address. Returns where they lie.
        """
        places, table = [], self.cpu.cr3
        for level, entry in enumerate(entries):
            at = table + (gva >> (39 - 9 * level) & 0x1FF) * 8
            table = tables + 0x1000 * level
            if level < len(entries) - 1:
                entry |= table
            self.poke(at, entry)
            places.append(at)
        self.mmu.flush()
        return places

    def gdt(self, selector: int, *raw: int) -> int:
        """Write a descriptor; the GDT grows to hold it."""
        self.poke(self.cpu.gdtr.base + (selector & 0xFFF8), *raw)
        end = (selector & 0xFFF8) + 8 * len(raw) - 1
        self.cpu.gdtr.limit = max(self.cpu.gdtr.limit, end)
        return selector

    def user(self) -> None:
        """Enter ring 3, as iretq to the boot GDT's user segments would."""
        self.cpu.segments[CS].selector, self.cpu.segments[CS].attributes = 0x33, 0xA0FB
        self.cpu.segments[SS].selector, self.cpu.segments[SS].attributes = 0x2B, 0xC0F3


_SEGMENT_IDS = {
    ES: ux.UC_X86_REG_ES, CS: ux.UC_X86_REG_CS, SS: ux.UC_X86_REG_SS,
    DS: ux.UC_X86_REG_DS, FS: ux.UC_X86_REG_FS, GS: ux.UC_X86_REG_GS,
}  # fmt: skip
_GPR_IDS = [getattr(ux, f"UC_X86_REG_{name.upper()}") for name in GPR_NAMES]


class Oracle:
    """Unicorn at ring 0 on the lab's RAM: executes single instructions with its own MMU.

    Segments' hidden parts cannot be set through Unicorn's interface: ``enter`` runs loads and an
    iretq in the guest, so that they come from the tables.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.uc = uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        uc.ctl_set_cpu_model(ux.UC_CPU_X86_SKYLAKE_CLIENT)  # the default model has no SMAP
        uc.ctl_set_tcg_buffer_size(32 << 20)
        uc.mem_map_ptr(0, lab.ram.size, unicorn.UC_PROT_ALL, ctypes.c_void_p(lab.ram.address))
        self.vector: int | None = None
        uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        uc.hook_add(unicorn.UC_HOOK_INSN_INVALID, self._invalid)
        self._fresh = uc.context_save()

    def _interrupt(self, uc: unicorn.Uc, vector: int, _: object) -> None:
        self.vector = vector
        uc.emu_stop()

    def _invalid(self, uc: unicorn.Uc, _: object) -> bool:
        self.vector = 6
        uc.emu_stop()
        return False

    def reset(self) -> None:
        """Restore the start state with the lab's control registers and tables, at CPL 0."""
        uc, cpu = self.uc, self.lab.cpu
        uc.context_restore(self._fresh)
        uc.reg_write(ux.UC_X86_REG_MSR, (0xC0000080, cpu.efer))
        uc.reg_write(ux.UC_X86_REG_CR4, cpu.cr4)
        uc.reg_write(ux.UC_X86_REG_CR3, cpu.cr3)
        uc.reg_write(ux.UC_X86_REG_CR0, cpu.cr0)  # turning paging on flushes the TLB
        uc.reg_write(ux.UC_X86_REG_GDTR, (0, cpu.gdtr.base, cpu.gdtr.limit, 0))
        uc.reg_write(ux.UC_X86_REG_LDTR, (cpu.ldtr.selector, cpu.ldtr.base, cpu.ldtr.limit, 0x8200))
        uc.ctl_flush_tb()

    def step(self, rip: int, registers: dict[int, int] | None = None) -> int | None:
        """Execute the instruction at ``rip``; the vector of its exception, or None."""
        for number, value in (registers or {}).items():
            self.uc.reg_write(_GPR_IDS[number], value)
        self.vector = None
        try:
            self.uc.emu_start(rip, 0, count=1)
        except unicorn.UcError as error:
            if self.vector is None:
                raise AssertionError(f"Unicorn: {error}") from error
        return self.vector

    def gpr(self, number: int) -> int:
        return self.uc.reg_read(_GPR_IDS[number])

    def selector(self, segment: int) -> int:
        return self.uc.reg_read(_SEGMENT_IDS[segment])

    @property
    def rip(self) -> int:
        return self.uc.reg_read(ux.UC_X86_REG_RIP)

    @property
    def rflags(self) -> int:
        return self.uc.reg_read(ux.UC_X86_REG_EFLAGS)

    @property
    def cr2(self) -> int:
        return self.uc.reg_read(ux.UC_X86_REG_CR2)

    @property
    def fs_base(self) -> int:
        return self.uc.reg_read(ux.UC_X86_REG_FS_BASE)

    @property
    def error(self) -> int:
        """The error code of the last exception."""
        context = self.uc.context_save()
        raw = ctypes.string_at(context.context, context.size)
        return int.from_bytes(raw[ERROR_CODE_OFFSET : ERROR_CODE_OFFSET + 4], "little")
