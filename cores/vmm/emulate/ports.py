"""IN, OUT, INS and OUTS: port access of the guest to its devices (SDM vol. 1, ch. 19)."""

from __future__ import annotations

from cores.deadline import Deadline
from cores.plural import counted
from cores.vmm.emulate.emulator import Emulator, Handlers, Ports
from cores.x86.faults import general_protection
from cores.x86.isa.instruction import Immediate, Instruction, Operand, Register
from cores.x86.registers import RAX, RDX, SS, Flag
from cores.x86.system.string_io import input_string, output_string
from cores.x86.system.task_state import permits_port


def may_use(e: Emulator, port: int, size: int) -> None:
    """Check IOPL, else the I/O permission bitmap of the TSS (SDM vol. 1, 19.5.2). Raises GuestFault."""
    cpu = e.cpu
    if cpu.cpl <= (cpu.rflags & Flag.IOPL) >> 12:
        return
    if not permits_port(e.mmu, cpu, port, size):
        raise general_protection()


def port_number(e: Emulator, operand: Operand) -> int:
    return operand.value & 0xFF if isinstance(operand, Immediate) else e.cpu.gpr[RDX] & 0xFFFF


def in_(e: Emulator, insn: Instruction) -> str:
    destination, source = insn.operands
    assert isinstance(destination, Register)
    port, size = port_number(e, source), destination.size
    may_use(e, port, size)
    value = e.ports.read(port, size)
    e.write(insn, destination, value)
    return e.ports.describe(port, size, value, False)


def out(e: Emulator, insn: Instruction) -> str:
    cpu, (destination, source) = e.cpu, insn.operands
    assert isinstance(source, Register)
    size = source.size
    port = destination.value & 0xFF if isinstance(destination, Immediate) else cpu.gpr[RDX] & 0xFFFF
    if cpu.segments[SS].attributes >> 5 & 3 > cpu.rflags >> 12 & 3:
        may_use(e, port, size)
    value = cpu.gpr[RAX] & (1 << 8 * size) - 1
    e.ports.write(port, size, value)
    return e.ports.describe(port, size, value, True)


def ins(e: Emulator, insn: Instruction) -> str:
    port = e.cpu.gpr[RDX] & 0xFFFF
    may_use(e, port, insn.operand_size)
    deadline = Deadline()

    def fetch(count: int) -> bytes:
        deadline.check()
        return e.ports.read_string(port, insn.operand_size, count)

    count = input_string(e.cpu, e.mmu, insn, fetch)
    return string_access(e.ports, port, insn.operand_size, count, is_write=False)


def outs(e: Emulator, insn: Instruction) -> str:
    port = e.cpu.gpr[RDX] & 0xFFFF
    may_use(e, port, insn.operand_size)
    deadline = Deadline()

    def store(data: bytes) -> None:
        deadline.check()
        e.ports.write_string(port, insn.operand_size, data)

    count = output_string(e.cpu, e.mmu, insn, store)
    return string_access(e.ports, port, insn.operand_size, count, is_write=True)


def string_access(ports: Ports, port: int, size: int, count: int, *, is_write: bool) -> str:
    """Text of an INS or OUTS with its iterations, for the log of exits."""
    return f"{count} x {counted(size, 'byte')} {'to' if is_write else 'from'} {ports.name_of(port)}"


HANDLERS: Handlers = {
    "in": in_,
    "out": out,
    "ins": ins,
    "outs": outs,
}
