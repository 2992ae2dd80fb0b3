"""The guest's terminal: the keys are the guest's, and what each sets off is shown beside its screen."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from stage import stage
from textual import events
from textual.pilot import Pilot

from app.tui.app import interface
from app.tui.lanes.scene import Scene, all_lanes
from app.tui.lanes.terminal import Keystroke, side_rows, until_sleep
from app.tui.rows import screenshot_svg
from app.tui.screens.machines.screen import MachinesScreen
from app.tui.screens.machines.terminal import GuestTerminal, sent, shown
from cores.lockstep.options import Options
from cores.pc.stop import Stop
from cores.programs.shipped import ASSETS
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Reason
from cores.x86.mode import Mode


@pytest.mark.parametrize(
    ("key", "character", "text"),
    [
        ("a", "a", b"a"), ("A", "A", b"A"), ("enter", "\r", b"\r"), ("backspace", None, b"\x7f"),
        ("tab", "\t", b"\t"), ("up", None, b"\x1b[A"), ("shift+left", None, b"\x1b[D"),
        ("f1", None, b"\x1bOP"), ("f12", None, b"\x1b[24~"), ("delete", None, b"\x1b[3~"),
        ("ctrl+c", None, b"\x03"), ("ctrl+z", None, b"\x1a"), ("question_mark", "?", b"?"),
        ("é", "é", b"\xe9"), ("f20", None, b""), ("ctrl+home", None, b""),
    ],
)  # fmt: skip
def test_what_a_key_sends(key: str, character: str | None, text: bytes) -> None:
    """A key sends what a terminal sends for it, and has a name."""
    assert sent(key, character) == text
    assert shown(key, character)


async def test_every_key_is_the_guests() -> None:
    """q, Ctrl+C, ? and F8 go to the guest; Ctrl+] then Esc sends Esc; Esc gives the keys back."""
    async with stage(screen="> ", spin=True) as s:
        await s.pilot.press("v")
        assert isinstance(s.app.screen, GuestTerminal)
        await s.see("The guest's screen")
        keys = ("q", "space", "ctrl+c", "question_mark", "f8", "up")
        for key in (*keys, "ctrl+right_square_bracket", "escape"):
            await s.pilot.press(key)
        assert isinstance(s.app.screen, GuestTerminal)
        wanted = "q \x03?\x1b[19~\x1b[A\x1b"
        await s.until(lambda: s.session.typed == wanted, "the keys")
        assert s.app.worker is not None
        await s.pilot.press("escape")
        await s.until(lambda: isinstance(s.app.screen, MachinesScreen), "Ringscope")
        await s.see("paused")  # it ran for the keys' sake alone


async def test_a_key_wakes_machines_whose_run_has_just_ended() -> None:
    """Whether they have to be let run is not read from the picture of a moment ago, in which they ran:
    the key would wait for ever."""
    async with stage(screen="> ", spin=True) as s:
        await s.pilot.press("v")
        await s.see("The guest's screen")
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        worker.snapshot = replace(worker.snapshot, running=True)
        await s.pilot.press("x")
        await s.until(lambda: "run" in s.session.calls, "the machines run")
        assert s.session.typed == "x"


async def test_the_cursor_stands_where_the_guest_has_put_it() -> None:
    """The cell of the CRT controller's cursor is marked, blank or not, also where the screen is cut at
    its top."""
    lines = "\n".join(f"line {n}" for n in range(24)) + "\n$ "
    async with stage(screen=lines, cursor=(24, 2)) as s:
        await s.pilot.press("v")
        await s.see("$ _")
        await s.pilot.resize_terminal(80, 24)
        await s.see("$ _")
        assert "line 0\n" not in s.text()


async def test_screen_and_console_of_a_guest_that_uses_both() -> None:
    """Ctrl+] Tab shows the console in place of the screen, and back; a guest that has one has no such
    key."""
    async with stage(screen="on the screen", serial_text="on the wire") as s:
        await s.pilot.press("v")
        await s.see("on the screen")
        await s.see("Ctrl+] Tab")
        await s.pilot.press("ctrl+right_square_bracket")
        await s.see("Tab shows the console")
        await s.pilot.press("tab")
        await s.see("on the wire")
        await s.pilot.press("ctrl+right_square_bracket", "tab")
        await s.see("on the screen")
    async with stage(screen="alone", serial_text="") as s:
        await s.pilot.press("v")
        await s.see("alone")
        assert "Ctrl+] Tab" not in s.text()


async def test_a_text_is_pasted() -> None:
    """A pasted text arrives whole, its line ends as the Enter key."""
    async with stage(spin=True) as s:
        await s.pilot.press("v")
        s.app.post_message(events.Paste("ls\ncat readme\r\n"))
        await s.until(lambda: s.session.typed == "ls\rcat readme\r", "the text")


async def test_the_prefix_alone_leaves() -> None:
    """Ctrl+] and any key but Esc give the keys back, and send nothing."""
    async with stage() as s:
        await s.pilot.press("v")
        await s.see("The guest's console")
        await s.pilot.press("ctrl+right_square_bracket")
        await s.see("any other key leaves")
        await s.pilot.press("x")
        await s.until(lambda: isinstance(s.app.screen, MachinesScreen), "Ringscope")
        assert s.session.typed == ""


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 48), (64, 16), (20, 5)])
async def test_any_size(size: tuple[int, int]) -> None:
    """At each size the end of the guest's screen is in sight."""
    screen = "\n".join(f"line {n}" for n in range(25))
    async with stage(size=(120, 40), screen=screen) as s:
        await s.pilot.press("v")
        await s.pilot.resize_terminal(*size)
        await s.pilot.pause()
        if size[0] >= 64:
            await s.see("line 24")


def test_a_key_ends_where_the_guest_sleeps_again() -> None:
    """The events of a key are those up to the HLT after the key was read; the timer's later ones are
    none of them."""

    def event(reason: Reason, detail: str = "") -> ExitEvent:
        return ExitEvent(0, 0, b"", reason, detail, "", 0, Mode.LONG, 1, 1)

    timer = (event(Reason.IRQ, "vector 0x20"), event(Reason.HLT))
    key = (event(Reason.IRQ, "vector 0x21"), event(Reason.IO, "keyboard"), event(Reason.HLT))
    assert until_sleep(timer) == (timer, False)
    assert until_sleep((*timer, *key, *timer)) == ((*timer, *key), True)


async def test_a_long_name_is_cut_at_its_beginning() -> None:
    """Keys typed fast have one row; its heading keeps its end, whatever they are."""
    async with stage((120, 40), screen="> ") as s:
        await s.press("e", "e", "e")
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        scene = Scene(worker.snapshot, 120, 40, all_lanes(worker.snapshot))
        events = worker.snapshot.machines[1].events
        key = Keystroke("o space t h e r e Enter", {}, {"trap:native": events}, settled=True)
        for width in (36, 40, 60):
            words = ["".join(text for text, _ in line) for line in side_rows(scene, (key,), width, 20)]
            assert any(line.endswith("Enter on TRAP, exit by exit") for line in words)
            assert all(len(line) <= width for line in words)


async def test_a_guest_that_sleeps_for_a_key_has_not_ended() -> None:
    """Halted for want of a key, a guest waits: the first row says so, and v comes first below."""
    async with stage() as s:
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        waiting = (replace(m, stop=Stop.HALTED, awaits_key=True) for m in worker.snapshot.machines)
        worker.snapshot = replace(worker.snapshot, machines=tuple(waiting))
        await s.see("waits for a key")
        await s.see("v type into the guest")
        assert "has ended" not in s.text()
        assert "ended" not in s.text().splitlines()[0]


async def test_a_machine_that_the_host_has_stopped_is_not_counted() -> None:
    """Of three machines one of which could not go on, two are the same: in registers and output."""
    async with stage((160, 48)) as s:
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        *going, last = worker.snapshot.machines
        machines = (*going, replace(last, stop=Stop.ERROR))
        worker.snapshot = replace(worker.snapshot, machines=machines)
        await s.see(f"What the guest prints  the same on the {len(going)} that could go on")
        await s.see(f"Registers  the same on the {len(going)} that could go on")


async def test_why_a_machine_is_stopped_is_said_in_whole_clauses() -> None:
    """The reason is cut between clauses; in the guest's terminal the lane says that it is stopped."""
    reason = (
        "this host lacks all that is needed for it: a guest of this kind stops, " + 8 * "and so on, "
    )
    async with stage((100, 30)) as s:
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        *going, last = worker.snapshot.machines
        machines = (*going, replace(last, stop=Stop.ERROR, reason=reason, instructions=0))
        worker.snapshot = replace(worker.snapshot, machines=machines)
        await s.see(
            "KVM       stopped: this host lacks all that is needed for it: a guest of this kind"
        )
        assert "0.0 %" not in s.text().splitlines()[0]  # of a machine that does not run
        await s.press("v")
        await s.see("The guest's")
        assert "stopped" in s.text().splitlines()[2]


async def test_a_guest_that_takes_keys_says_so() -> None:
    """Running freely with the keyboard's interrupt on, a guest is typed into by v."""
    async with stage() as s:
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        taking = tuple(replace(m, takes_keys=True) for m in worker.snapshot.machines)
        worker.snapshot = replace(worker.snapshot, machines=taking, running=True, mode="free")
        await s.see("v type into the guest")
        assert "guest's screen" not in s.text().splitlines()[-1]  # v, and once is enough
        await s.press("v")
        await s.see("it takes keys: type")


async def test_tinyos_is_typed_into() -> None:
    """tinyos takes a command letter by letter, and answers it on its screen."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    disk = str(ASSETS / "disks" / "files.img")
    app = interface("tinyos", Options(cores=("interpreter",), disks=(disk,)))
    async with app.run_test(size=(80, 24)) as pilot:
        await seen(app, pilot, "EMULATOR")
        await pilot.press("v", *"help", "enter")
        await seen(app, pilot, "preempted by the timer")
        await seen(app, pilot, "it waits for a key")
        await pilot.press(*"qq", "escape")
        await seen(app, pilot, "Who executes")
        assert app.is_running


async def seen(app: object, pilot: Pilot[int], words: str) -> None:
    for _ in range(6000):
        if words in screenshot_svg.text(app):  # type: ignore[arg-type]
            return
        await pilot.pause(0.01)
    raise AssertionError(f"{words!r} never came:\n{screenshot_svg.text(app)}")  # type: ignore[arg-type]
