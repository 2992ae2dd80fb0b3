"""What the VMM does in the guest's place: one sensitive instruction, on the virtual CPU.

A handler takes the decoded instruction, changes ``VirtualCpu``, guest memory and devices as the
SDM's operation section for that instruction says (vol. 2), and returns in a few words what it
did. It first checks what the CPU would check at the guest's *virtual* privilege: a guest user's
``cli`` is the guest kernel's business, and raises GuestFault here.

The same handlers serve every engine: on the trap cores for everything that must not run, on the
interpreter and on KVM for what a host may choose (time, CPUID, ports).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from . import platform
from .virtual_cpu import VirtualCpu
from .x86 import control, descriptors, interrupts, transfers
from .x86.faults import general_protection, undefined_opcode
from .x86.instruction import Immediate, Instruction, MemoryOperand, Operand, Register
from .x86.paging import Mmu
from .x86.registers import (
    ARITHMETIC_FLAGS,
    GPR_NAMES,
    MASK64,
    RAX,
    RBX,
    RCX,
    RDX,
    RSP,
    SEGMENT_NAMES,
    SS,
    Cr4,
    Flag,
    Vector,
    canonical,
)  # fmt: skip
from .x86.string_io import input_string, output_string
from .x86.touched import effective_address


class Ports(Protocol):
    """The port bus, as the emulator needs it."""

    def read(self, port: int, size: int) -> int: ...

    def write(self, port: int, size: int, value: int) -> None: ...

    def read_string(self, port: int, size: int, count: int) -> bytes: ...

    def write_string(self, port: int, size: int, data: bytes) -> None: ...

    def describe(self, port: int, size: int, value: int, is_write: bool) -> str: ...


def _register_file() -> dict[str, tuple[int, int, int]]:
    """Every name of a general register -> (number, bytes, bit at which it begins)."""
    names: dict[str, tuple[int, int, int]] = {}
    for number, name in enumerate(GPR_NAMES):
        names[name] = (number, 8, 0)
        if name[1].isdigit():
            names |= {
                name + "d": (number, 4, 0),
                name + "w": (number, 2, 0),
                name + "b": (number, 1, 0),
            }
        else:
            names |= {"e" + name[1:]: (number, 4, 0), name[1:]: (number, 2, 0)}
            byte = name[1] + "l" if number < 4 else name[1:] + "l"
            names[byte] = (number, 1, 0)
            if number < 4:
                names[name[1] + "h"] = (number, 1, 8)
    return names


REGISTER_FILE = _register_file()


class Emulator:
    """Completes instructions on a virtual CPU.

    flush: called with a GVA or None when the guest asks for translations to be forgotten.
    ticks: virtual time. halted: set by HLT, for the VMM to act upon and clear.
    """

    def __init__(
        self,
        cpu: VirtualCpu,
        mmu: Mmu,
        ports: Ports,
        ticks: Callable[[], int],
        flush: Callable[[int | None], None],
    ) -> None:
        self.cpu = cpu
        self.mmu = mmu
        self.ports = ports
        self.ticks = ticks
        self.flush = flush
        self.halted = False
        self._next = 0
        self._shadow = False

    def execute(self, insn: Instruction) -> str:
        """Complete one instruction and move RIP on. Raises GuestFault with nothing changed, but for
        the finished iterations of a REP."""
        handler = _HANDLERS.get(insn.mnemonic)
        if handler is None:
            raise undefined_opcode()  # the platform's CPU has no such instruction
        cpu = self.cpu
        self._next = (cpu.rip + insn.length) & MASK64
        self._shadow = False
        handled = handler(self, insn)
        cpu.rip = self._next
        cpu.interrupt_shadow = self._shadow
        if insn.mnemonic != "iret":  # IRET alone may set RF
            cpu.rflags &= ~Flag.RF
        return handled

    # Operands

    def read(self, insn: Instruction, operand: Operand, size: int | None = None) -> int:
        """The value of a general-register, segment, immediate or memory operand."""
        match operand:
            case Register(name):
                if name in SEGMENT_NAMES:
                    return self.cpu.segments[SEGMENT_NAMES.index(name)].selector
                number, width, shift = REGISTER_FILE[name]
                return (self.cpu.gpr[number] >> shift) & ((1 << 8 * width) - 1)
            case Immediate(value):
                return value
            case MemoryOperand():
                length = size or operand.size
                gva = effective_address(operand, self.cpu, insn.length)
                return int.from_bytes(self.mmu.read(gva, length), "little")

    def write(self, insn: Instruction, operand: Operand, value: int, size: int | None = None) -> None:
        """Store to a general register (32-bit writes clear the upper half) or to memory."""
        match operand:
            case Register(name):
                number, width, shift = REGISTER_FILE[name]
                if width >= 4:
                    self.cpu.gpr[number] = value & ((1 << 8 * width) - 1)
                else:
                    mask = ((1 << 8 * width) - 1) << shift
                    self.cpu.gpr[number] = (self.cpu.gpr[number] & ~mask) | (value << shift & mask)
            case MemoryOperand():
                length = size or operand.size
                gva = effective_address(operand, self.cpu, insn.length)
                self.mmu.write(gva, (value & ((1 << 8 * length) - 1)).to_bytes(length, "little"))
            case Immediate():
                raise TypeError("an immediate is no destination")

    def _address(self, insn: Instruction) -> int:
        operand = next(o for o in insn.operands if isinstance(o, MemoryOperand))
        return effective_address(operand, self.cpu, insn.length)

    def _kernel_only(self) -> None:
        if self.cpu.cpl != 0:
            raise general_protection()

    def _push(self, value: int, size: int) -> None:
        top = (self.cpu.gpr[RSP] - size) & MASK64
        self.mmu.write(top, (value & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
        self.cpu.gpr[RSP] = top

    # Ports (SDM vol. 1, ch. 19)

    def _may_use(self, port: int, size: int) -> None:
        """IOPL, else the I/O permission bitmap of the TSS (SDM vol. 1, 19.5.2)."""
        cpu = self.cpu
        if cpu.cpl <= (cpu.rflags & Flag.IOPL) >> 12:
            return
        tss = cpu.tr
        if tss.limit < 0x67:
            raise general_protection()
        at = int.from_bytes(self.mmu.read(tss.base + 0x66, 2, implicit=True), "little") + port // 8
        if at + 1 > tss.limit:
            raise general_protection()
        bits = int.from_bytes(self.mmu.read(tss.base + at, 2, implicit=True), "little")
        if bits >> (port & 7) & ((1 << size) - 1):
            raise general_protection()

    def _port(self, operand: Operand) -> int:
        return operand.value & 0xFF if isinstance(operand, Immediate) else self.cpu.gpr[RDX] & 0xFFFF

    def _in(self, insn: Instruction) -> str:
        destination, source = insn.operands
        assert isinstance(destination, Register)
        port, size = self._port(source), destination.size
        self._may_use(port, size)
        value = self.ports.read(port, size)
        self.write(insn, destination, value)
        return self.ports.describe(port, size, value, False)

    def _out(self, insn: Instruction) -> str:
        destination, source = insn.operands
        assert isinstance(source, Register)
        port, size = self._port(destination), source.size
        self._may_use(port, size)
        value = self.read(insn, source)
        self.ports.write(port, size, value)
        return self.ports.describe(port, size, value, True)

    def _ins(self, insn: Instruction) -> str:
        port = self.cpu.gpr[RDX] & 0xFFFF
        self._may_use(port, insn.operand_size)
        count = input_string(
            self.cpu, self.mmu, insn, lambda n: self.ports.read_string(port, insn.operand_size, n)
        )
        device = self.ports.describe(port, insn.operand_size, 0, False)
        return f"{count} x {insn.operand_size} bytes from {device}"

    def _outs(self, insn: Instruction) -> str:
        port = self.cpu.gpr[RDX] & 0xFFFF
        self._may_use(port, insn.operand_size)
        count = output_string(
            self.cpu, self.mmu, insn, lambda b: self.ports.write_string(port, insn.operand_size, b)
        )
        device = self.ports.describe(port, insn.operand_size, 0, True)
        return f"{count} x {insn.operand_size} bytes to {device}"

    # Flags

    def _cli(self, insn: Instruction) -> str:
        self._interrupt_flag_allowed()
        self.cpu.rflags &= ~Flag.IF
        return "virtual IF = 0"

    def _sti(self, insn: Instruction) -> str:
        self._interrupt_flag_allowed()
        self._shadow = not self.cpu.rflags & Flag.IF
        self.cpu.rflags |= Flag.IF
        return "virtual IF = 1"

    def _interrupt_flag_allowed(self) -> None:
        if self.cpu.cpl > (self.cpu.rflags & Flag.IOPL) >> 12:
            raise general_protection()

    def _pushf(self, insn: Instruction) -> str:
        image = self.cpu.rflags & ~(Flag.RF | Flag.VM)
        self._push(image, insn.operand_size)
        return f"pushed the virtual flags {image:#x}"

    def _popf(self, insn: Instruction) -> str:
        cpu, size = self.cpu, insn.operand_size
        image = int.from_bytes(self.mmu.read(cpu.gpr[RSP], size), "little")
        cpu.gpr[RSP] = (cpu.gpr[RSP] + size) & MASK64
        allowed = transfers.loadable_flags(cpu, size) & ~(Flag.RF | Flag.VIF | Flag.VIP)
        cpu.rflags = (cpu.rflags & ~allowed) | (image & allowed) | Flag.FIXED
        return f"virtual flags = {cpu.rflags:#x}"

    def _stac(self, insn: Instruction) -> str:
        if self.cpu.cpl != 0:
            raise undefined_opcode()
        self.cpu.rflags |= Flag.AC
        return "virtual AC = 1"

    def _clac(self, insn: Instruction) -> str:
        if self.cpu.cpl != 0:
            raise undefined_opcode()
        self.cpu.rflags &= ~Flag.AC
        return "virtual AC = 0"

    # Control registers (SDM vol. 3, 2.5)

    def _mov(self, insn: Instruction) -> str:
        destination, source = insn.operands
        for operand in (destination, source):
            if isinstance(operand, Register):
                if operand.name in SEGMENT_NAMES:
                    return self._mov_segment(insn, destination, source)
                if operand.name.startswith("cr"):
                    return self._mov_control(insn, destination, source)
                if operand.name.startswith("dr"):
                    return self._mov_debug(insn, destination, source)
        raise undefined_opcode()

    def _mov_control(self, insn: Instruction, destination: Operand, source: Operand) -> str:
        assert isinstance(destination, Register)
        assert isinstance(source, Register)
        self._kernel_only()
        if source.name.startswith("cr"):
            value = control.read_control(self.cpu, int(source.name[2:]))
            self.write(insn, destination, value)
            return f"gave the virtual {source.name} {value:#x}"
        value = self.read(insn, source)
        if control.write_control(self.cpu, int(destination.name[2:]), value):
            self.flush(None)
        return f"virtual {destination.name} = {value:#x}"

    def _mov_debug(self, insn: Instruction, destination: Operand, source: Operand) -> str:
        assert isinstance(destination, Register)
        assert isinstance(source, Register)
        self._kernel_only()
        if source.name.startswith("dr"):
            self.write(insn, destination, control.read_debug(self.cpu, int(source.name[2:])))
            return f"gave the virtual {source.name}"
        value = self.read(insn, source)
        control.write_debug(self.cpu, int(destination.name[2:]), value)
        return f"virtual {destination.name} = {value:#x}"

    def _clts(self, insn: Instruction) -> str:
        self._kernel_only()
        control.clts(self.cpu)
        return "virtual CR0.TS = 0"

    def _lmsw(self, insn: Instruction) -> str:
        self._kernel_only()
        control.lmsw(self.cpu, self.read(insn, insn.operands[0], 2) & 0xFFFF)
        return f"virtual CR0 = {self.cpu.cr0:#x}"

    def _smsw(self, insn: Instruction) -> str:
        self._store_word(insn, self.cpu.cr0)
        return f"gave the virtual CR0 {self.cpu.cr0:#x}"

    def _store_word(self, insn: Instruction, value: int) -> None:
        """SMSW, SLDT, STR, MOV r/m, Sreg: 16 bits to memory, the operand size to a register."""
        operand = insn.operands[0]
        self.write(insn, operand, value, 2 if isinstance(operand, MemoryOperand) else None)

    # Descriptor tables

    def _lgdt(self, insn: Instruction) -> str:
        return self._load_table(insn, "gdtr")

    def _lidt(self, insn: Instruction) -> str:
        return self._load_table(insn, "idtr")

    def _load_table(self, insn: Instruction, name: str) -> str:
        self._kernel_only()
        image = self.mmu.read(self._address(insn), 10)
        limit, base = int.from_bytes(image[:2], "little"), int.from_bytes(image[2:], "little")
        if not canonical(base):
            raise general_protection()
        table = self.cpu.gdtr if name == "gdtr" else self.cpu.idtr
        table.base, table.limit = base, limit
        return f"virtual {name} = {base:#x}, limit {limit:#x}"

    def _sgdt(self, insn: Instruction) -> str:
        return self._store_table(insn, "gdtr")

    def _sidt(self, insn: Instruction) -> str:
        return self._store_table(insn, "idtr")

    def _store_table(self, insn: Instruction, name: str) -> str:
        table = self.cpu.gdtr if name == "gdtr" else self.cpu.idtr
        image = table.limit.to_bytes(2, "little") + table.base.to_bytes(8, "little")
        self.mmu.write(self._address(insn), image)
        return f"gave the virtual {name} {table.base:#x}"

    def _lldt(self, insn: Instruction) -> str:
        self._kernel_only()
        selector = self.read(insn, insn.operands[0], 2) & 0xFFFF
        descriptors.load_ldtr(self.mmu, self.cpu, selector)
        return f"virtual ldtr = {selector:#x}"

    def _ltr(self, insn: Instruction) -> str:
        self._kernel_only()
        selector = self.read(insn, insn.operands[0], 2) & 0xFFFF
        descriptors.load_tr(self.mmu, self.cpu, selector)
        return f"virtual tr = {selector:#x}"

    def _sldt(self, insn: Instruction) -> str:
        self._store_word(insn, self.cpu.ldtr.selector)
        return f"gave the virtual ldtr {self.cpu.ldtr.selector:#x}"

    def _str(self, insn: Instruction) -> str:
        self._store_word(insn, self.cpu.tr.selector)
        return f"gave the virtual tr {self.cpu.tr.selector:#x}"

    def _lar(self, insn: Instruction) -> str:
        return self._about_selector(
            insn, descriptors.access_rights(self.mmu, self.cpu, self._selector(insn))
        )

    def _lsl(self, insn: Instruction) -> str:
        return self._about_selector(
            insn, descriptors.segment_limit(self.mmu, self.cpu, self._selector(insn))
        )

    def _selector(self, insn: Instruction) -> int:
        return self.read(insn, insn.operands[-1], 2) & 0xFFFF

    def _about_selector(self, insn: Instruction, answer: int | None) -> str:
        self._set_zero_flag(answer is not None)
        if answer is None:
            return "ZF = 0: not visible"
        self.write(insn, insn.operands[0], answer)
        return f"gave {answer:#x}, from the guest's own table"

    def _verr(self, insn: Instruction) -> str:
        readable = descriptors.verify_read(self.mmu, self.cpu, self._selector(insn))
        self._set_zero_flag(readable)
        return f"ZF = {readable:d}"

    def _verw(self, insn: Instruction) -> str:
        writable = descriptors.verify_write(self.mmu, self.cpu, self._selector(insn))
        self._set_zero_flag(writable)
        return f"ZF = {writable:d}"

    def _set_zero_flag(self, value: bool) -> None:
        self.cpu.rflags = (self.cpu.rflags & ~Flag.ZF) | (Flag.ZF if value else 0)

    # Segment registers

    def _mov_segment(self, insn: Instruction, destination: Operand, source: Operand) -> str:
        if isinstance(source, Register) and source.name in SEGMENT_NAMES:
            self._store_word(insn, self.read(insn, source))
            return f"gave the virtual {source.name}"
        assert isinstance(destination, Register)
        selector = self.read(insn, source, 2) & 0xFFFF
        return self._load_segment(SEGMENT_NAMES.index(destination.name), selector)

    def _load_segment(self, index: int, selector: int) -> str:
        descriptors.load_segment(self.mmu, self.cpu, index, selector)
        self._shadow = index == SS
        return f"virtual {SEGMENT_NAMES[index]} = {selector:#x}"

    def _push_segment(self, insn: Instruction) -> str:
        operand = insn.operands[0]
        assert isinstance(operand, Register)
        self._push(self.read(insn, operand), insn.operand_size)
        return f"pushed the virtual {operand.name}"

    def _pop_segment(self, insn: Instruction) -> str:
        operand = insn.operands[0]
        assert isinstance(operand, Register)
        cpu = self.cpu
        selector = int.from_bytes(self.mmu.read(cpu.gpr[RSP], insn.operand_size), "little") & 0xFFFF
        handled = self._load_segment(SEGMENT_NAMES.index(operand.name), selector)
        cpu.gpr[RSP] = (cpu.gpr[RSP] + insn.operand_size) & MASK64
        return handled

    def _load_far_pointer(self, insn: Instruction) -> str:
        index = SEGMENT_NAMES.index(insn.mnemonic[1:])
        offset, selector = self._far_pointer(insn, insn.operands[-1])
        handled = self._load_segment(index, selector)
        self.write(insn, insn.operands[0], offset)
        return handled

    def _far_pointer(self, insn: Instruction, operand: Operand) -> tuple[int, int]:
        size = insn.operand_size
        assert isinstance(operand, MemoryOperand)
        image = self.mmu.read(effective_address(operand, self.cpu, insn.length), size + 2)
        return int.from_bytes(image[:size], "little"), int.from_bytes(image[size:], "little")

    # Transfers of control (SDM vol. 3, 5.8 and ch. 6)

    def _far_call(self, insn: Instruction) -> str:
        offset, selector = self._far_pointer(insn, insn.operands[0])
        transfers.far_call(self.mmu, self.cpu, selector, offset, self._next, insn.operand_size)
        return self._arrived()

    def _far_jump(self, insn: Instruction) -> str:
        offset, selector = self._far_pointer(insn, insn.operands[0])
        transfers.far_jump(self.mmu, self.cpu, selector, offset)
        return self._arrived()

    def _far_return(self, insn: Instruction) -> str:
        release = self.read(insn, insn.operands[0]) & 0xFFFF if insn.operands else 0
        transfers.far_return(self.mmu, self.cpu, insn.operand_size, release)
        return self._arrived()

    def _iret(self, insn: Instruction) -> str:
        transfers.interrupt_return(self.mmu, self.cpu, insn.operand_size)
        return self._arrived()

    def _syscall(self, insn: Instruction) -> str:
        transfers.syscall(self.cpu, self._next)
        return self._arrived()

    def _sysret(self, insn: Instruction) -> str:
        transfers.sysret(self.cpu, insn.operand_size)
        return self._arrived()

    def _arrived(self) -> str:
        """The handler has set RIP and CS itself."""
        self._next = self.cpu.rip
        return f"to virtual ring {self.cpu.cpl} at {self.cpu.rip:#x}"

    def _int(self, insn: Instruction) -> str:
        return self._software_interrupt(self.read(insn, insn.operands[0]) & 0xFF, software=True)

    def _int3(self, insn: Instruction) -> str:
        return self._software_interrupt(Vector.BP, software=True)

    def _int1(self, insn: Instruction) -> str:
        return self._software_interrupt(Vector.DB, software=False)

    def _software_interrupt(self, vector: int, *, software: bool) -> str:
        interrupts.deliver(self.mmu, self.cpu, vector, None, software=software, return_rip=self._next)
        return self._arrived()

    def _swapgs(self, insn: Instruction) -> str:
        transfers.swapgs(self.cpu)
        return f"virtual GS base = {self.cpu.segments[5].base:#x}"

    # Model-specific registers, identity, time

    def _rdmsr(self, insn: Instruction) -> str:
        self._kernel_only()
        number = self.cpu.gpr[RCX] & 0xFFFFFFFF
        value = control.read_msr(self.cpu, number, self.ticks())
        self.cpu.gpr[RAX], self.cpu.gpr[RDX] = value & 0xFFFFFFFF, value >> 32
        return f"gave the virtual MSR {number:#x}: {value:#x}"

    def _wrmsr(self, insn: Instruction) -> str:
        self._kernel_only()
        cpu = self.cpu
        number = cpu.gpr[RCX] & 0xFFFFFFFF
        value = (cpu.gpr[RDX] & 0xFFFFFFFF) << 32 | cpu.gpr[RAX] & 0xFFFFFFFF
        if control.write_msr(cpu, number, value, self.ticks()):
            self.flush(None)
        return f"virtual MSR {number:#x} = {value:#x}"

    def _rdtsc(self, insn: Instruction) -> str:
        cpu = self.cpu
        if cpu.cr4 & Cr4.TSD and cpu.cpl != 0:
            raise general_protection()
        value = control.read_tsc(cpu, self.ticks())
        cpu.gpr[RAX], cpu.gpr[RDX] = value & 0xFFFFFFFF, value >> 32
        if insn.mnemonic == "rdtscp":
            cpu.gpr[RCX] = 0  # IA32_TSC_AUX: the platform has none
        return f"gave virtual time {value}"

    def _rdpmc(self, insn: Instruction) -> str:
        raise general_protection()  # the platform has no performance counter

    def _cpuid(self, insn: Instruction) -> str:
        gpr = self.cpu.gpr
        leaf = gpr[RAX] & 0xFFFFFFFF
        gpr[RAX], gpr[RBX], gpr[RCX], gpr[RDX] = platform.cpuid(leaf, gpr[RCX] & 0xFFFFFFFF)
        return f"leaf {leaf:#x} of the platform's CPU"

    # The rest

    def _hlt(self, insn: Instruction) -> str:
        self._kernel_only()
        self.halted = True
        return "the virtual CPU sleeps"

    def _invlpg(self, insn: Instruction) -> str:
        self._kernel_only()
        gva = self._address(insn)
        self.flush(gva)
        return f"forgot the translation of {gva:#x}"

    def _invalidate_caches(self, insn: Instruction) -> str:
        self._kernel_only()
        return "nothing: the host's caches are coherent"

    def _bit_scan(self, insn: Instruction) -> str:
        """BSF or BSR in the encoding of TZCNT or LZCNT, which the platform's CPU lacks (SDM vol. 2:
        there the REP prefix is ignored)."""
        destination, source = insn.operands
        value = self.read(insn, source)
        self.cpu.rflags &= ~ARITHMETIC_FLAGS
        self._set_zero_flag(value == 0)
        if value:
            lowest = (value & -value).bit_length() - 1
            self.write(insn, destination, lowest if insn.mnemonic == "bsf" else value.bit_length() - 1)
        return "without the newer encoding's meaning"

    def _near_jump(self, insn: Instruction) -> str:
        """JMP through a register or memory: executed by the CPU, unless free mode had to catch it."""
        self._next = self._near_target(insn)
        return f"jumped to {self._next:#x}"

    def _near_call(self, insn: Instruction) -> str:
        target = self._near_target(insn)
        self._push(self._next, 8)
        self._next = target
        return f"called {target:#x}"

    def _near_target(self, insn: Instruction) -> int:
        target = self.read(insn, insn.operands[0])
        if not canonical(target):
            raise general_protection()
        return target


_HANDLERS: dict[str, Callable[[Emulator, Instruction], str]] = {
    "in": Emulator._in, "out": Emulator._out, "ins": Emulator._ins, "outs": Emulator._outs,
    "cli": Emulator._cli, "sti": Emulator._sti, "pushf": Emulator._pushf, "popf": Emulator._popf,
    "stac": Emulator._stac, "clac": Emulator._clac,
    "mov": Emulator._mov, "clts": Emulator._clts, "lmsw": Emulator._lmsw, "smsw": Emulator._smsw,
    "lgdt": Emulator._lgdt, "lidt": Emulator._lidt, "sgdt": Emulator._sgdt, "sidt": Emulator._sidt,
    "lldt": Emulator._lldt, "ltr": Emulator._ltr, "sldt": Emulator._sldt, "str": Emulator._str,
    "lar": Emulator._lar, "lsl": Emulator._lsl, "verr": Emulator._verr, "verw": Emulator._verw,
    "push": Emulator._push_segment, "pop": Emulator._pop_segment,
    "lss": Emulator._load_far_pointer, "lfs": Emulator._load_far_pointer,
    "lgs": Emulator._load_far_pointer,
    "lcall": Emulator._far_call, "ljmp": Emulator._far_jump, "retf": Emulator._far_return,
    "iret": Emulator._iret, "syscall": Emulator._syscall, "sysret": Emulator._sysret,
    "int": Emulator._int, "int3": Emulator._int3, "int1": Emulator._int1, "swapgs": Emulator._swapgs,
    "rdmsr": Emulator._rdmsr, "wrmsr": Emulator._wrmsr,
    "rdtsc": Emulator._rdtsc, "rdtscp": Emulator._rdtsc, "rdpmc": Emulator._rdpmc,
    "cpuid": Emulator._cpuid, "hlt": Emulator._hlt, "invlpg": Emulator._invlpg,
    "wbinvd": Emulator._invalidate_caches, "invd": Emulator._invalidate_caches,
    "jmp": Emulator._near_jump, "call": Emulator._near_call,
    "bsf": Emulator._bit_scan, "bsr": Emulator._bit_scan,
}  # fmt: skip
