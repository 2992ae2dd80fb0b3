"""Steps 1 to 3."""

IF, KEPT = 1 << 9, 0x247FD5  # the flags that POPF changes at ring 0


class Vmm:
    def __init__(self, guest):
        self.guest, self.registers = guest, guest.registers
        self.flags = guest.initial["rflags"]  # all that the CPU does not hold for the guest
        guest.patch("pushf", "popf")

    def run(self):
        while self.guest.running:
            stop = self.guest.enter()
            instruction = stop.instruction
            getattr(self, "do_" + instruction.mnemonic)(instruction)

    def done(self, instruction):
        self.registers.rip += instruction.length

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

    def do_cli(self, instruction):
        self.flags &= ~IF
        self.done(instruction)

    def do_sti(self, instruction):
        self.flags |= IF
        self.done(instruction)

    CPUS = 0xCD5  # the status flags and DF, which the CPU holds

    def do_pushf(self, instruction):
        flags = self.flags & ~self.CPUS | self.registers.rflags & self.CPUS
        self.registers.rsp -= 8
        self.guest.memory.store(self.registers.rsp, 8, flags)
        self.done(instruction)

    def do_popf(self, instruction):
        value = self.guest.memory.load(self.registers.rsp, 8) & KEPT | 2
        self.registers.rsp += 8
        self.flags = value
        self.registers.rflags = value
        self.done(instruction)


def vmm(guest):
    Vmm(guest).run()
