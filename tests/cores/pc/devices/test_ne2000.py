"""The NE2000 by its data sheet: as a driver sets it up, sends, and reads its ring."""

from __future__ import annotations

from collections import deque
from random import Random

from cores.pc.devices.ne2000 import BASE, BUFFER, Ne2000, crc

MAC, BROADCAST = bytes.fromhex("525400123456"), b"\xff" * 6
COMMAND, PSTART, PSTOP, BNRY, TPSR, TBCR0, TBCR1, ISR, RSAR0 = range(BASE, BASE + 9)
_, RBCR0, RBCR1, RCR, TCR, DCR, IMR, DATA = range(BASE + 9, BASE + 17)
PAGE_0, PAGE_1, PAGE_2 = 0x22, 0x62, 0xA2
FIRST, LAST = 0x46, 0x80


class Cable:
    """Keeps what is sent; what is put into ``coming`` arrives at its tick."""

    mac, called = MAC, ""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.coming: deque[tuple[int, bytes]] = deque()

    def transmit(self, frame: bytes, now: int) -> None:
        self.sent.append(frame)

    def next_arrival(self) -> int | None:
        return self.coming[0][0] if self.coming else None

    def receive(self, now: int) -> bytes | None:
        return self.coming.popleft()[1] if self.coming and self.coming[0][0] <= now else None


class Rig:
    """A card on a cable, set up as a driver does; its ring is 0x46 to 0x80."""

    def __init__(self, *, words: bool = True) -> None:
        self.cable = Cable()
        self.level = False
        self.card = Ne2000(self.cable, self._line, lambda: 0)
        self.words = words
        setup = (
            (COMMAND, 0x21), (DCR, 0x48 | words), (RBCR0, 0), (RBCR1, 0), (RCR, 0x20), (TCR, 2),
            (PSTART, FIRST), (PSTOP, LAST), (BNRY, FIRST), (ISR, 0xFF), (IMR, 0x5F), (COMMAND, 0x61),
            *((BASE + 1 + i, byte) for i, byte in enumerate(MAC)), (BASE + 7, FIRST + 1),
            (COMMAND, 0x22), (TCR, 0), (RCR, 0x04),
        )  # fmt: skip
        for port, value in setup:
            self.write(port, value)

    def _line(self, level: bool) -> None:
        self.level = level

    def read(self, port: int, size: int = 1) -> int:
        return self.card.read(port, size)

    def write(self, port: int, value: int, size: int = 1) -> None:
        self.card.write(port, size, value)

    def remote(self, at: int, count: int, order: int) -> None:
        for low, value in ((RBCR0, count), (RSAR0, at)):
            self.write(low, value & 255)
            self.write(low + 1, value >> 8)
        self.write(COMMAND, order)

    def fetch(self, at: int, count: int) -> bytes:
        """By remote DMA, in the unit that the card is set to."""
        self.remote(at, count, 0x0A)
        unit = 1 + self.words
        return b"".join(self.read(DATA, unit).to_bytes(unit, "little") for _ in range(0, count, unit))

    def put(self, at: int, data: bytes) -> None:
        self.remote(at, len(data), 0x12)
        unit = 1 + self.words
        for i in range(0, len(data), unit):
            self.write(DATA, int.from_bytes(data[i : i + unit], "little"), unit)

    def send(self, frame: bytes) -> None:
        self.put(0x4000, frame)
        for port, value in ((TPSR, 0x40), (TBCR0, len(frame) & 255), (TBCR1, len(frame) >> 8)):
            self.write(port, value)
        self.write(COMMAND, 0x26)

    def arrive(self, *frames: bytes) -> None:
        self.cable.coming.extend((5, frame) for frame in frames)
        self.card.advance(5)

    def current(self) -> int:
        self.write(COMMAND, PAGE_1)
        page = self.read(BASE + 7)
        self.write(COMMAND, PAGE_0)
        return page

    def next_frame(self) -> bytes | None:
        """As a driver takes a frame from the ring: its header, its bytes, and BNRY behind it."""
        page = self.read(BNRY) + 1
        page = FIRST if page == LAST else page
        if page == self.current():
            return None
        status, following, low, high = self.fetch(page << 8, 4)
        assert status & 1
        length, begin = (high << 8 | low) - 4, (page << 8) + 4
        data = self.fetch(begin, length + length % 2)[:length]  # remote DMA wraps at PSTOP by itself
        self.write(BNRY, (following if following > FIRST else LAST) - 1)
        return data


def frame(to: bytes, size: int = 60, fill: int = 7) -> bytes:
    return to + MAC + b"\x08\x00" + bytes([fill]) * (size - 14)


def test_prom_reset_and_registers() -> None:
    """The PROM has each byte of the address twice and the card's mark; a reset stops it; registers read
    back in page 2."""
    rig = Rig()
    prom = rig.fetch(0, 32)
    assert prom[:12:2] == prom[1:12:2] == MAC
    assert prom[28:] == b"WWWW"
    assert rig.read(ISR) & 0x40
    rig.write(COMMAND, PAGE_2)
    assert [rig.read(BASE + i) for i in (1, 2, 0xC, 0xD, 0xE, 0xF)] == [FIRST, LAST, 4, 0, 0x49, 0x5F]
    rig.write(COMMAND, PAGE_1)
    assert bytes(rig.read(BASE + i) for i in range(1, 7)) == MAC
    assert rig.read(BASE + 0x1F) == 0
    assert rig.read(COMMAND) == 0x21
    assert rig.read(ISR) == 0x80
    assert rig.read(BASE + 0x10, 4) == 0xFFFFFFFF
    assert rig.read(COMMAND) == 0x21


def test_remote_dma_by_bytes_words_and_blocks() -> None:
    """Bytes, words and REP INSW move the same data, and say when they are done."""
    data = Random(1).randbytes(300)
    for words in (False, True):
        rig = Rig(words=words)
        rig.put(0x4100, data)
        assert rig.read(ISR) & 0x40
        rig.write(ISR, 0x40)
        assert rig.fetch(0x4100, 300) == data
        rig.remote(0x4100, 300, 0x0A)
        assert rig.card.read_string(DATA, 1 + words, 300 // (1 + words)) == data
        rig.write(ISR, 0x40)
        rig.remote(0x4300, 300, 0x12)
        rig.card.write_string(DATA, 1 + words, data)
        assert rig.read(ISR) & 0x40
        assert rig.read(BASE + 8) == (0x4300 + 300) & 0xFF
        assert rig.fetch(0x4300, 300) == data


def test_sends() -> None:
    """A frame leaves as it is, TSR and ISR say so, and the interrupt follows IMR."""
    rig = Rig()
    rig.write(ISR, 0x7F)
    rig.send(frame(BROADCAST, 100))
    assert rig.cable.sent == [frame(BROADCAST, 100)]
    assert rig.read(BASE + 4) == 1
    assert rig.read(ISR) & 2
    assert rig.level
    assert not rig.read(COMMAND) & 4
    rig.write(ISR, 0x42)
    assert not rig.level
    rig.write(IMR, 0)
    rig.send(frame(BROADCAST))
    assert not rig.level
    assert rig.read(ISR) & 2
    rig.send(bytes(1516))
    assert len(rig.cable.sent) == 2
    assert "not sent" in rig.card.notes()[0]


def test_receives_at_its_time() -> None:
    """A frame that comes later is the card's next event, raises the line then, and stands in the ring
    with its header."""
    rig = Rig()
    rig.write(ISR, 0x7F)
    rig.cable.coming.append((900, frame(MAC, 61)))
    assert rig.card.next_event() == 900
    rig.card.advance(899)
    assert not rig.level
    rig.card.advance(900)
    assert rig.level
    assert rig.read(ISR) == 1
    assert rig.card.next_event() is None
    assert rig.current() == FIRST + 2
    assert rig.fetch(FIRST + 1 << 8, 4) == bytes((1, FIRST + 2, 65, 0))
    assert rig.next_frame() == frame(MAC, 61)
    assert rig.next_frame() is None


def test_filters_by_address() -> None:
    """Own address, broadcast, multicast by its hash, and everything in promiscuous mode."""
    group, other = bytes.fromhex("01005e000001"), bytes.fromhex("525400999999")
    everyone = [frame(to) for to in (MAC, BROADCAST, group, other)]
    index = crc(group) >> 26
    for mode, hashed, expected in (
        (0x00, 0, [0]), (0x04, 0, [0, 1]), (0x0C, 0, [0, 1]), (0x0C, 1, [0, 1, 2]),
        (0x14, 0, [0, 1, 2, 3]), (0x20, 0, []),
    ):  # fmt: skip
        rig = Rig()
        rig.write(COMMAND, PAGE_1)
        rig.write(BASE + 8 + (index >> 3), hashed << (index & 7))
        rig.write(COMMAND, PAGE_0)
        rig.write(RCR, mode)
        rig.arrive(*everyone)
        assert list(iter(rig.next_frame, None)) == [everyone[i] for i in expected]
    assert rig.read(BASE + 0xF) == 1
    assert rig.read(BASE + 0xF) == 0


def test_the_ring_wraps_and_overflows() -> None:
    """Hundreds of frames of all sizes go around; without a reader the ring fills, the rest is lost and
    counted, and after reading it goes on."""
    rig, random = Rig(), Random(2)
    for n in range(300):
        one = frame(MAC, random.randint(60, 1514), n & 255)
        rig.arrive(one)
        assert rig.next_frame() == one
    rig.write(ISR, 0x7F)
    many = [frame(MAC, 1514, n) for n in range(20)]
    rig.arrive(*many)
    assert rig.read(ISR) & 0x11 == 0x11
    kept = list(iter(rig.next_frame, None))
    assert kept == many[: len(kept)]
    assert len(kept) + rig.read(BASE + 0xF) == 20
    assert len(kept) == 9
    rig.arrive(frame(MAC))
    assert rig.next_frame() == frame(MAC)


def test_stopped_and_loopback() -> None:
    """A stopped card hears nothing; in loopback it hears itself, and the cable nothing."""
    rig = Rig()
    rig.write(COMMAND, 0x21)
    rig.arrive(frame(MAC))
    rig.write(COMMAND, 0x22)
    assert rig.next_frame() is None
    rig.write(TCR, 2)
    rig.send(frame(MAC))
    assert rig.next_frame() == frame(MAC)
    assert not rig.cable.sent
    rig.send(b"")
    assert rig.next_frame() is None


def test_send_packet_reads_from_the_boundary() -> None:
    """The command "send packet" sets remote DMA up for the frame at BNRY."""
    rig = Rig()
    rig.arrive(frame(MAC, 80))
    rig.write(BNRY, FIRST + 1)
    rig.write(COMMAND, 0x1A)
    got = b"".join(rig.read(DATA, 2).to_bytes(2, "little") for _ in range(42))
    assert got[4:] == frame(MAC, 80)
    assert rig.read(ISR) & 0x40


def test_any_registers_are_survived() -> None:
    """Whatever a guest writes, in any order, nothing outside the buffer changes, nothing raises, and
    the state stays one that may be saved."""
    random = Random(3)
    for _ in range(40):
        rig = Rig(words=random.random() < 0.5)
        prom = rig.fetch(0, 32)
        for _ in range(150):
            port = random.choice([*range(BASE, BASE + 17), COMMAND, DATA])
            size = random.choice([1, 2, 4]) if port == DATA else 1
            if random.random() < 0.7:
                rig.write(port, random.getrandbits(8 * size), size)
            else:
                rig.read(port, size)
            rig.arrive(random.choice([frame(MAC, 300), frame(BROADCAST, 1514)]))
        rig.card.save()
        assert rig.card.is_lawful()
        rig.card.reset()
        rig.write(COMMAND, PAGE_0)
        rig.write(DCR, 0x48 | rig.words)
        assert rig.fetch(0, 32) == prom
        assert not any(rig.card.save()["saved_memory"][32 : BUFFER.start])


def test_goes_back() -> None:
    """A saved state holds the card's memory, and does not change with it."""
    rig = Rig()
    rig.put(0x4000, b"old text")
    state = rig.card.save()
    rig.put(0x4000, b"new text")
    rig.arrive(frame(MAC))
    rig.card.restore(state)
    assert rig.fetch(0x4000, 8) == b"old text"
    assert rig.next_frame() is None
