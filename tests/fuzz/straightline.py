"""Random straight-line programs: the ordinary instructions, whose results every core must agree on.

``integer`` and ``floating`` write Keystone source, the same for the same ``Random``; ``programs`` and
``floating_programs`` are Hypothesis strategies over them, so that a failure shrinks. Each program sets
its registers and a data area, runs ``length`` steps without a branch, and ends with an exit write.
RBX keeps pointing at the data area and RSP into the stack; every other register is fair game.

Left out, because the architecture lets CPUs differ: rcpps, rsqrtps, x87's transcendental functions,
and the images that hold x87's last instruction pointer (fxsave, fnsave, fnstenv).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import strategies as st

DATA = 0x300000
"""The data area: 4 KiB that the programs read and write, 16 bytes aligned, inside 4 MiB of RAM."""

END = "mov al, 0\nout 0xf4, al\ncli\nhlt\n"

_LEGACY = ("ax", "cx", "dx", "si", "di", "bp")
REGISTERS = {
    8: tuple(f"r{name}" for name in _LEGACY) + tuple(f"r{n}" for n in range(8, 16)),
    4: tuple(f"e{name}" for name in _LEGACY) + tuple(f"r{n}d" for n in range(8, 16)),
    2: _LEGACY + tuple(f"r{n}w" for n in range(8, 16)),
    1: (*("al", "cl", "dl", "sil", "dil", "bpl"), *(f"r{n}b" for n in range(8, 16))),
}
"""Free registers by size, each size in the same order."""

_POINTER = {1: "byte ptr", 2: "word ptr", 4: "dword ptr", 8: "qword ptr", 10: "tbyte ptr",
            16: "xmmword ptr"}  # fmt: skip
_CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)  # fmt: skip


Step = Callable[["Generator"], str]
"""Writes one step of a program: one instruction, with what guards it."""


class Generator:
    """Draws operands and instructions; each step is a string of one or a few lines."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pushed = 0

    def size(self, *sizes: int) -> int:
        return self.random.choice(sizes or (1, 2, 4, 8))

    def register(self, size: int) -> str:
        return self.random.choice(REGISTERS[size])

    def memory(self, size: int, aligned: bool = False) -> str:
        offset = self.random.randrange(0x700)
        return f"{_POINTER[size]} [rbx + {offset & ~15 if aligned else offset}]"

    def either(self, size: int) -> str:
        return self.memory(size) if self.random.random() < 0.3 else self.register(size)

    def value(self, size: int) -> int:
        """An unsigned number of ``size`` bytes, boundary values often."""
        if self.random.random() < 0.5:
            return self.random.choice(_INTERESTING) & ((1 << size * 8) - 1)
        return self.random.randrange(1 << size * 8)

    def immediate(self, size: int) -> int:
        """A number that an instruction of that operand size can hold: up to 32 bits, sign-extended."""
        width = min(size, self.size(1, 4)) * 8
        value = self.value(width // 8)
        return value - (1 << width) if value >> (width - 1) else value

    # --- integer instructions -------------------------------------------------------------------

    def arithmetic(self) -> str:
        size = self.size()
        name = self.random.choice(("add", "adc", "sub", "sbb", "and", "or", "xor", "cmp", "test"))
        target = self.either(size)
        source = self.immediate(size) if self.random.random() < 0.4 else self.register(size)
        if name != "test" and "ptr" not in target and self.random.random() < 0.3:
            source = self.memory(size)
        return f"{name} {target}, {source}"

    def unary(self) -> str:
        return f"{self.random.choice(('inc', 'dec', 'neg', 'not'))} {self.either(self.size())}"

    def high_byte(self) -> str:
        name = self.random.choice(("add", "sub", "xor", "mov", "xchg", "cmp"))
        target, source = self.random.choice(("ah", "ch", "dh")), self.random.choice(("al", "dl", "ch"))
        return f"{name} {target}, {source}"

    def shift(self) -> str:
        name = self.random.choice(("shl", "shr", "sar", "rol", "ror", "rcl", "rcr"))
        count = self.random.choice(("1", "cl", str(self.random.randrange(256))))
        return f"{name} {self.either(self.size())}, {count}"

    def double_shift(self) -> str:
        size = self.size(2, 4, 8)
        count = self.random.choice(("cl", str(self.random.randrange(128))))
        name = self.random.choice(("shld", "shrd"))
        return f"{name} {self.either(size)}, {self.register(size)}, {count}"

    def multiply(self) -> str:
        size = self.size()
        form = self.random.randrange(3) if size > 1 else 0
        if form == 0:
            return f"{self.random.choice(('mul', 'imul'))} {self.either(size)}"
        if form == 1:
            return f"imul {self.register(size)}, {self.either(size)}"
        return f"imul {self.register(size)}, {self.register(size)}, {self.immediate(size)}"

    def divide(self) -> str:
        """A division whose dividend is small enough for its divisor, so that it does not fault."""
        size = self.size()
        divisor = self.random.choice(REGISTERS[size][3:])
        guard = f"or {divisor}, 1"
        signed = self.random.random() < 0.5
        if not signed:
            clear = "movzx eax, al" if size == 1 else "xor edx, edx"
            return f"{guard}\n{clear}\ndiv {divisor}"
        extend = {1: "cbw", 2: "cwd", 4: "cdq", 8: "cqo"}[size]
        quotient = {1: "al", 2: "ax", 4: "eax", 8: "rax"}[size]
        return f"{guard}\nshr {quotient}, 1\n{extend}\nidiv {divisor}"

    def wild_divide(self) -> str:
        """A division that may raise #DE: its program may end in the guest's handler, or in a
        shutdown."""
        return f"{self.random.choice(('div', 'idiv'))} {self.either(self.size())}"

    def bits(self) -> str:
        size = self.size(2, 4, 8)
        if self.random.random() < 0.4:
            name = self.random.choice(("bsf", "bsr", "popcnt"))
            return f"{name} {self.register(size)}, {self.either(size)}"
        name = self.random.choice(("bt", "bts", "btr", "btc"))
        if self.random.random() < 0.5:
            return f"{name} {self.either(size)}, {self.random.randrange(128)}"
        bit = self.random.randrange(len(REGISTERS[8]))
        if self.random.random() < 0.5:
            return f"{name} {self.register(size)}, {REGISTERS[size][bit]}"
        reach = f"and {REGISTERS[4][bit]}, 0x3ff"  # an unbounded offset would leave the data area
        return f"{reach}\n{name} {self.memory(size)}, {REGISTERS[size][bit]}"

    def conditional(self) -> str:
        condition = self.random.choice(_CONDITIONS)
        if self.random.random() < 0.5:
            return f"set{condition} {self.either(1)}"
        size = self.size(2, 4, 8)
        return f"cmov{condition} {self.register(size)}, {self.either(size)}"

    def move(self) -> str:
        size = self.size()
        form = self.random.randrange(4)
        if form == 0:
            return f"mov {self.register(8)}, {self.value(8):#x}"
        if form == 1:
            return f"mov {self.memory(size)}, {self.register(size)}"
        if form == 2:
            return f"mov {self.memory(size)}, {self.immediate(size)}"
        return f"mov {self.register(size)}, {self.either(size)}"

    def extend(self) -> str:
        form = self.random.randrange(3)
        if form == 0:
            return self.random.choice(("cbw", "cwde", "cdqe", "cwd", "cdq", "cqo"))
        if form == 1:
            return f"movsxd {self.register(8)}, {self.either(4)}"
        source, target = self.random.choice(((1, 2), (1, 4), (1, 8), (2, 4), (2, 8)))
        name = self.random.choice(("movzx", "movsx"))
        return f"{name} {self.register(target)}, {self.either(source)}"

    def address(self) -> str:
        base, index = self.register(8), self.register(8)
        scale = self.random.choice((1, 2, 4, 8))
        place = f"[{base} + {index}*{scale} + {self.immediate(4)}]"
        return f"lea {self.register(self.size(2, 4, 8))}, {place}"

    def indexed(self) -> str:
        """A load or store through base + index * scale, the index made small first."""
        which = self.random.randrange(len(REGISTERS[8]))
        size = self.size()
        scale = self.random.choice((1, 2, 4))
        index, offset = REGISTERS[8][which], self.random.randrange(0x400)
        place = f"{_POINTER[size]} [rbx + {index}*{scale} + {offset}]"
        guard = f"and {REGISTERS[4][which]}, 0xff"
        if self.random.random() < 0.5:
            return f"{guard}\nmov {self.register(size)}, {place}"
        return f"{guard}\nadd {place}, {self.register(size)}"

    def swap(self) -> str:
        size = self.size()
        form = self.random.randrange(6)
        if form == 0:
            return f"bswap {self.register(self.size(4, 8))}"
        if form == 1:
            return f"xchg {self.either(size)}, {self.register(size)}"
        if form == 2:
            return f"xadd {self.either(size)}, {self.register(size)}"
        if form == 3:
            return f"cmpxchg {self.either(size)}, {self.register(size)}"
        if form == 4:
            name = self.random.choice(("xadd", "cmpxchg", "add", "xor"))
            return f"lock {name} {self.memory(size)}, {self.register(size)}"
        wide = self.random.random() < 0.5
        place = self.memory(16, aligned=True) if wide else self.memory(8)
        saved = "mov r15, rbx\nmov ebx, 0x12345678"  # RBX is an operand of it
        place = place.replace("rbx", "r15")
        return f"{saved}\ncmpxchg{'16b' if wide else '8b'} {place}\nmov rbx, r15"

    def stack(self) -> str:
        if self.pushed and self.random.random() < 0.5:
            self.pushed -= 1
            return f"pop {self.random.choice((self.register(8), self.memory(8)))}"
        if self.random.random() < 0.1:
            frame, level = self.random.randrange(64) * 8, self.random.randrange(4)
            return f"lea rbp, [rsp + 0x40]\nenter {frame}, {level}\nleave"
        self.pushed += 1
        source = self.random.choice((self.register(8), self.memory(8), str(self.immediate(4))))
        return f"push {source}"

    def string(self) -> str:
        size = self.size()
        suffix = {1: "b", 2: "w", 4: "d", 8: "q"}[size]
        name = self.random.choice(("movs", "stos", "lods", "cmps", "scas"))
        # Keystone knows movsd without operands as the SSE instruction only
        text = "movs dword ptr [rdi], dword ptr [rsi]" if name + suffix == "movsd" else name + suffix
        repeats = ("repe ", "repne ", "") if name in ("cmps", "scas") else ("rep ", "")
        down = self.random.random() < 0.3
        lines = [
            f"lea rsi, [rbx + {0x100 + self.random.randrange(0x300)}]",
            f"lea rdi, [rbx + {0x100 + self.random.randrange(0x300)}]",
            f"mov ecx, {self.random.randrange(24)}",
            self.random.choice(repeats) + text,
        ]
        return "\n".join(["std", *lines, "cld"] if down else lines)

    def flags(self) -> str:
        return self.random.choice(("clc", "stc", "cmc", "lahf", "sahf", "nop", "pause", "mfence"))

    def translate(self) -> str:
        return "xlatb"

    INTEGER: tuple[tuple[int, Step], ...] = (
        (6, arithmetic), (2, unary), (1, high_byte), (5, shift), (2, double_shift), (3, multiply),
        (2, divide), (3, bits), (3, conditional), (4, move), (2, extend), (1, address), (2, indexed),
        (2, swap), (3, stack), (2, string), (2, flags), (1, translate),
    )  # fmt: skip

    def _one_of(self, table: tuple[tuple[int, Step], ...]) -> str:
        """A step of ``table``, each as likely as its weight says."""
        (step,) = self.random.choices([kind for _, kind in table], [weight for weight, _ in table])
        return step(self)

    def integer_step(self) -> str:
        return self._one_of(self.INTEGER)

    # --- SSE, MMX and x87 -----------------------------------------------------------------------

    def xmm(self) -> str:
        return f"xmm{self.random.randrange(16)}"

    def xmm_or_memory(self, size: int) -> str:
        return self.memory(size, aligned=True) if self.random.random() < 0.3 else self.xmm()

    def sse_move(self) -> str:
        form = self.random.randrange(5)
        if form == 0:
            name = self.random.choice(("movaps", "movdqa", "movups", "movdqu"))
            return f"{name} {self.memory(16, aligned=True)}, {self.xmm()}"
        if form == 1:
            name = self.random.choice(("movaps", "movdqa", "movups", "movdqu", "lddqu"))
            return f"{name} {self.xmm()}, {self.memory(16, aligned=True)}"
        if form == 2:
            return f"movq {self.register(8)}, {self.xmm()}"
        if form == 3:
            return f"movd {self.xmm()}, {self.register(4)}"
        return f"{self.random.choice(('movss', 'movsd'))} {self.xmm()}, {self.xmm()}"

    def sse_arithmetic(self) -> str:
        name = self.random.choice(("add", "sub", "mul", "div", "min", "max", "sqrt"))
        kind, size = self.random.choice((("ps", 16), ("pd", 16), ("ss", 4), ("sd", 8)))
        return f"{name}{kind} {self.xmm()}, {self.xmm_or_memory(size)}"

    def sse_logic(self) -> str:
        name = self.random.choice(("andps", "andnpd", "orps", "xorpd", "unpcklps", "unpckhpd",
                                   "haddps", "addsubpd", "movshdup", "movddup"))  # fmt: skip
        return f"{name} {self.xmm()}, {self.xmm()}"

    def sse_compare(self) -> str:
        if self.random.random() < 0.5:
            kind, size = self.random.choice((("ss", 4), ("sd", 8)))
            name = self.random.choice(("comi", "ucomi"))
            return f"{name}{kind} {self.xmm()}, {self.xmm_or_memory(size)}"
        name = self.random.choice(("cmpps", "cmppd", "cmpss", "cmpsd"))
        return f"{name} {self.xmm()}, {self.xmm()}, {self.random.randrange(8)}"

    def sse_convert(self) -> str:
        if self.random.random() < 0.4:
            name = self.random.choice(("cvtss2si", "cvtsd2si", "cvttss2si", "cvttsd2si"))
            return f"{name} {self.register(self.size(4, 8))}, {self.xmm()}"
        if self.random.random() < 0.4:
            name = self.random.choice(("cvtsi2ss", "cvtsi2sd"))
            return f"{name} {self.xmm()}, {self.register(self.size(4, 8))}"
        name = self.random.choice(("cvtss2sd", "cvtsd2ss", "cvtdq2ps", "cvtps2dq", "cvttpd2dq",
                                   "cvtps2pd", "cvtdq2pd"))  # fmt: skip
        return f"{name} {self.xmm()}, {self.xmm()}"

    def sse_integer(self) -> str:
        name = self.random.choice((
            "paddb", "paddw", "paddd", "paddq", "psubusb", "pmullw", "pmuludq", "pmulld", "pmaddwd",
            "pand", "por", "pxor", "pandn", "pcmpeqb", "pcmpgtd", "pcmpgtq", "pminub", "pmaxsd",
            "pavgb", "psadbw", "packuswb", "packssdw", "punpcklbw", "punpckhqdq", "pshufb",
            "phaddd", "pabsw", "psignd", "pmovzxbw", "pmovsxwd", "ptest", "psllq", "psrad",
        ))  # fmt: skip
        return f"{name} {self.xmm()}, {self.xmm()}"

    def sse_shuffle(self) -> str:
        name = self.random.choice(("pshufd", "shufps", "palignr", "pblendw", "pshuflw", "roundps",
                                   "pcmpistri", "insertps"))  # fmt: skip
        return f"{name} {self.xmm()}, {self.xmm()}, {self.random.randrange(4)}"

    def mmx(self) -> str:
        name = self.random.choice(("paddb", "psubw", "pmullw", "pxor", "pcmpeqd", "punpcklbw"))
        a, b = self.random.randrange(8), self.random.randrange(8)
        load = f"movq mm{a}, {self.memory(8)}"
        return f"{load}\n{name} mm{a}, mm{b}\nmovq {self.memory(8)}, mm{a}\nemms"

    def x87(self) -> str:
        """Loads two numbers, works on them, stores one and drops the other: the stack stays empty."""
        size = self.size(4, 8)
        loads = self.random.choice((
            f"fld {self.memory(size)}\nfld {self.memory(8)}", f"fild {self.memory(size)}\nfld1",
            f"fild {self.memory(2)}\nfldpi", f"fldz\nfild {self.memory(8)}",
        ))  # fmt: skip
        work = self.random.choice(("fadd st(0), st(1)", "fsub st(1), st(0)", "fmul st(0), st(1)",
                                   "fdiv st(0), st(1)", "fxch st(1)", "fchs", "fabs", "fsqrt",
                                   "frndint", "fcomi st(0), st(1)"))  # fmt: skip
        store = self.random.choice((
            f"fstp {self.memory(size)}", f"fistp {self.memory(size)}", f"fisttp {self.memory(2)}",
            f"fstp {self.memory(10)}",
        ))  # fmt: skip
        return f"{loads}\n{work}\n{store}\nfstp st(0)"

    FLOATING: tuple[tuple[int, Step], ...] = (
        (4, sse_move), (5, sse_arithmetic), (2, sse_logic), (2, sse_compare), (3, sse_convert),
        (5, sse_integer), (2, sse_shuffle), (1, mmx), (2, x87), (1, arithmetic),
    )  # fmt: skip

    def floating_step(self) -> str:
        return self._one_of(self.FLOATING)

    # --- whole programs ---------------------------------------------------------------------------

    def prologue(self) -> str:
        """Data area and registers from random numbers; 1 KiB of stack above RSP."""
        lines = [f"mov rbx, {DATA:#x}", "sub rsp, 0x400"]
        for offset in range(0, 0x100, 8):
            lines += [f"mov rax, {self.value(8):#x}", f"mov qword ptr [rbx + {offset}], rax"]
        lines += ["lea rsi, [rbx]", "lea rdi, [rbx + 0x100]", "mov ecx, 0xe0", "cld", "rep movsq"]
        lines += [f"mov {register}, {self.value(8):#x}" for register in REGISTERS[8]]
        return "\n".join(lines)


def integer(random: Random, length: int = 60, wild: bool = False) -> str:
    """A program of ``length`` integer steps. wild: some divisions may fault."""
    generator = Generator(random)
    lines = ["_start:", generator.prologue()]
    for _ in range(length):
        step = generator.integer_step()
        if wild and random.random() < 0.05:
            step = generator.wild_divide()
        lines.append(step)
    return "\n".join([*lines, END])


def floating(random: Random, length: int = 60) -> str:
    """A program of ``length`` SSE, MMX and x87 steps; exceptions stay masked."""
    generator = Generator(random)
    loads = [f"movdqu xmm{n}, xmmword ptr [rbx + {16 * n}]" for n in range(16)]
    steps = [generator.floating_step() for _ in range(length)]
    return "\n".join(["_start:", generator.prologue(), "fninit", *loads, *steps, END])


def programs(length: int = 30) -> st.SearchStrategy[str]:
    """Hypothesis strategy of ``integer`` programs of up to ``length`` steps."""
    return st.builds(integer, st.randoms(use_true_random=False), st.integers(1, length))


def floating_programs(length: int = 30) -> st.SearchStrategy[str]:
    """Hypothesis strategy of ``floating`` programs of up to ``length`` steps."""
    return st.builds(floating, st.randoms(use_true_random=False), st.integers(1, length))
