"""A conditional stop: the guest stops at an instruction only when its registers have given values, and
some words of its memory, too: compilers that do not optimise keep a loop's counter there.

A hardware breakpoint stops at each pass, which costs 20 us. Here the check is machine code of ours in
the guest's own process (cores/vmm/conditional_check.py). Over the instruction in the patched twin is

    E9 F4 F4 F4 6C      jmp to the check, 0x6CF4F4F4 bytes behind it

whose later bytes are HLT and INSB, so that a branch into the middle faults there. If all values are as
wanted the check ends in a HLT, at which the guest stops; else the instructions under the jump are
executed where they have been copied to, and the guest goes on behind them. An instruction that cannot
be copied is a HLT, too: the guest leaves the stop there for good.

A pass costs some nanoseconds. Used where a stretch ends inside a loop (cores/lockstep/follower.py).
"""

from __future__ import annotations

from cores.vmm.conditional_check import SAVED, check_32, check_64
from cores.vmm.patched_code import PatchedCode
from cores.vmm.patching.twin import HLT
from cores.vmm.shadow_tlb import ShadowPages
from cores.vmm.state import GuestContext
from cores.x86.faults import GuestFault
from cores.x86.isa.branches import direct_target
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.instruction import Instruction, MemoryOperand, Sensitivity
from cores.x86.mmu.paging import PAGE
from cores.x86.mode import address_mask, code_bits, is_flat, is_long
from cores.x86.registers import CS, DS, MASK32, RAX, RCX
from cores.x86.virtual_cpu import VirtualCpu

JUMP = bytes.fromhex("e9f4f4f46c")
DISTANCE = int.from_bytes(JUMP[1:], "little")
_CODE, _WRITABLE = 8, 2  # of a segment's type (SDM vol. 3, 3.4.5.1)
LENGTH = 2 * PAGE
"""The check, and what it saves, may lie across two pages."""


class ConditionalStop:
    """One stop. Raises ValueError where it cannot be planted.

    rip: where the guest stops. gpr: the registers that it then has. words: 32-bit words of its memory,
    by GVA, with the values that they then have. room: the addresses of the check.
    passing: the next entry is to pass the stop without a check."""

    def __init__(
        self, guest: GuestContext, patched: PatchedCode, shadow: ShadowPages, rip: int, gpr: list[int],
        words: dict[int, int],
    ) -> None:  # fmt: skip
        self.rip = rip
        self._guest, self._patched, self._shadow = guest, patched, shadow
        self._gpa = self._place(rip)
        self._bits = code_bits(guest.cpu)
        self.start = rip + len(JUMP) + DISTANCE & address_mask(guest.cpu)
        self.room = range(self.start & -PAGE, (self.start & -PAGE) + LENGTH)
        self._places: dict[int, int] = {}  # address in the copy -> the guest's address
        self._copies: dict[int, int] = {}  # and back
        self._leaves: set[int] = set()  # addresses of a HLT in place of an instruction
        now = guest.cpu.gpr
        if self._bits == 64:
            check = check_64(now, gpr, words)
        else:
            check = check_32(now, gpr, words, self.start)
        self._first, self._match, self._go_on = (
            self.start + offset for offset in (check.saved, check.match, check.go_on)
        )
        self._code = bytearray(check.code)
        self._copy()
        self._planted = False
        self.passing = False

    # The code

    @property
    def _here(self) -> int:
        return self.start + len(self._code)

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
            return decode(self._guest.mmu.peek(at), self._bits)
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
        if not -(1 << 31) <= distance < 1 << 31 and self._bits == 64:
            raise ValueError
        self._code += opcode + (distance & MASK32).to_bytes(4, "little")

    # Planting

    def _place(self, rip: int) -> int:
        """The GPA of the instruction. Raises ValueError where no stop can be."""
        guest, patcher = self._guest, self._patched.patcher
        if patcher is None or not _suits(guest.cpu) or rip % PAGE > PAGE - len(JUMP):
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
        at = scratch + self.start - self.room.start + SAVED
        return twin[at : at + 16]


def _suits(cpu: VirtualCpu) -> bool:
    """Does the check's code run in this mode? It saves registers in memory at its own address."""
    if is_long(cpu):
        return True
    writable = cpu.segments[DS].attributes & (_CODE | _WRITABLE) == _WRITABLE
    return writable and is_flat(cpu, CS) and is_flat(cpu, DS)
