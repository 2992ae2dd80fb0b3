"""Random guests of level 2: privileged and sensitive instructions, in ring 0 and in ring 3.

A guest is a setup and a list of steps, one slot of frame.s each, so that a failing one can be shrunk by
leaving steps out. What the architecture lets CPUs differ in is not generated: stale translations
(every changed page-table entry is invalidated) and code that changes under its own execution.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

FRAME = (Path(__file__).parent / "frame.s").read_text()
DATA = 0x300000
ERROR_CODES = frozenset({8, 10, 11, 12, 13, 14, 17})
GENERAL = ("rax", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12")
SEGMENTS = ("ds", "es", "fs", "gs", "ss")
SELECTORS = (
    0,
    3,
    8,
    0x10,
    0x13,
    0x18,
    0x1B,
    0x20,
    0x28,
    0x2B,
    0x30,
    0x33,
    0x40,
    0x48,
    0x4C,
    0x58,
    0xFFFF,
)
MSRS = (0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102,
        0x10, 0x1B, 0x174, 0xC0000103, 0x277, 0)  # fmt: skip
PORTS = (
    0x80,
    0xE9,
    0x3F9,
    0x3FB,
    0x3FD,
    0x21,
    0xA1,
    0x40,
    0x61,
    0x64,
    0x70,
    0x71,
    0x5E0,
    0x1F7,
    0x4000,
)
POINTERS = (0, 8, 0x500, 0x9FFFC, 0xA0000, 0xB8000, 0xBFFFC, 0x3FFFFC, 0x400000, 0x11018, 0x12000,
            0x7FFFFFFFFFF8, 0x800000000000, 0xFFFF800000000000, 0xFFFFFFFFFFFFFFF8,
            DATA, DATA + 0xFFC, DATA + 0x123)  # fmt: skip
ALONE = (
    "cli", "sti", "pushfq", "popfq", "clts", "swapgs", "rdtsc", "rdtscp", "cpuid", "wbinvd", "invd",
    "rdmsr", "wrmsr", "rdpmc", "ud2", "int3", "xgetbv", "lahf", "sahf", "cld", "std", "monitor",
    "mwait", "sysretq", "vmcall", "sysenter", "fwait", "fninit", "emms", "syscall",
    ".byte 0xf1", ".byte 0x0f, 0x01, 0xca", ".byte 0x0f, 0x01, 0xcb", ".byte 0x0f, 0x01, 0xee",
)  # fmt: skip
EXTENSIONS = (
    ".byte 0xc5, 0xf0, 0x58, 0xc2", "rdrand eax", "rdseed rcx", ".byte 0xf3, 0x0f, 0xc7, 0xf8",
    ".byte 0xf3, 0x0f, 0xae, 0xc0", ".byte 0xf3, 0x0f, 0xb8, 0xc1", ".byte 0xf3, 0x0f, 0xbc, 0xc1",
    ".byte 0xf3, 0x0f, 0xbd, 0xc1", ".byte 0x0f, 0x38, 0xf0, 0x03",
    ".byte 0xc4, 0xe2, 0x70, 0xf2, 0xc2", ".byte 0x0f, 0xae, 0x23",
    ".byte 0x66, 0x0f, 0x38, 0xdc, 0xc1", ".byte 0x0f, 0xc7, 0x23",
)  # fmt: skip


BASE = "mov rbx, 0x300000\nmov rsp, 0x3f0000\n"
OWN_TABLES = """
    mov edi, 0x80000
    xor eax, eax
    mov ecx, 0x600
    rep stosq
    mov qword ptr [0x80000], 0x81007
    mov qword ptr [0x81000], 0x82007
    lea rax, [rip + pages + 7]
    mov [0x82000], rax
    mov qword ptr [0x82008], 0x200083
    mov edi, 0x80000
    mov cr3, rdi
"""
LDT = """
    mov esi, 0x11000
    mov edi, 0x8f000
    mov ecx, 10
    rep movsq
    mov rax, 0x00008208f100003f
    stosq
    xor eax, eax
    stosq
    mov esi, 0x11000
    mov edi, 0x8f100
    mov ecx, 8
    rep movsq
    mov word ptr [0x8f200], 0x5f
    mov qword ptr [0x8f202], 0x8f000
    lgdt [0x8f200]
    mov eax, 0x50
    lldt ax
"""

STRINGS = range(0xA4, 0xB0)
"""String instructions: with a random RCX they overwrite everything. After 0F, AE is FXSAVE."""
BRANCHES = frozenset({*range(0x70, 0x90), 0xC2, 0xC3, 0xC8, *range(0xE0, 0xEC), 0xFF})
"""Opcodes of near branches and ENTER, after 0F as well."""


@dataclass(frozen=True)
class Setup:
    """What stands before the slots. user: they run in ring 3. tables: with page tables of the guest's
    own, in which level 3 changes pages. timer: period and mask of IRQ 0. ldt: with a local table of the
    GDT's first descriptors. nested: interrupts may come while a fault is handled."""

    user: bool = False
    tables: bool = False
    timer: tuple[int, int] | None = None
    ldt: bool = False
    nested: bool = False

    def code(self) -> str:
        """For the frame."""
        code = BASE
        if self.ldt:
            code += LDT
        if self.tables:
            code += OWN_TABLES
        if self.timer:
            code += _timer(*self.timer)
        if self.user:
            code += _enter_user(tables=self.tables)
        return code

    def words(self) -> str:
        """As ``parsed`` reads them."""
        given = [name for name in ("user", "tables", "ldt", "nested") if getattr(self, name)]
        return " ".join(given + ([f"timer={self.timer[0]}/{self.timer[1]:#x}"] if self.timer else []))

    @staticmethod
    def parsed(words: str) -> Setup:
        """From a heading of regressions.s."""
        given = dict((*word.partition("="),)[::2] for word in words.split())
        period, _, mask = given.pop("timer", "").partition("/")
        timer = (int(period), int(mask, 0)) if period else None
        return Setup(timer=timer, **dict.fromkeys(given, True))


@dataclass(frozen=True)
class RandomGuest:
    """A guest to run, and to shrink."""

    level: int
    seed: int
    steps: tuple[str, ...]
    setup: Setup = Setup()

    def without(self, keep: tuple[str, ...]) -> RandomGuest:
        """The same guest with these steps only."""
        return replace(self, steps=keep)

    def source(self) -> str:
        """The source for Keystone."""
        if self.level == 1:
            return "\n".join(self.steps)
        parts = {
            "setup": self.setup.code(),
            "slots": "\n".join(_slot(step) for step in self.steps),
            "gates": _gates(nested=self.setup.nested),
            "pages": ".quad "
            + ", ".join(f"{page << 12 | 3:#x}" if page > 15 else "0" for page in range(512)),
        }
        return re.sub(r"^\{(\w+)\}$", lambda m: parts[m[1]], FRAME, flags=re.MULTILINE)


def _slot(step: str) -> str:
    """Put the preparation first and the last line alone in a slot."""
    *before, last = step.split("\n")
    return "\n".join([*before, ".align 16", last, ".align 16"])


def _gates(*, nested: bool) -> str:
    def gate(label: str, attributes: int = 0x8E, ist: int = 1) -> str:
        at = f".short {label} - _start; .short 0x10; .byte {ist}; .byte {attributes}"
        return f"{at}; .short 0x10; .quad 0"

    faults = 0x8F if nested else 0x8E  # a trap gate leaves IF as it is
    gates = [gate("skip_with_code" if v in ERROR_CODES else "skip", 0xEE if v == 3 else faults)
             for v in range(32)]  # fmt: skip
    gates[1] = gate("trapped")
    gates += [gate("device", ist=2)] * 16
    gates += [
        gate("skip", (0xEE, 0x8E, 0xEF, 0x8F, 0x6E, 0xEC, 0x0E)[v % 7]) for v in range(0x30, 0x80)
    ]
    gates += [gate("skip", 0xEE), gate("finish", 0xEE), gate("reload", 0xEE)]
    return "\n".join([*gates, *[".quad 0, 0"] * (256 - len(gates))])


def _timer(period: int, mask: int) -> str:
    """The PICs and the PIT; a masked line stays so until a step opens it."""
    writes = [(0x20, 0x11), (0xA0, 0x11), (0x21, 0x20), (0xA1, 0x28), (0x21, 4), (0xA1, 2), (0x21, 1),
              (0xA1, 1), (0x21, mask), (0xA1, 0xFF), (0x43, 0x34),
              (0x40, period & 0xFF), (0x40, period >> 8)]  # fmt: skip
    return "\n".join(f"mov al, {value:#x}\nout {port:#x}, al" for port, value in writes) + "\n"


def _enter_user(*, tables: bool) -> str:
    """Open code and data to ring 3, and go there."""
    if tables:
        opened = "mov qword ptr [0x82008], 0x200087\nlea rcx, [rip + pages]\n"
        entry = "rcx"
    else:
        opened = "\n".join(f"or byte ptr [{at:#x}], 4" for at in (0x12000, 0x13000, 0x14000, 0x14008))
        entry = "0x15000"
    code = "\n".join(f"or byte ptr [{entry} + 8 * {page:#x}], 4" for page in range(0x100, 0x108))
    return f"""
    {opened}
    {code}
    mov rax, cr3
    mov cr3, rax
    push 0x2b
    push 0x3f0000
    push 0x202
    push 0x33
    lea rax, [rip + slots]
    push rax
    iretq
"""


class Privileged:
    """Draws steps of level 2."""

    unused_flags = 0x40100
    """AC, and TF but now and then."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def register(self) -> str:
        return self.random.choice(GENERAL)

    def value(self) -> int:
        kind = self.random.randrange(4)
        if kind == 0:
            return self.random.choice(POINTERS)
        if kind == 1:
            return 1 << self.random.randrange(64)
        if kind == 2:
            return self.random.choice(SELECTORS)
        return self.random.getrandbits(self.random.choice((8, 16, 32, 64)))

    def load(self, register: str) -> str:
        return f"mov {register}, {self.value():#x}"

    def place(self, size: str = "") -> str:
        """A memory operand, and the instruction that sets its base."""
        return f"{size} [rbx + {self.random.randrange(0x200) & ~3:#x}]".strip()

    def step(self) -> str:
        kinds = (
            self.alone, self.alone, self.control, self.toggled_control, self.debug, self.tables,
            self.selector, self.selector_query, self.msr, self.port, self.string_port, self.software,
            self.flags, self.far, self.return_frame, self.pointer, self.extension, self.machine_word,
            self.string, self.bytes, self.values, self.stack,
        )  # fmt: skip
        return self.random.choice(kinds)()

    def alone(self) -> str:
        return f"{self.load(self.register())}\n{self.random.choice(ALONE)}"

    def extension(self) -> str:
        return self.random.choice(EXTENSIONS)

    def control(self) -> str:
        number, register = self.random.choice((0, 2, 3, 4, 8, 1, 5)), self.register()
        if number in (1, 5):
            return f".byte 0x0f, {self.random.choice((0x20, 0x22)):#x}, {0xC0 | number << 3:#x}"
        if self.random.random() < 0.6:
            return f"mov {register}, cr{number}"
        if number == 3:
            return f"mov {register}, cr3\nmov cr3, {register}"
        return f"{self.load(register)}\nmov cr{number}, {register}"

    def toggled_control(self) -> str:
        number, register = self.random.choice((0, 4)), self.register()
        bit = self.random.choice((1, 2, 3, 5, 16, 18, 29, 30) if number == 0
                                 else (2, 3, 4, 7, 9, 10, 11, 13, 16, 17, 18, 20, 21))  # fmt: skip
        return f"mov {register}, cr{number}\nbtc {register}, {bit}\nmov cr{number}, {register}"

    def debug(self) -> str:
        number, register = self.random.randrange(8), self.register()
        if self.random.random() < 0.5:
            return f"mov {register}, dr{number}"
        value = self.random.choice((0, 0x400, 0xFFFF0FF0, 0x1234, 1 << 33))
        return f"mov {register}, {0x400 if number in (5, 7) else value:#x}\nmov dr{number}, {register}"

    def tables(self) -> str:
        name = self.random.choice(("sgdt", "sidt", "sldt", "str", "smsw", "lgdt", "lidt"))
        if name in ("lgdt", "lidt"):  # the same table again, or nonsense that must fault
            if self.random.random() < 0.5:
                stored = "sgdt" if name == "lgdt" else "sidt"
                return f"{stored} [rbx]\n{name} [rbx]"
            return f"mov rax, 0x8000000000000000\nmov [rbx + 2], rax\n{name} [rbx]"
        if name in ("sgdt", "sidt") or self.random.random() < 0.5:
            return f"{name} {self.place()}"
        return f"{name} {self.register()}"

    def selector(self) -> str:
        value, segment = self.random.choice(SELECTORS), self.random.choice(SEGMENTS)
        form = self.random.randrange(6)
        if form == 0:
            return f"mov eax, {value:#x}\nmov {segment}, eax"
        if form == 1:
            return f"mov {self.register()}, {segment}"
        if form == 2:
            return f"mov word ptr [rbx], {value:#x}\nmov {segment}, [rbx]"
        if form == 3:
            return f"mov eax, {value:#x}\n{self.random.choice(('lldt', 'ltr'))} ax"
        if form == 4:
            return f"push {self.random.choice(('fs', 'gs'))}"
        return f"push {value:#x}\npop {self.random.choice(('fs', 'gs'))}"

    def selector_query(self) -> str:
        name, value = self.random.choice(("lar", "lsl", "verr", "verw")), self.random.choice(SELECTORS)
        operand = "cx" if name.startswith("ver") else "edx, ecx"
        return f"mov ecx, {value:#x}\n{name} {operand}"

    def msr(self) -> str:
        number = self.random.choice(MSRS)
        if self.random.random() < 0.5:
            return f"mov ecx, {number:#x}\nrdmsr"
        high, low = divmod(self.value(), 1 << 32)
        if number == 0xC0000080:  # EFER: one bit of what it is
            change = (
                f"mov ecx, {number:#x}\nrdmsr\nbtc eax, {self.random.choice((0, 1, 8, 10, 11, 12, 14))}"
            )
            return f"{change}\nwrmsr"
        if number in (0xC0000082, 0xC0000081):
            return f"mov ecx, {number:#x}\nrdmsr"
        return f"mov ecx, {number:#x}\nmov eax, {low:#x}\nmov edx, {high:#x}\nwrmsr"

    def port(self) -> str:
        size = self.random.choice(("al", "ax", "eax"))
        port = self.random.choice(PORTS)
        if self.random.random() < 0.5 or port in (0x64, 0x5E0):
            return f"mov edx, {port:#x}\nin {size}, dx"
        return f"mov edx, {self.random.choice((0x80, 0xE9, 0x4000)):#x}\nout dx, {size}"

    def string_port(self) -> str:
        name = self.random.choice(("insb", "insw", "insd", "outsb", "outsw", "outsd"))
        register = "rdi" if name.startswith("ins") else "rsi"
        repeat = self.random.choice(("", "rep "))
        at = self.random.choice((DATA + 0x200, DATA + 0x200, 0x3FFFFC, 0xB8000, 0x500))
        count = self.random.randrange(9)
        return f"mov edx, 0x80\nmov ecx, {count}\nmov {register}, {at:#x}\n{repeat}{name}"

    def software(self) -> str:
        return f"int {self.random.choice((*range(0x30, 0x37), 0x80, 0x90, 3, 4, 1)):#x}"

    def flags(self) -> str:
        value = self.random.getrandbits(22) & ~self.unused_flags | (
            0x100 if self.random.random() < 0.1 else 0
        )
        form = self.random.choice(("popfq", ".byte 0x66, 0x9d"))
        return f"push {value & 0x7FFFFFFF:#x}\n{form}"

    def far(self) -> str:
        form = self.random.randrange(4)
        selector = self.random.choice(SELECTORS)
        if form == 0:
            return f"push {selector:#x}\nlea rax, [rip + 32]\nor rax, 15\ninc rax\npush rax\nretfq"
        name = self.random.choice((".byte 0xff, 0x2b", ".byte 0xff, 0x1b", ".byte 0x48, 0xff, 0x2b"))
        if name.startswith(".byte 0x48"):
            name = ".byte 0xff, 0x2b"
        setup = "lea rax, [rip + 32]\nor rax, 15\ninc rax\nmov [rbx], eax"
        return f"{setup}\nmov word ptr [rbx + 4], {selector:#x}\n{name}"

    def return_frame(self) -> str:
        cs = self.random.choice((0x10, 0x33, 0x33, *SELECTORS))
        ss = self.random.choice((0x18, 0x2B, 0x2B, *SELECTORS))
        flags = self.random.getrandbits(22) & ~0x44100 | 2
        pushes = f"mov rcx, rsp\npush {ss:#x}\npush rcx\npush {flags:#x}\npush {cs:#x}"
        return f"{pushes}\nlea rax, [rip + 16]\nor rax, 15\ninc rax\npush rax\niretq"

    def pointer(self) -> str:
        register = self.register()
        forms = (f"mov rax, [{register}]", f"mov [{register}], eax", f"add [{register}], ax",
                 f"invlpg [{register}]", f"xchg [{register}], al", f"movups xmm0, [{register}]",
                 f"push [{register}]", f"lock inc dword ptr [{register}]", f"cmpxchg8b [{register}]",
                 f"movaps [{register}], xmm1", f"bt dword ptr [{register}], 3")  # fmt: skip
        read_only = [f for f in forms if f.startswith(("mov rax", "invlpg", "movups", "push", "bt"))]
        at = self.random.choice(POINTERS)
        writable = at >= DATA or at in range(0xA0000, 0xC0000)
        return f"mov {register}, {at:#x}\n{self.random.choice(forms if writable else read_only)}"

    def machine_word(self) -> str:
        return f"mov eax, {self.random.choice((1, 3, 9, 0xB, 5, 0x33)):#x}\nlmsw ax"

    def string(self) -> str:
        name = self.random.choice(("movsb", "movsq", "stosb", "stosd", "lodsw", "scasb", "cmpsb"))
        repeat = self.random.choice(
            ("", "repe ", "repne ") if name[:4] in ("scas", "cmps") else ("", "rep ")
        )
        source = self.random.choice((DATA, DATA + 0x100, 0xB8000, 0x3FFFF8, 0x500))
        target = self.random.choice((DATA + 0x400, DATA + 0x800, 0xB8000, 0x3FFFF8, 0x500))
        count = self.random.randrange(20)
        return f"mov esi, {source:#x}\nmov edi, {target:#x}\nmov ecx, {count}\n{repeat}{name}"

    def bytes(self) -> str:
        """Random bytes, but for what known.py lists: x87 with empty registers, branches and ENTER with
        an operand-size prefix, and FXSAVE of missing pages."""
        code = [self.random.getrandbits(8) for _ in range(self.random.randrange(1, 9))]
        code[0] = self.random.choice((0x0F, 0x66, 0xF2, 0xF3, 0x48, code[0] & 0x3F))
        if 0x66 in code:
            code = [byte & 0x3F if byte in BRANCHES else byte for byte in code]
        code = [byte & 0x2F if byte in STRINGS else byte for byte in code]
        code = [byte & 0x3F if byte & 0xF8 == 0xD8 else byte for byte in code]
        if 0x0F in code:
            code = [0x2F if byte in (0x2C, 0x2D) else byte for byte in code]
        return ".byte " + ", ".join(f"{byte:#x}" for byte in code)

    def values(self) -> str:
        return self.load(self.register())

    def stack(self) -> str:
        leave = "mov ebp, 0x3e0000\nleave"
        return self.random.choice(("mov rsp, 0x3f0000", "push rax", "pop rcx", "enter 16, 1", leave,
                                   "mov rbx, 0x300000", "mov rsp, 0x3e0000"))  # fmt: skip


def privileged(seed: int, length: int = 40) -> RandomGuest:
    """A guest of level 2, in ring 0 or in ring 3."""
    random = Random(seed)
    generator = Privileged(random)
    user = random.random() < 0.4
    steps = tuple(generator.step() for _ in range(length))
    return RandomGuest(2, seed, steps, Setup(user=user))
