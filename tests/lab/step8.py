"""All steps: exceptions, interrupts, user mode and shadow paging, in 64- and 32-bit code."""

from types import SimpleNamespace

CF_TO_DF = 0xCD5  # the status flags and DF, which the CPU holds for the guest
TF, IF, IOPL, NT, RF = 1 << 8, 1 << 9, 3 << 12, 1 << 14, 1 << 16
LOADED = 0x247FD5  # the flags that POPF and IRET change at ring 0
UD, GP, PF = 6, 13, 14
WITH_ERROR = {8, 10, 11, 12, 13, 14, 17}
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE = 1, 2, 4, 0x20, 0x40, 0x80
PATCHED = (
    "pushf", "popf", "sgdt", "sidt", "str", "smsw", "mov", "push", "pop", "iret", "retf", "ljmp"
)  # fmt: skip
ANYWHERE = {
    "int",
    "pushf",
    "popf",
    "iret",
    "push",
    "pop",
    "sgdt",
    "sidt",
    "str",
    "smsw",
    "cpuid",
    "rdtsc",
}
STAR, LSTAR, FMASK = 0xC0000081, 0xC0000082, 0xC0000084
FS_BASE, GS_BASE, KERNEL_GS_BASE = 0xC0000100, 0xC0000101, 0xC0000102


class Fault(Exception):
    """An exception of the guest's, found while its VMM works for it."""


class Vmm:
    def __init__(self, guest):
        self.guest, self.registers, self.memory = guest, guest.registers, guest.memory
        self.own = SimpleNamespace(**guest.initial)  # all that the CPU does not hold for the guest
        self.msrs = {}
        self.word = guest.bits // 8
        self.shadow = False  # the one instruction after STI
        guest.patch(*PATCHED)
        guest.unmap()

    def run(self):
        guest = self.guest
        while guest.running:
            stop = guest.enter(1 if self.shadow else None)
            self.shadow = False
            try:
                self.handle(stop)
            except Fault as fault:
                self.deliver(*fault.args)
            if guest.running and self.own.rflags & IF and not self.shadow and guest.interrupt_pending:
                self.deliver(guest.acknowledge(), outside=True)

    def handle(self, stop):
        instruction = stop.instruction
        if stop.kind == "timer":
            return
        if stop.vector == PF:
            self.page_fault(stop)
        elif stop.kind == "patched" or (stop.vector == GP and self.is_sensitive(instruction)):
            name = instruction.mnemonic
            if self.guest.ring and not self.may_ring_3(instruction):
                raise Fault(GP, 0)
            getattr(self, "do_" + name)(instruction)
        elif stop.kind == "syscall":
            self.do_syscall(instruction)
        elif stop.vector == 3:
            self.deliver(3, behind=instruction.length)
        else:
            raise Fault(stop.vector, stop.error)

    def is_sensitive(self, instruction):
        if instruction.mnemonic in ("mov", "push", "pop"):
            return any(o.name in SEGMENTS or o.name.startswith("cr") for o in instruction.operands)
        return hasattr(self, "do_" + instruction.mnemonic)

    def may_ring_3(self, instruction):
        if instruction.mnemonic == "mov":
            return not any(o.name.startswith("cr") for o in instruction.operands)
        return instruction.mnemonic in ANYWHERE

    def done(self, instruction):
        self.registers.rip += instruction.length

    # Memory, through the guest's tables

    def translate(self, address, write=False, user=False):
        """(physical address, the entry's rights)."""
        own, load = self.own, self.memory.load
        if not own.cr0 >> 31:
            return address, PRESENT | WRITABLE | USER | DIRTY
        error = write * 2 | user * 4
        size, bits, shift = (8, 9, 39) if self.word == 8 else (4, 10, 22)
        table, rights, entries = own.cr3 & -4096, WRITABLE | USER, []
        while True:
            at = table + (address >> shift & (1 << bits) - 1) * size
            entry = load(at, size)
            if not entry & PRESENT:
                raise Fault(PF, error, address)
            rights &= entry
            entries.append((at, entry))
            table = entry & 0xFFFFFFFFFF000
            if shift == 12 or (entry & LARGE and shift < 39):
                break
            shift -= bits
        if (write and not rights & WRITABLE) or (user and not rights & USER):
            raise Fault(PF, error | 1, address)
        for at, entry in entries:
            mark = entry | ACCESSED | (DIRTY if write and at == entries[-1][0] else 0)
            if mark != entry:
                self.memory.store(at, size, mark)
        offset = address & (1 << shift) - 1
        return (table & ~((1 << shift) - 1)) + offset, rights | mark & DIRTY

    def load(self, address, size):
        at = address & 4095
        if at + size > 4096:
            low = 4096 - at
            return self.load(address, low) | self.load(address + low, size - low) << 8 * low
        return self.memory.load(self.translate(address)[0], size)

    def store(self, address, size, value):
        at = address & 4095
        if at + size > 4096:
            low = 4096 - at
            self.store(address, low, value)
            self.store(address + low, size - low, value >> 8 * low)
        else:
            self.memory.store(self.translate(address, write=True)[0], size, value)

    def page_fault(self, stop):
        page = stop.address & -4096
        physical, rights = self.translate(stop.address, bool(stop.error & 2), self.guest.ring == 3)
        if self.memory.is_ram(physical & -4096, 4096):
            writable = rights & WRITABLE and rights & DIRTY  # the first store has to set D
            self.guest.map(page, physical & -4096, writable=bool(writable), user=bool(rights & USER))
        else:
            self.device(stop.instruction)

    def device(self, instruction):
        """An access to a device in memory."""
        r, name = self.registers, instruction.mnemonic
        if name in ("mov", "movzx"):
            target, source = instruction.operands
            self.write(target, self.read(source))
        elif name in ("stos", "movs"):
            step = -instruction.size if r.rflags & 1 << 10 else instruction.size
            if name == "stos":
                value = r.rax
            else:
                value = self.load(r.esi, instruction.size)
                r.esi += step
            self.store(r.edi, instruction.size, value)
            r.edi += step
            if instruction.repeat:
                r.ecx -= 1
                if r.ecx:
                    return  # it goes on at its next iteration
        else:
            raise NotImplementedError(instruction.text)
        self.done(instruction)

    # Operands, with the registers that are ours

    def read(self, operand):
        if operand.kind == "memory":
            return self.load(operand.address, operand.size)
        if operand.kind == "register" and hasattr(self.own, operand.name):
            return getattr(self.own, operand.name)
        return self.guest.read(operand)

    def write(self, operand, value):
        if operand.kind == "memory":
            self.store(operand.address, operand.size, value)
        elif hasattr(self.own, operand.name):
            setattr(self.own, operand.name, value)
        else:
            self.guest.write(operand, value)

    @property
    def flags(self):
        return self.own.rflags & ~CF_TO_DF | self.registers.rflags & CF_TO_DF

    def load_flags(self, value, ring):
        mask = LOADED if ring == 0 else LOADED & ~(IF | IOPL)
        self.own.rflags = self.flags & ~mask & ~RF | value & mask | 2
        self.registers.rflags = self.own.rflags

    def push(self, value, size=None):
        size = size or self.word
        self.store(self.registers.rsp - size, size, value)
        self.registers.rsp -= size

    def pop(self, size=None):
        size = size or self.word
        value = self.load(self.registers.rsp, size)
        self.registers.rsp += size
        return value

    # Exceptions and interrupts

    def gate(self, vector):
        """(offset, selector, attributes) of a vector, or None."""
        size = 2 * self.word
        if (vector + 1) * size - 1 > self.own.idt_limit:
            return None
        low = self.load(self.own.idt_base + vector * size, 8)
        high = self.load(self.own.idt_base + vector * size + 8, 4) if self.word == 8 else 0
        if not low >> 47 & 1:
            return None
        return low & 0xFFFF | low >> 32 & 0xFFFF0000 | high << 32, low >> 16 & 0xFFFC, low >> 40 & 0xFF

    def deliver(self, vector, error=None, address=None, behind=0, outside=False):
        own, r, word = self.own, self.registers, self.word
        gate = self.gate(vector)
        if gate is None:
            self.guest.shutdown()
            return
        offset, selector, attributes = gate
        if vector == PF:
            own.cr2 = address
        flags, ss, rsp, ring = self.flags, own.ss, r.rsp, self.guest.ring
        if not outside and vector not in (1, 3) and not behind:
            flags |= RF
        if ring:
            r.rsp = self.load(own.tss_base + 4, word)
            own.ss = self.load(own.tss_base + 8, 2) if word == 4 else 0
            self.guest.ring = 0
        if word == 8:
            r.rsp &= -16
        frame = (ss, rsp) if ring or word == 8 else ()
        for value in (*frame, flags, own.cs, r.rip + behind):
            self.push(value)
        if vector in WITH_ERROR and not outside and not behind:
            self.push(error or 0)
        own.cs, r.rip = selector, offset
        own.rflags &= ~(TF | NT | RF | (0 if attributes & 15 == 15 else IF))

    def do_int(self, instruction):
        vector = self.guest.read(instruction.operands[0])
        gate = self.gate(vector)
        if gate is None or gate[2] >> 5 & 3 < self.guest.ring:
            raise Fault(GP, vector * 8 + 2)
        self.deliver(vector, behind=instruction.length)

    def do_iret(self, instruction):
        r, own, ring = self.registers, self.own, self.guest.ring
        rip, cs, flags = self.pop(), self.pop(), self.pop()
        if self.word == 8 or cs & 3 > ring:
            rsp, ss = self.pop(), self.pop()
            r.rsp, own.ss = rsp, ss & 0xFFFF
        r.rip, own.cs = rip, cs & 0xFFFF
        self.load_flags(flags, ring)
        self.guest.ring = 3 if cs & 3 else 0

    def do_retf(self, instruction):
        self.registers.rip, self.own.cs = (
            self.pop(instruction.size),
            self.pop(instruction.size) & 0xFFFF,
        )

    def do_ljmp(self, instruction):
        selector, offset = instruction.operands
        self.own.cs, self.registers.rip = selector.value & 0xFFFF, offset.value

    def do_syscall(self, instruction):
        r, own = self.registers, self.own
        r.rcx, r.r11 = r.rip + instruction.length, self.flags
        own.cs = self.msrs[STAR] >> 32 & 0xFFFC
        own.ss = own.cs + 8
        self.load_flags(self.flags & ~self.msrs[FMASK], 0)
        r.rip = self.msrs[LSTAR]
        self.guest.ring = 0

    def do_sysret(self, instruction):
        r, own = self.registers, self.own
        base = self.msrs[STAR] >> 48
        own.cs, own.ss = base + 16 | 3, base + 8 | 3
        self.load_flags(r.r11, 0)
        r.rip = r.rcx
        self.guest.ring = 3

    # Devices, time, identity

    def do_out(self, instruction):
        port, value = instruction.operands
        self.guest.ports.write(self.guest.read(port), value.size, self.guest.read(value))
        self.done(instruction)

    def do_in(self, instruction):
        value, port = instruction.operands
        self.guest.write(value, self.guest.ports.read(self.guest.read(port), value.size))
        self.done(instruction)

    def do_outs(self, instruction):
        r, size = self.registers, instruction.size
        while r.ecx or not instruction.repeat:
            self.guest.ports.write(r.dx, size, self.load(r.esi, size))
            r.esi += -size if r.rflags & 1 << 10 else size
            if not instruction.repeat:
                break
            r.ecx -= 1
        self.done(instruction)

    def do_ins(self, instruction):
        r, size = self.registers, instruction.size
        while r.ecx or not instruction.repeat:
            self.store(r.edi, size, self.guest.ports.read(r.dx, size))
            r.edi += -size if r.rflags & 1 << 10 else size
            if not instruction.repeat:
                break
            r.ecx -= 1
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
        if self.own.rflags & IF:
            self.guest.sleep()
        else:
            self.guest.halt()

    def do_rdmsr(self, instruction):
        r = self.registers
        special = {FS_BASE: r.fs_base, GS_BASE: r.gs_base, 0xC0000080: self.own.efer}
        value = special.get(r.ecx, self.msrs.get(r.ecx, 0))
        r.eax, r.edx = value, value >> 32
        self.done(instruction)

    def do_wrmsr(self, instruction):
        r = self.registers
        value = r.edx << 32 | r.eax
        self.msrs[r.ecx] = value
        if r.ecx == GS_BASE:
            r.gs_base = value
        elif r.ecx == FS_BASE:
            r.fs_base = value
        self.done(instruction)

    def do_swapgs(self, instruction):
        r = self.registers
        r.gs_base, self.msrs[KERNEL_GS_BASE] = self.msrs.get(KERNEL_GS_BASE, 0), r.gs_base
        self.done(instruction)

    # Flags

    def do_cli(self, instruction):
        self.own.rflags &= ~IF
        self.done(instruction)

    def do_sti(self, instruction):
        self.shadow = not self.own.rflags & IF
        self.own.rflags |= IF
        self.done(instruction)

    def do_pushf(self, instruction):
        self.push(self.flags & ~RF)
        self.done(instruction)

    def do_popf(self, instruction):
        self.load_flags(self.pop(), self.guest.ring)
        self.done(instruction)

    # Tables and registers

    def table(self, name, instruction, load):
        at = instruction.operands[0].address
        for part, offset, size in (("_limit", 0, 2), ("_base", 2, self.word)):
            if load:
                setattr(self.own, name + part, self.load(at + offset, size))
            else:
                self.store(at + offset, size, getattr(self.own, name + part))
        self.done(instruction)

    def do_lgdt(self, instruction):
        self.table("gdt", instruction, True)

    def do_lidt(self, instruction):
        self.table("idt", instruction, True)

    def do_sgdt(self, instruction):
        self.table("gdt", instruction, False)

    def do_sidt(self, instruction):
        self.table("idt", instruction, False)

    def do_str(self, instruction):
        self.write(instruction.operands[0], self.own.tr)
        self.done(instruction)

    def do_ltr(self, instruction):
        self.own.tr = self.read(instruction.operands[0]) & 0xFFFF
        low = self.load(self.own.gdt_base + (self.own.tr & -8), 8)
        self.own.tss_base = low >> 16 & 0xFFFFFF | low >> 32 & 0xFF000000
        self.done(instruction)

    def do_mov(self, instruction):
        target, source = instruction.operands
        value = self.read(source)
        self.write(target, value & 0xFFFF if target.name in SEGMENTS else value)
        self.done(instruction)
        if target.name in ("cr0", "cr3", "cr4"):
            self.guest.unmap()

    def do_push(self, instruction):
        self.push(self.read(instruction.operands[0]))
        self.done(instruction)

    def do_pop(self, instruction):
        self.write(instruction.operands[0], self.pop() & 0xFFFF)
        self.done(instruction)

    def do_invlpg(self, instruction):
        self.guest.unmap(instruction.operands[0].address)
        self.done(instruction)


def vmm(guest):
    Vmm(guest).run()
