"""The interrupt controllers, by the data sheet's list of modes."""

from __future__ import annotations

import pytest

from cores.pc.devices.pic import Pics


class Rig:
    """Two PICs with a readable INTR pin, initialized as on every PC."""

    def __init__(self, icw4: int = 0x01, icw1: int = 0x11) -> None:
        self.intr = False
        self.pics = Pics(self._output)
        self.program(0x20, icw1, 0x20, 0x04, icw4)
        self.program(0xA0, icw1, 0x28, 0x02, 0x01)

    def _output(self, level: bool) -> None:
        self.intr = level

    def program(self, port: int, icw1: int, *rest: int) -> None:
        self.write(port, icw1)
        for value in rest:
            self.write(port + 1, value)

    def write(self, port: int, value: int) -> None:
        (self.pics.master if port < 0xA0 else self.pics.slave).write(port, 1, value)

    def read(self, port: int) -> int:
        return (self.pics.master if port < 0xA0 else self.pics.slave).read(port, 1)

    def pulse(self, *irqs: int) -> None:
        for irq in irqs:
            self.pics.set_irq(irq, False)
            self.pics.set_irq(irq, True)

    def in_service(self, port: int) -> int:
        self.write(port, 0x0B)
        return self.read(port)

    def requests(self, port: int) -> int:
        self.write(port, 0x0A)
        return self.read(port)


def test_boot_state_is_masked() -> None:
    """At boot every line of both is masked, and a request waits behind the mask."""
    seen: list[bool] = []
    pics = Pics(seen.append)
    assert pics.master.read(0x21, 1) == pics.slave.read(0xA1, 1) == 0xFF
    pics.set_irq(0, True)
    pics.set_irq(8, True)
    assert True not in seen
    pics.master.write(0x21, 1, 0xFE)
    assert seen[-1]
    assert pics.acknowledge() == 0x08


def test_vectors() -> None:
    """Each line interrupts with its own vector, the slave's through the cascade."""
    for irq in (0, 1, 3, 7, 8, 14, 15):
        rig = Rig()
        rig.pulse(irq)
        assert rig.intr
        assert rig.pics.acknowledge() == 0x20 + irq
        assert not rig.intr


def test_initialisation_resets() -> None:
    """ICW1 clears masks, service and modes; no interrupt comes before the last ICW."""
    rig = Rig()
    rig.write(0x21, 0xFF)
    rig.pulse(3)
    rig.write(0x20, 0x11)
    assert rig.read(0x21) == 0
    assert not rig.intr
    rig.write(0x21, 0x40)
    rig.write(0x21, 0x04)
    assert not rig.intr
    rig.write(0x21, 0x01)
    assert rig.intr, "a line still high after initialisation counts as a request"
    assert rig.pics.acknowledge() == 0x43


def test_short_initialisations() -> None:
    """With SNGL there is no ICW3, without IC4 no ICW4."""
    rig = Rig()
    rig.program(0x20, 0x12, 0x50)
    rig.write(0x21, 0xFB)
    assert rig.read(0x21) == 0xFB
    rig.program(0x20, 0x13, 0x50, 0x01)
    rig.write(0x21, 0xFA)
    assert rig.read(0x21) == 0xFA


def test_masks() -> None:
    """A masked request is kept, and comes when the mask is cleared."""
    rig = Rig()
    rig.write(0x21, 0x02)
    rig.pulse(1)
    assert not rig.intr
    assert rig.requests(0x20) == 0x02
    rig.write(0x21, 0x00)
    assert rig.intr


def test_fully_nested_priority() -> None:
    """A line in service holds back itself and all lower ones until its EOI, but none above."""
    rig = Rig()
    rig.pulse(3, 5)
    assert rig.pics.acknowledge() == 0x23
    rig.pulse(3)
    assert not rig.intr
    rig.pulse(1)
    assert rig.pics.acknowledge() == 0x21
    assert rig.in_service(0x20) == 0x0A
    rig.write(0x20, 0x20)  # non-specific: the highest, line 1
    assert rig.in_service(0x20) == 0x08
    assert not rig.intr
    rig.write(0x20, 0x63)  # specific, line 3
    assert rig.pics.acknowledge() == 0x23
    rig.write(0x20, 0x20)
    assert rig.pics.acknowledge() == 0x25


def test_edges() -> None:
    """In edge mode a line that stays high requests once; one that falls before INTA no longer
    requests."""
    rig = Rig()
    rig.pics.set_irq(4, True)
    rig.pics.set_irq(4, True)
    rig.pics.acknowledge()
    rig.write(0x20, 0x20)
    rig.pics.set_irq(4, True)
    assert not rig.intr
    rig.pulse(4)
    assert rig.intr
    rig.pics.set_irq(4, False)
    assert not rig.intr
    assert rig.requests(0x20) == 0


def test_levels() -> None:
    """In level mode (LTIM) a line requests as long as it is high."""
    rig = Rig(icw1=0x19)
    rig.pics.set_irq(4, True)
    rig.pics.acknowledge()
    rig.write(0x20, 0x20)
    assert rig.intr
    rig.pics.set_irq(4, False)
    assert not rig.intr


def test_spurious() -> None:
    """INTA without a request gives IRQ 7's vector, in the slave IRQ 15's, with nothing in service."""
    rig = Rig()
    assert rig.pics.acknowledge() == 0x27
    assert rig.in_service(0x20) == 0
    rig.pulse(9)
    rig.write(0xA0, 0x0C)
    rig.read(0xA0)  # a poll takes the request away in the slave ...
    rig.pics.master.irr |= 0x04  # ... in the moment when the master already has it
    assert rig.pics.acknowledge() == 0x2F
    assert rig.in_service(0x20) == 0x04
    assert rig.in_service(0xA0) == 0x02


def test_two_requests_through_the_cascade() -> None:
    """The slave's second request is not lost behind the first."""
    rig = Rig()
    rig.pulse(8, 14)
    assert rig.pics.acknowledge() == 0x28
    rig.write(0xA0, 0x20)
    rig.write(0x20, 0x20)
    assert rig.pics.acknowledge() == 0x2E
    rig.pulse(8)
    assert not rig.intr, "the master is still serving the slave"
    rig.write(0x20, 0x20)
    assert rig.pics.acknowledge() == 0x28


def test_special_fully_nested() -> None:
    """With SFNM the slave may interrupt its own handler with a higher line."""
    rig = Rig(icw4=0x11)
    rig.pulse(14)
    rig.pics.acknowledge()
    rig.pulse(8)
    assert rig.pics.acknowledge() == 0x28


def test_special_mask_mode() -> None:
    """With SMM a masked line in service no longer holds back those below it."""
    rig = Rig()
    rig.pulse(3)
    rig.pics.acknowledge()
    rig.pulse(5)
    rig.write(0x21, 0x08)
    assert not rig.intr
    rig.write(0x20, 0x68)
    assert rig.intr
    rig.write(0x20, 0x48)
    assert not rig.intr


def test_auto_eoi() -> None:
    """With AEOI nothing stays in service; with rotation the line served becomes the lowest."""
    rig = Rig(icw4=0x03)
    rig.pulse(0)
    rig.pics.acknowledge()
    assert rig.in_service(0x20) == 0
    rig.write(0x20, 0x80)
    rig.pulse(0)
    rig.pics.acknowledge()
    rig.pulse(0, 1)
    assert rig.pics.acknowledge() == 0x21
    rig.write(0x20, 0x00)


@pytest.mark.parametrize("command", [0xA0, 0xE3])
def test_rotation(command: int) -> None:
    """EOI with rotation makes the line served the lowest, so that the next gets its turn."""
    rig = Rig()
    rig.pulse(3)
    rig.pics.acknowledge()
    rig.write(0x20, command)
    rig.pulse(3, 4, 2)
    assert rig.pics.acknowledge() == 0x24
    assert rig.in_service(0x20) == 0x10


def test_set_priority() -> None:
    """OCW2 can set the lowest line directly."""
    rig = Rig()
    rig.write(0x20, 0xC4)
    rig.pulse(0, 5)
    assert rig.pics.acknowledge() == 0x25


def test_poll() -> None:
    """A poll returns and acknowledges the highest request; without one, bit 7 is clear."""
    rig = Rig()
    rig.write(0x20, 0x0C)
    assert rig.read(0x20) == 0
    rig.pulse(6)
    rig.write(0x20, 0x0C)
    assert rig.read(0x20) == 0x86
    assert rig.in_service(0x20) == 0x40
    assert not rig.intr


def test_accepts_foretells() -> None:
    """``accepts`` predicts whether a rising line would interrupt, from masks, service and cascade."""
    rig = Rig()
    assert all(rig.pics.accepts(irq) for irq in range(16) if irq != 2)
    rig.write(0x21, 0x04)
    assert not rig.pics.accepts(8)
    assert rig.pics.accepts(0)
    rig.pulse(1)
    rig.pics.acknowledge()
    assert rig.pics.accepts(0)
    assert not rig.pics.accepts(1)
    assert not rig.pics.accepts(4)
