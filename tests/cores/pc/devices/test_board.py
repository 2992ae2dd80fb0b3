"""The board as a whole: time, interrupts, input, and saved states."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cores.debugging.plain_values import plain, shaped
from cores.pc.devices.board import Board
from cores.pc.devices.pit import tick_of
from cores.pc.devices.storage.disk import Disk
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB, Ram
from cores.pc.stop import Stop
from cores.x86.faults import Unsupported


def start_pics(board: Board, master: int, slave: int = 0xFF) -> None:
    """Initialize both PICs at 0x20 and 0x28, with these masks."""
    for port, base, cascade, mask in ((0x20, 0x20, 4, master), (0xA0, 0x28, 2, slave)):
        board.write(port, 1, 0x11)
        for value in (base, cascade, 1, mask):
            board.write(port + 1, 1, value)


def test_masked_clocks_have_no_event(board: Board) -> None:
    """At boot everything is masked: there is no deadline and no event, so HLT is for ever."""
    assert board.next_event() is None
    assert board.deadline > 1 << 60


def test_interrupts_by_time(board: Board) -> None:
    """An interrupt of the timer is told from one that the guest has asked for, until the CPU takes
    it."""
    start_pics(board, 0xFE)
    board.write(0x43, 1, 0x34)
    board.write(0x40, 1, 100)
    board.write(0x40, 1, 0)
    assert not board.ticked
    board.advance(tick_of(100) + 1)
    assert board.interrupt_pending
    assert board.ticked
    board.acknowledge()
    assert not board.ticked
    start_pics(board, 0xEF)
    board.write(0x3F9, 1, 2)  # the UART's transmitter is empty
    assert board.interrupt_pending
    board.advance(tick_of(500))  # the timer is masked
    assert not board.ticked
    start_pics(board, 0xEE)
    board.advance(tick_of(800))
    assert board.ticked, "the timer's waits, too"
    board.hold_ticks(True)
    assert board.acknowledge() == 0x24, "it is held back, and the UART's, of a lower priority, is not"
    board.write(0x20, 1, 0x20)
    board.advance(tick_of(1200))
    assert not board.interrupt_pending
    board.hold_ticks(False)
    assert board.acknowledge() == 0x20


def test_interrupts_by_time_of_the_local_apic(board: Board) -> None:
    """So it is with the local APIC's timer, and an interrupt that the CPU sends to itself."""

    def store(register: int, value: int) -> None:
        board.local_apic.mmio_write(16 * register, value.to_bytes(4, "little"))
        board.follow_cpu(0, apic_enabled=True)  # which plans anew

    for register, value in ((0xF, 0x1FF), (0x3E, 0xB), (0x32, 0x20041), (0x38, 1_000_000)):
        store(register, value)
    board.advance(1001)
    assert board.interrupt_pending
    assert board.ticked
    board.hold_ticks(True)
    assert not board.interrupt_pending
    store(0x30, 0x40040)
    assert board.acknowledge() == 0x40
    store(0xB, 0)
    assert not board.interrupt_pending
    board.hold_ticks(False)
    assert board.interrupt_pending
    assert board.acknowledge() == 0x41
    assert not board.ticked


def test_a_timer_as_nmi_is_not_held_back(board: Board) -> None:
    """Where the PICs' output is no interrupt but an NMI, a watchdog's, it neither counts as one that
    waits nor comes twice."""
    board.local_apic.mmio_write(0x350, (0x400).to_bytes(4, "little"))
    board.follow_cpu(0, apic_enabled=True)
    start_pics(board, 0xFE)
    for port, value in ((0x43, 0x34), (0x40, 100), (0x40, 0)):
        board.write(port, 1, value)
    board.advance(tick_of(100) + 1)
    assert board.nmi_pending
    board.take_nmi()
    assert not board.ticked
    board.hold_ticks(True)
    board.hold_ticks(False)
    assert not board.nmi_pending


def test_polling_finds_what_is_held_back(board: Board) -> None:
    """A guest that polls the PIC (OCW3) asks for the request itself, which is in IRR."""
    start_pics(board, 0xFE)
    for port, value in ((0x43, 0x34), (0x40, 100), (0x40, 0)):
        board.write(port, 1, value)
    board.advance(tick_of(100) + 1)
    board.hold_ticks(True)
    assert not board.interrupt_pending
    board.write(0x20, 1, 0x0C)
    assert board.read(0x20, 1) == 0x80
    board.write(0x20, 1, 0x20)
    assert not board.interrupt_pending


def test_timer_interrupt(board: Board) -> None:
    """HLT jumps to the timer's tick, which brings its vector; during its service no other interrupt
    comes."""
    start_pics(board, 0xFE)
    for port, value in ((0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)):
        board.write(port, 1, value)
    event = board.next_event()
    assert event == board.deadline == tick_of(11932)
    board.advance(event - 1)
    assert not board.interrupt_pending
    board.advance(event)
    assert board.interrupt_pending
    assert board.next_event() == event
    assert board.acknowledge() == 0x20
    assert not board.interrupt_pending
    assert board.next_event() is None, "in service: no further tick can interrupt"
    board.write(0x20, 1, 0x20)
    assert board.next_event() == tick_of(2 * 11932)


def test_masked_ticks_are_remembered(board: Board) -> None:
    """A tick on a masked line becomes a request when the mask is cleared."""
    start_pics(board, 0xFF)
    board.advance(200_000)
    assert board.read(0x20, 1) & 1
    board.write(0x21, 1, 0xFE)
    assert board.interrupt_pending


def test_clock_interrupt(board: Board) -> None:
    """The CMOS clock's update interrupt is IRQ 8."""
    start_pics(board, 0xFB, 0xFE)
    board.write(0x70, 1, 0x0B)
    board.write(0x71, 1, 0x12)
    assert board.next_event() == 1_000_000
    board.advance(1_000_000)
    assert board.acknowledge() == 0x28


def test_accesses_see_the_present(board: Board) -> None:
    """A counter read uses the time last passed to the board."""
    board.advance(1000)
    board.write(0x43, 1, 0x00)
    assert board.read_string(0x40, 1, 2) == (65536 - 1193).to_bytes(2, "little")


def polled(board: Board, count: int = 99) -> bytes:
    """What a guest without interrupts reads from the serial line."""
    found = b""
    while len(found) < count and board.read(0x3FD, 1) & 1:
        found += bytes((board.read(0x3F8, 1),))
    return found


def polled_keys(board: Board) -> bytes:
    """The scan codes that a guest without interrupts reads."""
    found = b""
    while board.read(0x64, 1) & 1:
        found += bytes((board.read(0x60, 1),))
    return found


def test_input_goes_to_what_is_polled(memory: PhysicalMemory) -> None:
    """Both devices show the next byte; the one that is read has it, and an empty receiver takes
    nothing."""
    board = Board(memory, input=b"abc")
    assert (board.read(0x3F8, 1), board.read(0x60, 1)) == (0, 0xFA), "not polled"
    assert polled(board, 1) == b"a"
    assert board.read(0x64, 1) & board.read(0x3FD, 1) & 1
    assert polled_keys(board) == bytes((0x30, 0xB0, 0x2E, 0xAE))
    assert not board.read(0x3FD, 1) & 1


def test_keys_reach_a_guest_that_never_reads_the_status(memory: PhysicalMemory) -> None:
    """Small kernels read port 0x60 alone until it changes: each read that finds nothing new lets the
    next have a key."""
    board = Board(memory, input=b"ab")
    seen = [board.read(0x60, 1) for _ in range(9)]
    assert [code for code, last in zip(seen[1:], seen, strict=False) if code != last] == [
        0x1E,
        0x9E,
        0x30,
        0xB0,
    ]
    assert seen[0] == 0xFA


def test_flushing_a_receiver_takes_nothing(memory: PhysicalMemory) -> None:
    """A driver that empties the receiver before its interrupt is unmasked loses nothing (xv6)."""
    board = Board(memory, input=b"ls")
    board.write(0x3F9, 1, 1)
    board.read(0x3FA, 1)
    board.read(0x3F8, 1)
    assert not board.interrupt_pending
    start_pics(board, 0xED)
    seen = b""
    while board.interrupt_pending:
        assert board.acknowledge() == 0x24
        seen += bytes((board.read(0x3F8, 1),))
        board.write(0x20, 1, 0x20)
    assert seen == b"ls"


def test_input_waits_for_the_controller_that_is_used(memory: PhysicalMemory) -> None:
    """A kernel that unmasks a line at the PICs, whose output it has masked at LINT0, and then at the
    I/O APIC gets the interrupt there (xv6 before 2018)."""
    board = Board(memory, input=b"a")
    memory.device_write(0xFEE00350, (1 << 16).to_bytes(4, "little"))
    start_pics(board, 0xFF)
    board.write(0x3F9, 1, 1)
    board.write(0x21, 1, 0xEF)
    assert not board.typed.unread
    memory.device_write(0xFEC00000, (0x10 + 2 * 4).to_bytes(4, "little"))
    memory.device_write(0xFEC00010, (0x24).to_bytes(4, "little"))
    board.collect()
    assert board.interrupt_pending
    assert board.acknowledge() == 0x24
    assert board.read(0x3F8, 1) == ord("a")


def test_input_interrupts_after_initialisation(memory: PhysicalMemory) -> None:
    """Text given at the start interrupts a guest that sets up its PICs later."""
    board = Board(memory, input=b"a")
    start_pics(board, 0xFD)
    seen = []
    while board.interrupt_pending:
        assert board.acknowledge() == 0x21
        seen.append(board.read(0x60, 1))
        board.write(0x20, 1, 0x20)
    assert seen == [0x1E, 0x9E]


def test_keys_of_the_interface(board: Board) -> None:
    """Named keys and characters reach the keyboard; the serial line gets a terminal's bytes for
    them."""
    board.press("é")  # it has no key
    for read, expected in (
        (polled_keys, bytes((0xE0, 0x48, 0xE0, 0xC8, 0x1C, 0x9C, 0x2A, 0x1E, 0x9E, 0xAA, 0x3B, 0xBB))),
        (polled, b"\x1b[A\rA\x1bOP"),
    ):
        for key in ("up", "enter", "A", "f1", "no such key"):
            board.press(key)
        assert read(board) == expected


def test_keys_go_to_the_device_that_the_guest_listens_to(board: Board) -> None:
    """What is typed waits until the guest takes interrupts of one; of two the serial port has it."""
    board.type_text(b"a")
    assert not board.listens
    assert (board.keyboard.unread, board.uart.unread) == (False, False)
    start_pics(board, 0xFD)  # IRQ 1 alone
    assert not board.listens
    assert (board.keyboard.unread, board.uart.unread) == (True, False)
    board.read_string(0x60, 1, 2)
    assert board.listens
    start_pics(board, 0xED)  # IRQ 4 too
    board.write(0x3F9, 1, 1)
    board.type_text(b"c")
    assert (board.keyboard.unread, board.uart.unread) == (False, True)


def test_going_back(disk_board: Board, memory: PhysicalMemory) -> None:
    """A saved state holds every device's state, and can be written to a file."""
    board = disk_board
    start_pics(board, 0x00, 0x00)
    board.type_text(b"hello")
    before = board.save()
    board.advance(3_000_000)
    board.write_string(0xE9, 1, b"text")
    memory.write(0xB8000, b"X")
    board.read_string(0x60, 1, 3)
    for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F7, 0x30)):
        board.write(port, 1, value)
    board.write_string(0x1F0, 2, b"w" * 512)
    board.write(0x77, 1, 0)
    board.write(0xF4, 1, 3)
    after = board.save()
    assert after != before
    board.restore(pickle.loads(pickle.dumps(before)))
    assert board.save() == before
    assert board.screen() is None
    assert board.console == b""
    assert board.stop is None
    board.restore(after)
    assert board.save() == after
    assert board.console == b"text"


def test_saving_shares(disk_board: Board, memory: PhysicalMemory) -> None:
    """Successive states share screen, console and overlay while these do not change."""
    memory.write(0xB8000, b"X")
    disk_board.write(0xE9, 1, 65)
    one, two = disk_board.save(), disk_board.save()
    assert one.screen[0] is two.screen[0]
    assert one.console is two.console
    assert one.disks == two.disks


PORTS = [
    *range(0x20, 0x22), *range(0xA0, 0xA2), *range(0x40, 0x44), 0x60, 0x64, 0x70, 0x71, 0xE9, 0xF4,
    *range(0x1F0, 0x1F8), 0x3F6, *range(0x3F8, 0x400), 0x5E0, 0x5E4, 0x604, 0x80, 0xFFFF,
]  # fmt: skip
"""Every port of the platform, and two without device."""

BYTES = st.one_of(
    st.integers(0, 255), st.sampled_from([0x11, 0x20, 0x34, 0x36, 0x30, 0xEC, 0xC4, 0xC6])
)
APICS = (*range(0xFEE00000, 0xFEE00400, 16), *(0xFEC00000, 0xFEC00010) * 16)
SIZES, COUNTS = st.sampled_from([1, 2, 4]), st.integers(0, 300)
TRAFFIC = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from(PORTS), SIZES),
        st.tuples(st.just("write"), st.sampled_from(PORTS), st.sampled_from([1, 1, 2, 4]), BYTES),
        st.tuples(st.just("ins"), st.sampled_from(PORTS), SIZES, COUNTS),
        st.tuples(st.just("outs"), st.sampled_from(PORTS), SIZES, COUNTS),
        st.tuples(st.just("clock"), st.integers(0, 2_000_000)),
        st.tuples(st.just("acknowledge")),
        st.tuples(st.just("sleep")),
        st.tuples(st.just("type"), st.binary(max_size=4)),
        st.tuples(st.just("screen"), st.integers(0xB7FFC, 0xB9004), st.binary(max_size=8)),
        st.tuples(st.just("screen"), st.sampled_from(APICS), st.binary(min_size=4, max_size=4)),
    ),
    max_size=60,
)  # fmt: skip


def play(board: Board, memory: PhysicalMemory, traffic: list[Any]) -> list[object]:
    """Execute the traffic, and return all that a guest could have seen."""
    seen: list[object] = []
    for action, *details in traffic:
        match action:
            case "read":
                seen.append(board.read(*details))
            case "write":
                board.write(*details)
            case "ins":
                seen.append(board.read_string(*details))
            case "outs":
                port, size, count = details
                board.write_string(port, size, (bytes(range(256)) * 5)[: count * size])
            case "clock":
                board.advance(board.now + details[0])
            case "acknowledge":
                seen.append(board.acknowledge())
            case "sleep":
                event = board.next_event()
                if event is not None:
                    board.advance(max(event, board.now))
                    assert board.interrupt_pending, "the foretold event must interrupt"
            case "type":
                board.type_text(details[0])
            case "screen":
                memory.write(*details)
                seen.append(memory.read(details[0], 4))
        seen.append((board.interrupt_pending, board.nmi_pending, board.next_event(), board.stop))
    return [*seen, bytes(board.console), board.screen(), board.accesses]


@pytest.fixture(scope="module")
def shared_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small disk image for many examples."""
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    path.write_bytes(bytes(range(256)) * 33)
    return path


@settings(max_examples=60, deadline=None)
@given(before=TRAFFIC, after=TRAFFIC, with_disk=st.booleans())
@example(  # LINT0 with vector 0, which no CPU takes, and IRQ 0 unmasked
    before=[],
    after=[("screen", 0xFEE00350, bytes(4)), ("write", 0x20, 2, 0), ("sleep",)],
    with_disk=False,
)
def test_any_traffic_and_back(
    shared_image: Path, before: list[Any], after: list[Any], with_disk: bool
) -> None:
    """No traffic raises, predicted events occur, and a restored state, also by way of a file, behaves
    as it did the first time."""
    ram, second = Ram(2 * MIB), Ram(2 * MIB)
    disks = [[Disk(str(shared_image))] if with_disk else [] for _ in range(2)]
    memory, other_memory = PhysicalMemory(ram), PhysicalMemory(second)
    board, other = Board(memory, disks=disks[0]), Board(other_memory, disks=disks[1])
    try:
        play(board, memory, before)
        state = board.save()
        contents = ram.contents()
        first = play(board, memory, after)
        last = board.save()

        memory.view[: ram.size] = contents
        board.restore(state)
        assert board.save() == state
        assert play(board, memory, after) == first
        assert board.save() == last
        assert board.is_lawful()

        other_memory.view[: second.size] = contents
        devices = tuple(map(shaped, other.shapes(), plain(state.devices)))
        assert devices == state.devices
        other.restore(replace(state, devices=devices))
        assert other.is_lawful()
        assert play(other, other_memory, after) == first
    finally:
        for disk in (*disks[0], *disks[1]):
            disk.close()
        ram.close()
        second.close()


def test_only_one_value_switches_off(board: Board) -> None:
    """The power port obeys a 16-bit write of 0x2000 and nothing else."""
    for value in (0, 1, 0x1000, 0x2001, 0x3400, 0xFFFF):
        board.write(0x604, 2, value)
    board.write(0x604, 1, 0x20)
    assert board.stop is None
    board.write(0x604, 2, 0x2000)
    assert board.stop is not None
    assert board.stop.stop is Stop.POWEROFF


def test_the_console_has_an_end(board: Board) -> None:
    """64 MiB of console are kept; a guest that writes a byte more is stopped."""
    block = bytes(MIB)
    for _ in range(64):
        board.write_string(0xE9, 1, block)
    for write in (lambda: board.write(0xE9, 1, 0), lambda: board.write_string(0xE9, 1, b"\0")):
        with pytest.raises(Unsupported, match="64 MiB"):
            write()
