"""A conditional stop: the guest stops at an instruction only when its registers have given values, and
some words of its memory, too: compilers that do not optimise keep a loop's counter there.

A hardware breakpoint stops at each pass, which costs 20 us. Here the check is machine code of ours in
the guest's own process. Over the instruction in the patched twin stands

    E9 F4 F4 F4 6C      jmp to the check, 0x6CF4F4F4 bytes behind it

whose later bytes are HLT and INSB, so that a branch into the middle faults there. The check compares
without changing a flag: LEA adds the negative of the wanted value to a register, and JRCXZ asks whether
the sum is 0. If all are equal it ends in a HLT, at which the guest stops; else the
instructions under the jump are executed where they have been copied to, and the guest goes on behind
them. An instruction that cannot be copied is a HLT, too: the guest leaves the stop there for good.

A pass costs some nanoseconds. Used where a stretch ends inside a loop (cores/lockstep/follower.py).
"""

from __future__ import annotations

from cores.vmm.patched_code import PatchedCode
from cores.vmm.patching.twin import HLT
from cores.vmm.shadow_tlb import ShadowPages
from cores.vmm.state import GuestContext
from cores.x86.faults import GuestFault
from cores.x86.isa.branches import direct_target
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Instruction, MemoryOperand, Sensitivity
from cores.x86.mmu.paging import PAGE
from cores.x86.mode import is_long
from cores.x86.registers import RAX, RCX, RSP

JUMP = bytes.fromhex("e9f4f4f46c")
DISTANCE = int.from_bytes(JUMP[1:], "little")
LENGTH = 2 * PAGE
"""The check, and what it saves, may lie across two pages."""
_SAVED = 2048
"""Offset of two words behind the check: RCX and RAX as the guest has them."""


class ConditionalStop:
    """One stop. Raises ValueError where it cannot be planted.

    rip: where the guest stops. gpr: the registers that it then has. words: 64-bit words of its memory,
    by GVA, with the values that they then have. room: the addresses of the check.
    passing: the next entry is to pass the stop without a check."""

    def __init__(
        self, guest: GuestContext, patched: PatchedCode, shadow: ShadowPages, rip: int, gpr: list[int],
        words: dict[int, int],
    ) -> None:  # fmt: skip
        self.rip = rip
        self.words = words
        self._guest, self._patched, self._shadow = guest, patched, shadow
        self._gpa = self._place(rip)
        self.start = rip + len(JUMP) + DISTANCE
        self.room = range(self.start & -PAGE, (self.start & -PAGE) + LENGTH)
        self._places: dict[int, int] = {}  # address in the copy -> the guest's address
        self._copies: dict[int, int] = {}  # and back
        self._leaves: set[int] = set()  # addresses of a HLT in place of an instruction
        self._code = bytearray()
        self._check(gpr)
        self._go_on = self._here
        self._word("488b0d", 0)  # mov rcx, [saved]
        self._copy()
        self._planted = False
        self.passing = False

    # The code

    @property
    def _here(self) -> int:
        return self.start + len(self._code)

    def _word(self, opcode: str, number: int) -> None:
        """An instruction with a saved word as its RIP-relative operand."""
        code = bytes.fromhex(opcode)
        self._code += code + (_SAVED + 8 * number - len(self._code) - len(code) - 4).to_bytes(
            4, "little"
        )

    def _check(self, gpr: list[int]) -> None:
        cpu, misses = self._guest.cpu, []
        self._word("48890d", 0)  # mov [saved], rcx
        self._word("488905", 1)  # mov [saved + 8], rax
        self._first = self._here  # from here on both are saved
        others = sorted((n for n in range(16) if n != RCX), key=lambda n: cpu.gpr[n] == gpr[n])
        for number in (RCX, *others):
            wanted = _negative(gpr[number])
            if number == RCX:
                self._subtract(wanted)
            elif number == RSP:
                self._code += b"\x48\xb9" + wanted + b"\x48\x8d\x0c\x0c"  # lea rcx, [rsp + rcx]
            else:
                base = bytes([0x48 | number >> 3, 0x8D, 0x4C, 0x08 | number & 7, 0])
                self._code += b"\x48\xb9" + wanted + base  # lea rcx, [register + rcx]
            misses.append(self._or_go_on())
        for gva, value in self.words.items():
            self._code += b"\x48\xb9" + gva.to_bytes(8, "little") + b"\x48\x8b\x09"  # mov rcx, [rcx]
            self._subtract(_negative(value))
            misses.append(self._or_go_on())
        self._word("488b0d", 0)
        self._match = self._here
        self._code.append(HLT)
        for at in misses:
            self._code[at - 4 : at] = (len(self._code) - at).to_bytes(4, "little")

    def _subtract(self, wanted: bytes) -> None:
        """Add the negative of the wanted value to RCX."""
        self._code += b"\x48\xb8" + wanted + b"\x48\x8d\x0c\x01"  # lea rcx, [rcx + rax]
        self._word("488b05", 1)  # mov rax, [saved + 8]

    def _or_go_on(self) -> int:
        """If RCX is not 0, go on with the guest. Gives the place behind the jump, which has no target
        yet."""
        self._code += b"\xe3\x05\xe9\0\0\0\0"  # jrcxz over; jmp go on
        return len(self._code)

    def _copy(self) -> None:
        """The instructions under the jump, and the way back."""
        at = self.rip
        while at < self.rip + len(JUMP):
            insn = self._decode(at)
            self._note(at)
            if insn is None or not self._append(insn, at):
                self._leaves.add(self._here)
                self._code.append(HLT)
                return
            at += insn.length
            if insn.mnemonic in ("jmp", "ret"):
                return
        self._note(at)
        self._jump(b"\xe9", at)

    def _decode(self, at: int) -> Instruction | None:
        try:
            return decode(self._guest.mmu.peek(at))
        except (GuestFault, Truncated):
            return None

    def _note(self, at: int) -> None:
        self._places[self._here] = at
        self._copies.setdefault(at, self._here)

    def _append(self, insn: Instruction, at: int) -> bool:
        """Copy one instruction; False where it would not mean the same elsewhere."""
        patcher = self._patched.patcher
        if insn.sensitivity is not Sensitivity.ORDINARY or patcher is None or patcher.must_trap(insn):
            return False
        if not insn.ends_block:
            if any(isinstance(o, MemoryOperand) and o.relative for o in insn.operands):
                return False
            self._code += insn.code
            return True
        target = direct_target(insn, at + insn.length)
        opcode = insn.code[:-1] if insn.length == 2 else b""
        if target is not None and insn.mnemonic == "jmp" and insn.code[0] in (0xEB, 0xE9):
            self._jump(b"\xe9", target)
        elif target is not None and len(opcode) == 1 and opcode[0] & 0xF0 == 0x70:
            self._jump(bytes([0x0F, 0x80 | opcode[0] & 0xF]), target)
        elif target is not None and insn.length == 6 and insn.code[1] & 0xF0 == 0x80:
            self._jump(insn.code[:2], target)
        else:
            return False
        return True

    def _jump(self, opcode: bytes, target: int) -> None:
        distance = target - (self._here + len(opcode) + 4)
        self._code += opcode + distance.to_bytes(4, "little", signed=True)

    # Planting

    def _place(self, rip: int) -> int:
        """The GPA of the instruction. Raises ValueError where no stop can be."""
        guest, patcher = self._guest, self._patched.patcher
        if patcher is None or not is_long(guest.cpu) or rip % PAGE > PAGE - len(JUMP):
            raise ValueError
        try:
            gpa = guest.mmu.locate(rip)
        except GuestFault:
            raise ValueError from None
        page = patcher.pages.get(gpa & -PAGE)
        if page is None or page.shared or page.aliased or patcher.is_patched(gpa):
            raise ValueError
        return gpa

    def plant(self) -> None:
        """Raises ValueError where the address of the check is the guest's own memory."""
        guest, twin = self._guest, self._patched.engine.patched_twin()
        scratch = guest.memory.ram.scratch
        for page in range(self.room.start, self.room.stop, PAGE):
            try:
                if guest.memory.is_ram(guest.mmu.translate(page, user=False) & -PAGE, PAGE):
                    raise ValueError
            except GuestFault:
                pass  # nothing of the guest's is there
        assert twin is not None
        offset = self.start - self.room.start
        twin[scratch + offset : scratch + offset + len(self._code)] = self._code
        if not self._shadow.host.lend(self.room.start, scratch, LENGTH):
            raise ValueError
        twin[self._gpa : self._gpa + len(JUMP)] = JUMP
        self._planted = True

    @property
    def stands(self) -> bool:
        """Is the jump still there? The patcher may have written over it."""
        twin = self._patched.engine.patched_twin()
        patcher = self._patched.patcher
        at = slice(self._gpa, self._gpa + len(JUMP))
        return self._planted and patcher is not None and twin is not None and twin[at] == JUMP

    def remove(self) -> None:
        """Take it away; the twin is as the patcher has it."""
        if not self._planted:
            return
        self._planted = False
        if self._patched.patcher is not None:
            self._patched.patcher.restore(self._gpa, len(JUMP))
        self._shadow.host.take_back(self.room.start, LENGTH)

    # Entries and exits

    def enter_at(self) -> None:
        """Before an entry: RIP to the copy where the guest is under the jump, or has to pass it."""
        cpu = self._guest.cpu
        if cpu.rip == self.rip and self.passing:
            saved = self._saved()
            saved[:8] = cpu.gpr[RCX].to_bytes(8, "little")
            cpu.rip = self._go_on
        elif self.rip < cpu.rip < self.rip + len(JUMP):
            cpu.rip = self._copies.get(cpu.rip, cpu.rip)
        self.passing = False

    def left_at(self) -> bool:
        """After an exit: RIP and registers to what the guest would have without the stop. True: it has
        stopped as it was asked to, and does not pass at the next entry unless ``passing`` is set."""
        cpu = self._guest.cpu
        if cpu.rip in self.room:
            at, matched = cpu.rip, cpu.rip == self._match
            if at <= self._go_on and not matched:  # in the middle of the check
                saved = self._saved()
                if at >= self._first:
                    cpu.gpr[RCX] = int.from_bytes(saved[:8], "little")
                    cpu.gpr[RAX] = int.from_bytes(saved[8:], "little")
            if at in self._leaves:
                cpu.rip = self._places[at]
                self.remove()
                return False
            cpu.rip = self._places.get(at, self.rip)
            return matched
        if self.rip < cpu.rip < self.rip + len(JUMP):  # a branch into the middle
            self.remove()
        return False

    def _saved(self) -> memoryview:
        twin, scratch = self._patched.engine.patched_twin(), self._guest.memory.ram.scratch
        assert twin is not None
        at = scratch + self.start - self.room.start + _SAVED
        return twin[at : at + 16]


def _negative(value: int) -> bytes:
    return (-value & (1 << 64) - 1).to_bytes(8, "little")
