"""Steps 1 to 4: 3's VMM, with descriptor tables and the delivery of exceptions."""

from dataclasses import replace
from types import SimpleNamespace

IF, TF, NT, RF = 1 << 9, 1 << 8, 1 << 14, 1 << 16
CPUS = 0xCD5  # the status flags and DF, which the CPU holds
GP, UD, PF = 13, 6, 14
WITH_ERROR = {8, 10, 11, 12, 13, 14, 17}
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


class Vmm:
    def __init__(self, guest):
        self.guest, self.registers, self.memory = guest, guest.registers, guest.memory
        self.own = SimpleNamespace(**guest.initial)  # all that the CPU does not hold for the guest
        guest.patch(
            "pushf", "popf", "sgdt", "sidt", "str", "smsw", "mov", "push", "pop", "iret", "retf"
        )

    def run(self):
        while self.guest.running:
            self.handle(self.guest.enter())

    def handle(self, stop):
        instruction = stop.instruction
        handler = None
        if stop.vector in (-1, GP) and instruction is not None:
            handler = getattr(self, "do_" + instruction.mnemonic, None)
            if instruction.mnemonic == "mov" and not self.is_sensitive(instruction):
                handler = None
        if handler:
            handler(instruction)
        else:
            if stop.vector == PF:
                self.own.cr2 = stop.address
                stop = replace(stop, error=stop.error & ~4)  # U: the real CPU's ring, not the guest's
            behind = instruction.length if instruction and instruction.mnemonic == "int3" else 0
            self.deliver(stop.vector, stop.error, behind)

    def is_sensitive(self, instruction):
        return any(o.name in SEGMENTS or o.name.startswith("cr") for o in instruction.operands)

    def done(self, instruction):
        self.registers.rip += instruction.length

    # Operands, with the registers that are ours

    def read(self, operand):
        if operand.kind == "register" and hasattr(self.own, operand.name):
            return getattr(self.own, operand.name)
        return self.guest.read(operand)

    def write(self, operand, value):
        if operand.kind == "register" and hasattr(self.own, operand.name):
            setattr(self.own, operand.name, value)
        else:
            self.guest.write(operand, value)

    # Exceptions and interrupts

    @property
    def flags(self):
        return self.own.rflags & ~CPUS | self.registers.rflags & CPUS

    @flags.setter
    def flags(self, value):
        self.own.rflags = self.registers.rflags = value & 0x247FD5 | 2

    def push(self, value, size=8):
        self.registers.rsp -= size
        self.memory.store(self.registers.rsp, size, value)

    def pop(self, size=8):
        value = self.memory.load(self.registers.rsp, size)
        self.registers.rsp += size
        return value

    def deliver(self, vector, error=None, behind=0):
        own, r = self.own, self.registers
        gate = own.idt_base + 16 * vector
        if 16 * vector + 15 > own.idt_limit or not self.memory.load(gate + 5, 1) & 0x80:
            self.guest.shutdown()
            return
        low, high = self.memory.load(gate, 8), self.memory.load(gate + 8, 4)
        flags, rsp = self.flags, r.rsp
        if vector not in (1, 3) and not behind:
            flags |= RF
        r.rsp &= -16
        for value in (own.ss, rsp, flags, own.cs, r.rip + behind):
            self.push(value)
        if vector in WITH_ERROR and not behind:
            self.push(error or 0)
        own.cs = low >> 16 & 0xFFF8
        r.rip = low & 0xFFFF | low >> 32 & 0xFFFF0000 | high << 32
        own.rflags &= ~(TF | NT | (0 if low >> 40 & 15 == 15 else IF))

    def do_int(self, instruction):
        self.deliver(self.guest.read(instruction.operands[0]), None, instruction.length)

    def do_iret(self, instruction):
        r = self.registers
        r.rip, self.own.cs, self.flags, rsp, self.own.ss = (self.pop() for _ in range(5))
        r.rsp = rsp

    def do_retf(self, instruction):
        size = instruction.size
        self.registers.rip, self.own.cs = self.pop(size), self.pop(size) & 0xFFFF

    # Devices, time, identity

    def do_out(self, instruction):
        port, value = instruction.operands
        self.guest.ports.write(self.guest.read(port), value.size, self.guest.read(value))
        self.done(instruction)

    def do_in(self, instruction):
        value, port = instruction.operands
        self.guest.write(value, self.guest.ports.read(self.guest.read(port), value.size))
        self.done(instruction)

    def do_cpuid(self, instruction):
        r = self.registers
        r.eax, r.ebx, r.ecx, r.edx = self.guest.cpuid(r.eax, r.ecx)
        self.done(instruction)

    def do_rdtsc(self, instruction):
        time = self.guest.time * 1000
        self.registers.eax, self.registers.edx = time, time >> 32
        self.done(instruction)

    def do_hlt(self, instruction):
        self.done(instruction)
        self.guest.halt()

    # Flags

    def do_cli(self, instruction):
        self.own.rflags &= ~IF
        self.done(instruction)

    def do_sti(self, instruction):
        self.own.rflags |= IF
        self.done(instruction)

    def do_pushf(self, instruction):
        self.push(self.flags & ~RF)
        self.done(instruction)

    def do_popf(self, instruction):
        self.flags = self.pop()
        self.done(instruction)

    # Tables and registers

    def do_lgdt(self, instruction):
        self.load_table("gdt", instruction)

    def do_lidt(self, instruction):
        self.load_table("idt", instruction)

    def do_sgdt(self, instruction):
        self.store_table("gdt", instruction)

    def do_sidt(self, instruction):
        self.store_table("idt", instruction)

    def load_table(self, name, instruction):
        at = instruction.operands[0].address
        setattr(self.own, name + "_limit", self.memory.load(at, 2))
        setattr(self.own, name + "_base", self.memory.load(at + 2, 8))
        self.done(instruction)

    def store_table(self, name, instruction):
        at = instruction.operands[0].address
        self.memory.store(at, 2, getattr(self.own, name + "_limit"))
        self.memory.store(at + 2, 8, getattr(self.own, name + "_base"))
        self.done(instruction)

    def do_str(self, instruction):
        self.guest.write(instruction.operands[0], self.own.tr)
        self.done(instruction)

    def do_mov(self, instruction):
        target, source = instruction.operands
        value = self.read(source)
        self.write(target, value & 0xFFFF if target.name in SEGMENTS else value)
        self.done(instruction)


def vmm(guest):
    Vmm(guest).run()
