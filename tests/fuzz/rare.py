"""Random guests of level 4: what levels 2 and 3 never make.

strings       prefix 67, FS and GS, RCX above 32 bits, at the border of a missing page
bases         FS and GS operands with odd and with far bases
flags         TF by IRET, AC by POPF
floating      FXSAVE, FLDENV and their like, MASKMOV, unmasked exceptions of x87 and SSE
prefixes      in any order and number, before opcodes that read and write
aliases       code changed through a second page, which cannot be executed
local table   selectors with the TI bit
interrupts    of a timer, which come while a fault is handled
ring 3        under the same random tables
"""

from __future__ import annotations

from random import Random

from .paging import Paging
from .privileged import DATA, RandomGuest, Setup

BORDERS = (0x3FFFF0, 0x3FFFF9, 0x400000 - 1, DATA, DATA + 0xFF8)
"""Behind the first ones no page is."""
PREFIXES = (0x66, 0x67, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0xF2, 0xF3, 0x40, 0x41, 0x48, 0x4F)
OPCODES = (
    "0x8b, 0x03", "0x89, 0x03", "0x01, 0x03", "0x88, 0x63, 0x11", "0x0f, 0xb6, 0x03",
    "0x0f, 0xbf, 0x03",
    "0xc6, 0x43, 0x08, 0x7f", "0xf7, 0x1b", "0x87, 0x43, 0x10", "0x0f, 0xb1, 0x0b", "0x0f, 0xc1, 0x0b",
    "0x90", "0xff, 0x33", "0x50", "0x58", "0x98", "0x99", "0x0f, 0xa3, 0x03", "0x0f, 0x40, 0x03",
    "0x0f, 0x10, 0x03", "0x0f, 0x11, 0x03", "0x0f, 0x28, 0xc1", "0x8d, 0x03", "0x9c",
)  # fmt: skip
STRING_OPCODES = (0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0x6C, 0x6D, 0x6E, 0x6F)
STATE = ("fxsave", "fxrstor", "fnsave", "frstor", "fnstenv", "fldenv", "stmxcsr", "ldmxcsr", "fnstcw",
         "fldcw", "fnstsw")  # fmt: skip
SELECTORS = (0x14, 0x17, 0x1C, 0x1F, 0x2C, 0x2F, 0x34, 0x37, 4, 7, 0x44, 0x50, 0x53)


class Rare(Paging):
    """Draws steps of levels 4 and 5. user: for ring 3, which cannot invalidate and asks for it. native:
    for cores that Unicorn has no part in: it never raises unmasked exceptions, and MMX leaves the upper
    bits of its x87 registers alone (known.py)."""

    def __init__(self, random: Random, *, user: bool, native: bool) -> None:
        super().__init__(random)
        self.user = user
        self.native = native
        if native:
            self.unused_flags |= 0x4000  # NT in ring 3 is lost by a KVM that interprets ring 0

    def step(self) -> str:
        kinds = (
            self.long_string, self.long_string, self.based, self.trap_flag, self.alignment,
            self.floating_state, self.masked_store, self.prefixed, self.prefixed,
            self.alias, self.local, self.interrupts, self.entry, self.touch, self.crossing,
        )  # fmt: skip
        if self.random.random() < 0.1:
            return super().step()
        if self.native and self.random.random() < 0.1:
            return self.unmasked()
        return self.random.choice(kinds)()

    def border(self) -> int:
        if self.random.random() < 0.5:
            return self.page() + 0x1000 - self.random.randrange(0x20)
        return self.random.choice(BORDERS)

    def high(self) -> int:
        """Bits above the 32 that prefix 67 leaves."""
        return self.random.choice((0, 0, 0xDEAD << 32, 1 << 32, 1 << 63))

    def entry(self) -> str:
        step = super().entry()
        return step.rpartition("\n")[0] + "\nint 0x82" if self.user else step

    def long_string(self) -> str:
        opcode = self.random.choice(STRING_OPCODES)
        prefixes = [0x67] if (narrow := self.random.random() < 0.6) else []
        prefixes += self.random.choice(
            ([], [0xF3], [0xF3], [0xF2] if opcode & 0xF6 == 0xA6 else [0xF3])
        )
        prefixes += self.random.choice(([], [], [0x64], [0x65], [0x2E], [0x66]))
        self.random.shuffle(prefixes)
        if self.random.random() < 0.3:
            prefixes.append(0x48)
        high, count = self.high() if narrow else 0, self.random.randrange(12)
        source, target = self.border(), DATA + 0x400  # of two pages that miss, each CPU takes its own
        if self.random.random() < 0.5:
            source, target = target, source
        code = ", ".join(f"{byte:#x}" for byte in (*prefixes, opcode))
        turned = self.random.choice(("cld", "cld", "std"))
        return (f"{turned}\nmov edx, 0x80\nmov rsi, {source + high:#x}\nmov rdi, {target + high:#x}\n"
                f"mov rcx, {high + count:#x}\n.byte {code}")  # fmt: skip

    def based(self) -> str:
        """In ring 3 the base stays what it is."""
        segment, msr = self.random.choice((("fs", 0xC0000100), ("gs", 0xC0000101)))
        base = self.random.choice((DATA + 1, DATA + 0xFFD, 0xB7FFF, 0x61FFC, 0xFFFF800000000000, 7))
        form = self.random.choice((
            "mov rax, {}:[rcx]", "add {}:[rcx], eax", "movups xmm0, {}:[rcx]",
            "push qword ptr {}:[rcx]",
            "xchg {}:[rcx], rdx", "lock inc word ptr {}:[rcx]", "bts qword ptr {}:[rcx], rdx",
            "movups {}:[rcx], xmm1", "pop qword ptr {}:[rcx]", "fld qword ptr {}:[rcx]\nfstp st(0)",
        ))  # fmt: skip
        at = self.random.choice((0, 8, 0x123, 0xFFF, (1 << 64) - 8))
        load = f"mov ecx, {msr:#x}\nmov eax, {base & 0xFFFFFFFF:#x}\nmov edx, {base >> 32:#x}\nwrmsr"
        return f"{load}\nmov edx, 5\nmov rcx, {at:#x}\n{form.format(segment)}"

    def trap_flag(self) -> str:
        """By IRET, before an instruction of any kind."""
        ring = (0x33, 0x2B) if self.user else (0x10, 0x18)
        behind = self.random.choice(
            ("nop", "sti", "mov eax, ss\nmov ss, eax", "rep stosb", "pushfq", "int 0x30", "cli",
             "jmp 1f\n1:", "syscall", "mov rax, [rbx]", "cpuid", "popfq", "ud2",
             "mov [0xb8000], eax", "hlt")
        )  # fmt: skip
        frame = f"mov rcx, rsp\npush {ring[1]:#x}\npush rcx\npush 0x302\npush {ring[0]:#x}"
        return f"mov edi, {DATA:#x}\n{frame}\nlea rax, [rip + 2f]\npush rax\niretq\n2: {behind}"

    def alignment(self) -> str:
        form = self.random.choice(
            ("mov eax, [rbx + 1]", "mov [rbx + 2], rax", "add word ptr [rbx + 3], 1", "push rax",
             "pop rax", "movq xmm0, [rbx + 4]", "fld qword ptr [rbx + 1]\nfstp st(0)",
             "lock xadd [rbx + 6], eax", "cmpxchg8b [rbx + 4]", "lodsw", "rep movsd", "call [rbx + 1]")
        )  # fmt: skip
        sources = f"mov esi, {DATA + 1:#x}\nmov edi, {DATA + 0x402:#x}\nmov ecx, 3"
        return f"{sources}\npush 0x40202\npopfq\n{form}\npush 0x202\npopfq"

    def floating_state(self) -> str:
        name, at = self.random.choice(STATE), self.random.choice(BORDERS)
        if self.random.random() < 0.5:
            at = DATA + 0x200 + self.random.choice((0, 0, 0, 1, 8))
        zeros = f"mov edi, {DATA + 0x200:#x}\nmov ecx, 64\nxor eax, eax\nrep stosq\n"
        return f"fninit\ncld\n{zeros}mov ecx, {at:#x}\n{name} [rcx]\nfninit"

    def unmasked(self) -> str:
        if self.random.random() < 0.5:
            mask = 0x37F & ~(1 << self.random.randrange(6))
            operation = self.random.choice(
                ("fldz\nfld1\nfdivrp", "fldz\nfldz\nfdivp", "fldpi\nfsqrt\nfchs\nfsqrt")
            )
            word = f"mov word ptr [rbx], {mask:#x}\nfldcw [rbx]"
            return f"fninit\n{word}\n{operation}\nfwait\nfnclex\nfninit"
        mask = 0x1F80 & ~(0x80 << self.random.randrange(6))
        operation = self.random.choice(("divps xmm0, xmm1", "sqrtss xmm0, xmm1", "addsd xmm0, xmm0",
                                        "cvttss2si eax, xmm0", "mulps xmm1, xmm1"))  # fmt: skip
        word = f"mov dword ptr [rbx], {mask:#x}\nldmxcsr [rbx]"
        back = "mov dword ptr [rbx], 0x1f80\nldmxcsr [rbx]"
        return f"pxor xmm1, xmm1\nmovups xmm0, [rbx]\n{word}\n{operation}\n{back}"

    def masked_store(self) -> str:
        """First and last byte are stored: of pages in which none is, each CPU decides (SDM vol. 2,
        MASKMOVDQU)."""
        form, load = ".byte 0x66, 0x0f, 0xf7, 0xc1", "movups xmm1, [rbx + 0x40]"
        if self.native and self.random.random() < 0.5:
            form, load = ".byte 0x0f, 0xf7, 0xc1", "movq mm1, [rbx + 0x40]"
        mask = self.random.choice((0x8000000000000080, 0x8080808080808080, 0x80FF007F01800080))
        set_up = f"mov rax, {mask:#x}\nmov [rbx + 0x40], rax\nmov [rbx + 0x48], rax\n{load}"
        return f"{set_up}\nmov edi, {self.border():#x}\n{form}\nemms"

    def prefixed(self) -> str:
        prefixes = self.random.sample(PREFIXES, self.random.randrange(1, 5))
        if self.random.random() < 0.15:
            prefixes.append(0xF0)
        code = ", ".join(f"{byte:#x}" for byte in prefixes)
        return f"mov rbx, {DATA:#x}\n.byte {code}, {self.random.choice(OPCODES)}"

    def alias(self) -> str:
        """MOV EAX, imm32; RET: one byte of it changed where it cannot be executed, and called."""
        code, alias = self.random.sample(range(0x60, 0x70), 2)
        user = 4 if self.user else 0
        entries = (
            (code, code << 12 | 3 | user),
            (alias, 1 << 63 | code << 12 | 3 | user),
        )
        invalidate = "int 0x82" if self.user else "mov rax, cr3\nmov cr3, rax"
        tables = "\n".join(
            f"mov rax, {entry:#x}\nmov [rip + pages + {page << 3:#x}], rax" for page, entry in entries
        )
        store = f"mov byte ptr [{(alias << 12) + 1:#x}], {self.random.randrange(256):#x}"
        begin = f"mov dword ptr [{code << 12:#x}], 0xb8\nmov word ptr [{(code << 12) + 4:#x}], 0xc300"
        call = f"mov ecx, {code << 12:#x}\ncall rcx"
        return f"{tables}\n{invalidate}\n{begin}\n{call}\n{store}\n{call}"

    def local(self) -> str:
        value, segment = (
            self.random.choice(SELECTORS),
            self.random.choice(("ds", "es", "fs", "gs", "ss")),
        )
        form = self.random.randrange(4)
        if form == 0:
            return f"mov eax, {value:#x}\nmov {segment}, eax"
        if form == 1:
            name = self.random.choice(("lar edx, ecx", "lsl edx, ecx", "verr cx", "verw cx"))
            return f"mov ecx, {value:#x}\n{name}"
        if form == 2:
            return f"mov eax, {self.random.choice((0x50, 0x50, 0, value)):#x}\nlldt ax"
        return f"push {value:#x}\nlea rax, [rip + 32]\nor rax, 15\ninc rax\npush rax\nretfq"


def rare(seed: int, length: int = 40, *, native: bool = False) -> RandomGuest:
    """Level 4, in ring 0 or in ring 3. With ``native`` level 5, in ring 3: there KVM can be compared
    also where it interprets ring 0."""
    random = Random(seed)
    user = native or random.random() < 0.4
    timer = random.choice((20, 50, 200, 1000)), random.choice((0xFE, 0xFF))
    generator = Rare(random, user=user, native=native)
    steps = tuple(generator.step() for _ in range(length))
    setup = Setup(user, tables=True, timer=timer, ldt=True, nested=True)
    return RandomGuest(5 if native else 4, seed, steps, setup)
