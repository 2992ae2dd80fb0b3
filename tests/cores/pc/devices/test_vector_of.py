"""The vector that a line would give the CPU, foretold from random states of its controllers."""

from __future__ import annotations

import random
from collections.abc import Iterator

from cores.pc.devices.board import Board
from cores.pc.devices.io_apic import BASE, LEVEL, LOGICAL, MASKED, input_of
from cores.pc.devices.local_apic import EOI, ERROR, LDR, LINT0, SVR, TPR
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB, Ram
from cores.x86.registers import ApicBase

LINES = (1, 3, 10, 11, 14)
DRAWN = 400


def store(memory: PhysicalMemory, register: int, value: int) -> None:
    memory.write(ApicBase.ADDRESS + register * 16, value.to_bytes(4, "little"))


def drawn(seed: int) -> Iterator[Board]:
    """Boards in random states, each with RAM of its own."""
    chance = random.Random(seed)
    for _ in range(DRAWN):
        ram = Ram(2 * MIB)
        try:
            board = Board(memory := PhysicalMemory(ram))
            draw(chance, board, memory)
            yield board
        finally:
            ram.close()


def draw(chance: random.Random, board: Board, memory: PhysicalMemory) -> None:
    """Set up the controllers as a kernel may, and have some interrupts requested and in service."""
    special = chance.random() < 0.2
    for port, base in ((0x20, 0x20), (0xA0, 0x28)):
        icw4 = 1 | 2 * (chance.random() < 0.1) | 0x10 * (chance.random() < 0.1)
        for at, value in ((port, 0x11), (port + 1, base), (port + 1, 4), (port + 1, icw4)):
            board.write(at, 1, value)
        board.write(port + 1, 1, chance.choice((0, 0, 0xFF, chance.randrange(256))))
        if special:
            board.write(port, 1, 0x68)
        if chance.random() < 0.2:
            board.write(port, 1, 0xC0 | chance.randrange(8))
    store(memory, SVR, chance.choice((0x1FF, 0x1FF, 0x1FF, 0xFF)))
    store(memory, LDR, 1 << 24)
    store(memory, ERROR, 0x31)
    store(memory, LINT0, chance.choice((0x700, 0x700, 0x10700, 0x52, 0x400)))
    store(memory, TPR, chance.choice((0, 0, 0x20, 0x50, 0xF0)))
    for line in LINES:
        low = chance.choice((0x22, 0x5B, 0xA0, 0x0A)) | chance.choice((0, 0, 0x100, 0x400, 0x700))
        low |= (
            chance.choice((0, LEVEL)) | chance.choice((0, LOGICAL)) | chance.choice((0, MASKED, MASKED))
        )
        for offset, value in ((0, low), (1, chance.choice((0, 1, 2, 0xFF)) << 24)):
            memory.write(BASE, (0x10 + 2 * input_of(line) + offset).to_bytes(4, "little"))
            memory.write(BASE + 0x10, value.to_bytes(4, "little"))
    board.follow_cpu(board.local_apic.priority, apic_enabled=chance.random() < 0.9)
    for line in chance.sample(LINES, 2):
        board._line(line)(True)
        if chance.random() < 0.8 and board.interrupt_pending:
            board.acknowledge()
        board._line(line)(False)
    if board.nmi_pending:
        board.take_nmi()
    if chance.random() < 0.3:
        store(memory, EOI, 0)


def test_what_is_foretold_comes_true() -> None:
    """If the line rises then, the CPU has an interrupt with exactly this vector, and no other."""
    by_pics = by_message = 0
    for board in drawn(1):
        for line in LINES:
            before = board.save()
            told = board.vector_of(line)
            if told is not None:
                assert not board.interrupt_pending
                board._line(line)(True)
                assert board.interrupt_pending
                assert not board.nmi_pending
                in_service = board.local_apic.isr
                assert board.acknowledge() == told
                assert not board.interrupt_pending
                by_message += board.local_apic.isr != in_service
                by_pics += board.local_apic.isr == in_service
                board.restore(before)
    assert by_pics > DRAWN // 10
    assert by_message > DRAWN // 20


def test_nothing_is_foretold_in_vain() -> None:
    """Where a rise alone gives the CPU an interrupt by the PICs alone, it was foretold."""
    seen = 0
    for board in drawn(2):
        for line in LINES:
            if board.interrupt_pending or board.nmi_pending:
                continue
            before, told, apic = board.save(), board.vector_of(line), board.local_apic
            requested = apic.irr
            board._line(line)(True)
            alone = not board.io_apic.unmasks(input_of(line)) and apic.irr == requested
            if alone and board.interrupt_pending:
                assert board.acknowledge() == told
                seen += 1
            board.restore(before)
    assert seen > DRAWN // 10
