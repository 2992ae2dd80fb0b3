"""A device of the user's own: plugged in, saved, and refused with its line where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_lab import needs_assembler, program, require

from cores.debugging.live_session import LiveSession
from cores.debugging.saved_session import save
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.pc.devices.own_device import load_devices
from cores.pc.stop import Stop

HEAD = "from cores.pc.devices.base import Device\nclass Dice(Device):\n"
DICE = (
    HEAD
    + """
    ports = (0x300,)
    def __init__(self):
        self.rolls = []
    def read(self, port, size):
        self.rolls.append(len(self.rolls))
        return 48 + self.rolls[-1]
    def write(self, port, size, value):
        self.rolls = [0] * (10 // value)
"""
)
ROLL = "mov dx, 0x300\n" + "in al, dx\nout 0xe9, al\n" * 3 + "mov al, 0\nout 0xf4, al\n"


@pytest.fixture
def dice(tmp_path: Path) -> str:
    (tmp_path / "dice.py").write_text(DICE)
    return str(tmp_path / "dice.py")


@needs_assembler
def test_it_is_the_same_on_every_core_and_goes_back(dice: str) -> None:
    """Each machine has one of its own, whose state is restored with the machine's."""
    require("trap:portable")
    options = Options(cores=("interpreter", "trap:portable"), devices=(dice,))
    live = LiveSession(program(ROLL), options)
    try:
        while live.run(1.0):
            pass
        assert live.divergence is None
        assert {machine.console() for machine in live.machines} == {"012"}
        live.go_to(3)
        while live.run(1.0):
            pass
        assert {machine.console() for machine in live.machines} == {"012"}
        with pytest.raises(InputError, match="cannot be saved"):
            save(live, "nowhere.session")
    finally:
        live.close()


@needs_assembler
def test_what_it_raises_stops_the_machine(dice: str) -> None:
    """An exception names file, line and device, and is no crash of ours."""
    require("interpreter")
    source = program("mov dx, 0x300\nmov al, 0\nout dx, al\n")
    session = Session(source, Options(cores=("interpreter",), devices=(dice,)))
    session.run_to_end()
    (machine,) = session.machines
    assert machine.stop is Stop.ERROR
    assert machine.vmm.reason.startswith(f"{dice}:11: Dice: ZeroDivisionError")
    session.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", ":1: no Python"), ("\nimport nonsense", ":2: ModuleNotFoundError"),
        ("x = 1", "no class"),
        (HEAD + "    ports = (0x300,)\n", "has no read and no write"),
        (DICE.replace("0x300,", "0x10000,"), "no port numbers"),
        (DICE.replace("(0x300,)", "0x300"), "no port numbers"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    """What is no device is refused, with the line where there is one."""
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(InputError, match=said):
        load_devices(str(tmp_path / "own.py"))


@needs_assembler
def test_a_port_that_is_taken(dice: str) -> None:
    """It may not take the place of the PC's own."""
    require("interpreter")
    Path(dice).write_text(DICE.replace("0x300", "0x60"))
    with pytest.raises(InputError, match="port 0x60 is the keyboard's"):
        Session(program(ROLL), Options(cores=("interpreter",), devices=(dice,)))
