"""The UART, by the 16550's register description."""

from __future__ import annotations

from cores.pc.devices.uart import Uart

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(0x3F8, 0x400)


class Rig:
    """A UART, its console, and its interrupt line."""

    def __init__(self, typed: bytes = b"") -> None:
        self.console = bytearray()
        self.edges = 0
        self.level = False
        self.uart = Uart(self.console, self._line)
        if typed:
            self.uart.receive(typed)

    def _line(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def read(self, port: int) -> int:
        return self.uart.read(port, 1)

    def write(self, port: int, value: int) -> None:
        self.uart.write(port, 1, value)


def test_transmits() -> None:
    """The usual initialization, line-status polling and sending work."""
    rig = Rig()
    for port, value in ((IER, 0), (LCR, 0x80), (DATA, 3), (IER, 0), (LCR, 3), (IIR, 0xC7), (MCR, 0x0B)):
        rig.write(port, value)
    for byte in b"Hi":
        assert rig.read(LSR) & 0x20
        rig.write(DATA, byte)
    assert rig.console == b"Hi"
    assert rig.read(LSR) == 0x60
    assert rig.read(IIR) == 0xC1


def test_divisor_and_registers() -> None:
    """DLAB shows the divisor in place of data and IER; the other registers read back their values."""
    rig = Rig()
    rig.write(LCR, 0x80)
    assert (rig.read(DATA), rig.read(IER)) == (12, 0)
    rig.write(DATA, 0x34)
    rig.write(IER, 0x12)
    assert (rig.read(DATA), rig.read(IER)) == (0x34, 0x12)
    rig.write(LCR, 0x03)
    rig.write(IER, 0xFF)
    rig.write(SCR, 0xA5)
    rig.write(MCR, 0xEF)
    assert (rig.read(IER), rig.read(LCR), rig.read(SCR), rig.read(MCR)) == (0x0F, 0x03, 0xA5, 0x0F)
    assert rig.console == b""


def test_receives_as_it_is_read() -> None:
    """The first byte is available at once, each next one when the last was read."""
    rig = Rig(b"ab")
    seen = []
    while rig.read(LSR) & 1:
        seen.append(rig.read(DATA))
    assert bytes(seen) == b"ab"
    assert rig.read(DATA) == 0
    rig.uart.receive(b"c")
    assert rig.read(LSR) & 1


def test_clearing_the_fifo_loses_no_input() -> None:
    """Typed input waits outside the FIFO that a guest's initialization clears."""
    rig = Rig(b"x")
    rig.write(IIR, 0xC7)
    assert rig.read(DATA) == ord("x")


def test_receive_interrupts() -> None:
    """Each byte is an edge of its own, and IIR reports it until it is read."""
    rig = Rig(b"ab")
    assert not rig.level
    rig.write(IER, 0x01)
    assert rig.level
    assert rig.read(IIR) == 0x04
    assert rig.read(IIR) == 0x04
    rig.read(DATA)
    assert (rig.edges, rig.level) == (2, True)
    rig.read(DATA)
    assert not rig.level
    assert rig.read(IIR) == 0x01


def test_time_out_below_the_trigger() -> None:
    """In FIFO mode fewer bytes than the trigger level cause the time-out interrupt."""
    rig = Rig(b"a")
    rig.write(IER, 0x01)
    rig.write(IIR, 0xC1)
    assert rig.read(IIR) == 0xCC
    rig.write(IIR, 0x01)
    assert rig.read(IIR) == 0xC4


def test_transmitter_empty_interrupts() -> None:
    """Enabling this interrupt raises it at once, reading IIR clears it, each sent byte raises it
    again."""
    rig = Rig()
    rig.write(IER, 0x02)
    assert rig.level
    assert rig.read(IIR) == 0x02
    assert not rig.level
    assert rig.read(IIR) == 0x01
    rig.write(DATA, 0x41)
    rig.write(DATA, 0x42)
    assert rig.edges == 3


def test_priorities() -> None:
    """IIR shows overrun before data before transmitter before modem, each when the previous one is
    cleared."""
    rig = Rig()
    rig.write(MCR, 0x10)
    rig.write(DATA, 1)
    rig.write(DATA, 2)
    rig.write(MCR, 0x13)
    rig.write(IER, 0x0F)
    assert rig.read(IIR) == 0x06
    assert rig.read(LSR) == 0x63
    assert rig.read(LSR) == 0x61
    assert rig.read(IIR) == 0x04
    assert rig.read(DATA) == 2
    assert rig.read(IIR) == 0x02
    assert rig.read(IIR) == 0x00
    assert rig.read(MSR) & 0x0F == 0x0B
    assert rig.read(IIR) == 0x01
    assert not rig.level


def test_loopback() -> None:
    """In loopback bytes come back, none is sent, and the modem lines are the UART's own outputs."""
    rig = Rig(b"typed")
    rig.write(IIR, 0x01)
    rig.write(MCR, 0x1E)
    rig.read(MSR)
    assert not rig.read(LSR) & 1
    for byte in range(16):
        rig.write(DATA, byte)
    assert not rig.read(LSR) & 2
    rig.write(DATA, 99)
    assert rig.read(LSR) & 2
    assert [rig.read(DATA) for _ in range(16)] == list(range(16))
    assert rig.read(MSR) == 0xD0
    rig.write(MCR, 0x11)
    assert rig.read(MSR) == 0x20 | 0x0F
    assert rig.read(MSR) == 0x20
    rig.write(MCR, 0x00)
    assert rig.console == b""
    assert rig.read(MSR) & 0xF0 == 0xB0
    assert rig.read(DATA) == ord("t")
