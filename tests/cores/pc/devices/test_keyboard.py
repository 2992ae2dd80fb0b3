"""Keyboard and controller: a driver's commands, and typed text."""

from __future__ import annotations

import pytest

from cores.pc.devices import scancodes
from cores.pc.devices.keyboard import Keyboard


class Rig:
    """A keyboard and its interrupt line."""

    def __init__(self, typed: bytes = b"") -> None:
        self.edges = 0
        self.level = False
        self.keyboard = Keyboard(self._line)
        if typed:
            self.keyboard.type_text(typed)

    def _line(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def command(self, value: int) -> None:
        self.keyboard.write(0x64, 1, value)

    def data(self, value: int) -> None:
        self.keyboard.write(0x60, 1, value)

    def status(self) -> int:
        return self.keyboard.read(0x64, 1)

    def all(self) -> list[int]:
        """All bytes that can be read now."""
        seen = []
        while self.status() & 1:
            seen.append(self.keyboard.read(0x60, 1))
        return seen


def test_nothing_typed() -> None:
    """Without input the output buffer is empty and reads its last byte."""
    rig = Rig()
    assert not rig.status() & 3
    assert rig.status() & 4
    assert rig.keyboard.read(0x60, 1) == 0xFA  # firmware's last command was acknowledged
    assert rig.edges == 0


def test_text_as_set_1() -> None:
    """Characters are make and break codes; capitals and signs have shift, controls are keys."""
    assert Rig(b"a").all() == [0x1E, 0x9E]
    assert Rig(b"Z").all() == [0x2A, 0x2C, 0xAC, 0xAA]
    assert Rig(b"!").all() == [0x2A, 0x02, 0x82, 0xAA]
    assert Rig(b"\n").all() == [0x1C, 0x9C]
    assert Rig(b"\b\t\x1b ").all() == [0x0E, 0x8E, 0x0F, 0x8F, 0x01, 0x81, 0x39, 0xB9]
    assert Rig(b"\x03").all() == [0x1D, 0x2E, 0xAE, 0x9D]
    assert Rig(b"\xe4\x00").all() == []


def test_every_printable_character_has_a_key() -> None:
    """All of ASCII from blank to tilde can be typed, each differently."""
    codes = {bytes(Rig(bytes([c])).all()) for c in range(0x20, 0x7F)}
    assert len(codes) == 95
    assert b"" not in codes


@pytest.mark.parametrize(
    ("key", "make"), [("up", 0x48), ("left", 0x4B), ("right", 0x4D), ("down", 0x50)]
)
def test_arrows(key: str, make: int) -> None:
    """The grey keys have the prefix 0xE0 before make and break."""
    rig = Rig()
    rig.keyboard.press(scancodes.press(key))
    assert rig.all() == [0xE0, make, 0xE0, make | 0x80]


def test_a_terminals_sequences_are_keys() -> None:
    """What xterm sends for arrows and function keys presses these keys; Esc alone is Esc."""
    assert scancodes.strokes(b"\x1b[A") == (scancodes.press("up"),)
    assert scancodes.strokes(b"\x1b") == (scancodes.press("escape"),)
    assert scancodes.strokes(b"\x1b[Xa")[0] == scancodes.press("escape")
    typed = b"".join(scancodes.SENT[key] for key in ("f1", "f5", "f12", "delete"))
    assert scancodes.strokes(typed + b"\x03") == (
        *map(scancodes.press, ("f1", "f5", "f12", "delete")), scancodes.stroke(3),
    )  # fmt: skip


def test_set_1_positions() -> None:
    """The last keys of each row have their codes of scan code set 1."""
    known = {"backspace": 0x0E, "enter": 0x1C, "`": 0x29, "right shift": 0x36, " ": 0x39, "f1": 0x3B,
             "f10": 0x44, "f11": 0x57, "f12": 0x58}  # fmt: skip
    for key, code in known.items():
        assert scancodes.encode(scancodes.Event(key, True), 1) == bytes([code])


def test_an_edge_for_each_byte() -> None:
    """Every byte raises IRQ 1 anew, and the line is low without a byte."""
    rig = Rig(b"ab")
    assert rig.level
    rig.all()
    assert rig.edges == 4
    assert not rig.level


def test_driver_initialisation() -> None:
    """A driver's usual initialization loses none of the text that waits already."""
    rig = Rig(b"a")
    rig.command(0xAD)
    assert rig.all() == []
    rig.command(0x20)
    assert rig.all() == [0x65 | 0x10]
    rig.command(0xAA)
    assert rig.all() == [0x55]
    rig.command(0xAB)
    assert rig.all() == [0x00]
    rig.command(0x60)
    rig.data(0x61)
    rig.command(0xAE)
    assert rig.keyboard.read(0x60, 1) == 0x1E
    rig.data(0xFF)
    assert rig.all() == [0xFA, 0xAA, 0x9E]


def test_answers_come_before_text() -> None:
    """A command's ACK is the next byte even when a scan code was in the buffer."""
    rig = Rig(b"x")
    rig.data(0xED)
    assert rig.keyboard.read(0x60, 1) == 0xFA
    rig.data(0x07)
    assert rig.all() == [0xFA, 0x2D, 0xAD]


def test_keyboard_commands() -> None:
    """Echo, identify (translated), scan set, enable, disable, resend and invalid commands are
    answered."""
    rig = Rig()
    for byte, answer in ((0xEE, [0xEE]), (0xF2, [0xFA, 0xAB, 0x41]), (0xF5, [0xFA])):
        rig.data(byte)
        assert rig.all() == answer
    rig.keyboard.type_text(b"q")
    assert rig.all() == []
    rig.data(0xF4)
    assert rig.all() == [0xFA, 0x10, 0x90]
    rig.data(0x00)
    assert rig.all() == [0xFE]
    rig.data(0xEE)
    rig.all()
    rig.data(0xFE)
    assert rig.all() == [0xEE]


def test_scan_code_set_2() -> None:
    """Without translation the guest reads set 2, and can select set 1."""
    rig = Rig()
    rig.command(0x60)
    rig.data(0x01)
    rig.keyboard.type_text(b"a")
    rig.keyboard.press(scancodes.press("up"))
    assert rig.all() == [0x1C, 0xF0, 0x1C, 0xE0, 0x75, 0xE0, 0xF0, 0x75]
    rig.data(0xF0)
    rig.data(0x00)
    assert rig.all() == [0xFA, 0xFA, 0x02]
    rig.data(0xF0)
    rig.data(0x01)
    rig.keyboard.type_text(b"a")
    assert rig.all() == [0xFA, 0xFA, 0x1E, 0x9E]
    rig.data(0xF0)
    rig.data(0x03)
    assert rig.all() == [0xFA, 0xFE]


def test_interrupt_can_be_disabled() -> None:
    """Bit 0 of the configuration byte disables the interrupt, not the data."""
    rig = Rig()
    rig.command(0x60)
    rig.data(0x64)
    rig.keyboard.type_text(b"a")
    assert not rig.level
    assert rig.all() == [0x1E, 0x9E]


def test_no_mouse_and_no_reset() -> None:
    """There is no second port, and a pulse of the reset line is noted, not executed."""
    rig = Rig()
    rig.command(0xA9)
    assert rig.all() == [0xFF]
    rig.command(0xD4)
    rig.data(0xF4)
    assert rig.all() == []
    rig.command(0xD1)
    rig.data(0xDF)
    assert not rig.keyboard.reset_asked
    rig.command(0xFE)
    assert rig.keyboard.reset_asked
    rig.command(0xD0)
    assert rig.all() == [0xCF]
    rig.command(0xD2)
    rig.data(0x42)
    assert rig.all() == [0x42]
