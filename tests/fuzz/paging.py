"""Random guests of level 3: page tables, gates and interrupts, and accesses that meet them."""

from __future__ import annotations

from random import Random

from .privileged import Privileged, RandomGuest, Setup

PLAYGROUND = range(0x60, 0x70)
"""Pages whose entries level 3 changes: nothing else is in them."""

TOUCHES = (
    "mov rax, [rcx]", "mov [rcx], rdx", "add [rcx], eax", "xchg [rcx], al", "cmp byte ptr [rcx], 0",
    "lock inc qword ptr [rcx]", "inc byte ptr [rcx]", "push qword ptr [rcx]", "movups xmm0, [rcx]",
    "movups [rcx], xmm1",
)  # fmt: skip


class Paging(Privileged):
    """Draws steps of level 3: page tables, gates from vector 0x30 on, the timer."""

    def step(self) -> str:
        kinds = (
            self.entry, self.entry, self.touch, self.touch, self.touch, self.execute, self.gate,
            self.software, self.rights, self.large, self.interrupts, self.reload, self.crossing,
        )  # fmt: skip
        if self.random.random() < 0.2:
            return super().step()
        return self.random.choice(kinds)()

    def page(self) -> int:
        return self.random.choice(PLAYGROUND) << 12

    def entry(self) -> str:
        """Change an entry, and invalidate its page."""
        page = self.page()
        frame = self.random.choice((page, page ^ 0x1000, 0x62000, 0xB8000, 0x40000000))
        flags = self.random.choice((1, 3, 3, 3, 5, 7, 7, 0, 0x67, 0x1B))
        entry = frame | flags
        if self.random.random() < 0.2:
            entry |= 1 << 63
        if self.random.random() < 0.05:
            entry |= 1 << self.random.choice((51, 45, 58))
        return f"mov rax, {entry:#x}\nmov [rip + pages + {page >> 9:#x}], rax\ninvlpg [{page:#x}]"

    def touch(self) -> str:
        at = self.page() + self.random.choice((0, 8, 0x800, 0xFF8))
        return f"mov ecx, {at:#x}\n{self.random.choice(TOUCHES)}"

    def crossing(self) -> str:
        at = self.page() + 0x1000 - self.random.randrange(1, 8)
        form = self.random.choice(("mov rax, [rcx]", "mov [rcx], rdx", "add [rcx], rax"))
        return f"mov ecx, {at:#x}\n{form}"

    def execute(self) -> str:
        page = self.page()
        return f"mov ecx, {page:#x}\nmov byte ptr [rcx], 0xc3\ncall rcx"

    def gate(self) -> str:
        vector = self.random.randrange(0x30, 0x37)
        attributes = self.random.choice((0x8E, 0xEE, 0xEF, 0x8F, 0x0E, 0xE5, 0xEC))
        selector = self.random.choice((0x10, 0x10, 0x10, 0, 0x18, 0x33, 0x58, 0x40))
        return (f"mov word ptr [rip + idt + {vector * 16 + 2:#x}], {selector:#x}\n"
                f"mov byte ptr [rip + idt + {vector * 16 + 5:#x}], {attributes:#x}")  # fmt: skip

    def rights(self) -> str:
        number, bit = self.random.choice(((0, 16), (4, 20), (4, 21)))
        return f"mov rax, cr{number}\nbtc rax, {bit}\nmov cr{number}, rax"

    def large(self) -> str:
        entry = self.random.choice((0x200083, 0x83, 0x87, 0x202083, 0, 0x40000083, 0x80000000002000E7))
        at = self.random.choice((0x600000, 0x600FF8, 0x660000))
        return f"mov rax, {entry:#x}\nmov [0x82018], rax\ninvlpg [0x600000]\nmov rax, [{at:#x}]"

    def interrupts(self) -> str:
        opened, closed = "mov al, 0xfe\nout 0x21, al", "mov al, 0xff\nout 0x21, al"
        return self.random.choice(("sti", "cli", "sti\nnop", "sti\nnop\ncli", opened, closed))

    def reload(self) -> str:
        return "mov rax, cr3\nmov cr3, rax"


def paging(seed: int, length: int = 50) -> RandomGuest:
    """A guest of level 3, in ring 0."""
    random = Random(seed)
    timer = random.choice((20, 50, 200, 1000)), random.choice((0xFE, 0xFF))
    generator = Paging(random)
    steps = tuple(generator.step() for _ in range(length))
    return RandomGuest(3, seed, steps, Setup(tables=True, timer=timer))
