"""docs/extending.md: its examples, applied to a copy of the source tree, work there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cores.engines import registry
from cores.programs.assembler import keystone

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "extending.md"
PACKAGES = ("app", "assets", "cores", "lessons")
PART = re.compile(
    r"^## (?P<title>[^\n]+)$"
    r"|^(?P<fence>`{3,})\w+ (?P<how>new|after|instead) (?P<path>[^\s:]+)(?:: (?P<anchor>[^\n]*))?\n"
    r"(?P<text>.*?)^(?P=fence)$",
    re.M | re.S,
)

needs_assembler = pytest.mark.skipif(not keystone.installed(), reason="Keystone is not installed")


@dataclass(frozen=True)
class Edit:
    """how: "new" file, lines "after" an ``anchor``, or "instead" of it."""

    section: str
    how: str
    path: str
    anchor: str
    text: str


def edits() -> list[Edit]:
    """All edits of the page, each with its heading."""
    found, section = [], ""
    for part in PART.finditer(PAGE.read_text()):
        if part["title"]:
            section = part["title"]
        else:
            found.append(Edit(section, part["how"], part["path"], part["anchor"] or "", part["text"]))
    return found


def apply(edit: Edit, tree: Path) -> None:
    target = tree / edit.path
    if edit.how == "new":
        assert not target.exists(), f"{edit.path} is there already"
        target.write_text(edit.text)
        return
    lines = target.read_text().splitlines(keepends=True)
    places = [n for n, line in enumerate(lines) if line.strip() == edit.anchor]
    assert places, f"{PAGE.name}, {edit.section}: {edit.path} has no line {edit.anchor!r}"
    at = places[0]
    lines[at : at + 1] = [edit.text] if edit.how == "instead" else [lines[at], edit.text]
    target.write_text("".join(lines))


def copied(tree: Path, *sections: str) -> Path:
    """A copy of the packages, with these sections' edits, or all."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    for edit in edits():
        if edit.section in sections or not sections:
            apply(edit, tree)
    return tree


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy with all edits of the page."""
    return copied(tmp_path_factory.mktemp("extended"))


def ringscope(tree: Path, *words: str) -> str:
    return python(tree, str(tree / "app" / "__main__.py"), *words)


def python(tree: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-B", *words], cwd=tree, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tree), "RINGSCOPE_DATA": str(tree)},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_every_section_has_an_example() -> None:
    """Seven sections have a file to write; the eighth says where a mode of the CPU is looked at."""
    new = {edit.section for edit in edits() if edit.how == "new"}
    assert new == {
        "A device", "An engine", "A guest", "A lesson", "A screen pane", "A command",
        "A boot protocol",
    }  # fmt: skip


def test_a_device_is_two_files(tmp_path: Path) -> None:
    """The section touches a new file and the board's list only, and the device answers, is logged,
    saved and restored, and describes its state."""
    assert len({edit.path for edit in edits() if edit.section == "A device"}) == 2
    told = python(copied(tmp_path, "A device"), "-c", DEVICE)
    assert told.split("\n") == ["42", "POST code 0x2a", "(('code', '2a'),)", "42", ""]


DEVICE = """
from cores.pc.devices.board import Board
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import MIB, Ram
ram = Ram(2 * MIB)
board = Board(PhysicalMemory(ram))
board.write(0x80, 1, 42)
print(board.read(0x80, 1))
print(board.describe(0x80, 1, 42, True))
state = board.save()
print(next(device.facts(0) for device in board.devices if device.title == "POST code"))
board.write(0x80, 1, 1)
board.restore(state)
print(board.read(0x80, 1))
ram.close()
"""


@needs_assembler
def test_an_engine_and_a_guest(extended: Path) -> None:
    """The guest is found by its name, and the engine equals the interpreter, exact and free."""
    for mode in ([], ["--free"]):
        words = ("compare", "countdown", "--cores", "interpreter,stepped", "--json", *mode)
        report = json.loads(ringscope(extended, *words))
        assert report["equivalent"] is True
        assert [core["core"] for core in report["cores"]] == ["interpreter", "stepped"]
        assert {core["console"] for core in report["cores"]} == {"9876543210\n"}


@needs_assembler
@pytest.mark.skipif(not registry.availability("trap").available, reason="the lesson needs a trap core")
def test_a_lesson(extended: Path) -> None:
    """All claims of the lesson hold on the machines."""
    assert "16-countdown" in ringscope(extended, "check", "lessons/course/16-countdown.md")


def test_a_command(extended: Path) -> None:
    """The command is listed by --help, and works."""
    assert "list the devices of the PC by their ports" in ringscope(extended, "--help")
    assert "0x0080  POST code" in ringscope(extended, "ports")


def test_a_boot_protocol(extended: Path) -> None:
    """A file with that ending begins in the protocol's state."""
    (extended / "x.rsi").write_bytes(b"\xf4")
    assert python(extended, "-c", BOOT).split() == ["0x10000", "0x0"]


BOOT = """
from cores.engines import registry
from cores.machine.machine import Machine
from cores.programs.loader import load_program
from cores.x86.registers import RDI, RSI
machine = Machine(load_program("x.rsi"), registry.create("interpreter"), ram=2 << 20)
cpu = machine.cpu
print(hex(cpu.gpr[RSI]), hex(cpu.gpr[RDI]))
machine.close()
"""


def test_a_screen_pane(extended: Path) -> None:
    """The key opens the tab, and the tab shows a machine's notes."""
    told = python(extended, "-c", PANE)
    assert "Notes  of" in told
    assert "port 0x80" not in told
    assert "port 0x99 has no device" in told


PANE = """
import asyncio, os
os.environ["RINGSCOPE_CONFIG"] = os.devnull
from app.tui.app import interface
from app.tui.rows import screenshot_svg
from cores.lockstep.options import Options
open("x.bin", "wb").write(bytes.fromhex("e680e699ebfe"))

async def show():
    app = interface("x.bin", Options(cores=("interpreter",)))
    async with app.run_test(size=(120, 40)) as pilot:
        while app.worker is None or app.worker.snapshot is None:
            await pilot.pause(0.01)
        for key in "nnO":
            await pilot.press(key)
            while not app.worker.idle:
                await pilot.pause(0.01)
        app.screen.tick()
        await pilot.pause()
        print(screenshot_svg.text(app))

asyncio.run(show())
"""
