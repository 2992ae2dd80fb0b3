"""Each key of the machines' screen does what it says."""

from __future__ import annotations

import pytest
from fake_session import PROGRAM, FakeSession
from stage import stage

from app.tui.screens.ask import Ask
from app.tui.screens.sheet import Sheet


@pytest.mark.parametrize(
    ("keys", "call", "instruction"),
    [
        (["n"], "step", 1),
        (["n", "n", "b"], "go_to", 1),
        (["e"], "next_exit", 1),
        (["e", "e", "e"], "next_exit", 7),
        (["e", "e", "e", "E"], "go_to", 6),
        (["n", "n", "0"], "restart", 0),
        (["space"], "run", 98),
        (["f"], "run", 98),
    ],
)
async def test_a_key_moves_all_machines(keys: list[str], call: str, instruction: int) -> None:
    """n b e E 0 space f reach the session, and the screen shows the new position."""
    async with stage() as s:
        await s.press(*keys)
        assert call in s.session.calls
        assert s.session.n == instruction
        if s.session.mode == "exact":
            await s.see(f"\n {instruction} ")


async def test_go_to(capsys: pytest.CaptureFixture[str]) -> None:
    """g asks for a number, and refuses anything else."""
    async with stage() as s:
        await s.press("g")
        assert isinstance(s.app.screen, Ask)
        await s.press("1", "2", "enter")
        assert s.session.n == 12
        await s.press("g", "x", "enter")
        await s.see("is not a number")
        await s.press("g", "escape")
        assert s.session.calls.count("go_to") == 1


async def test_space_pauses_a_guest_that_spins() -> None:
    """While a guest spins the screen answers, and space pauses it."""
    async with stage(spin=True) as s:
        await s.pilot.press("space")
        await s.until(lambda: s.session.spun > 3, "slices of the run")
        await s.see("running")
        await s.press("space")
        spun = s.session.spun
        await s.see("paused")
        assert s.session.spun == spun


async def test_quitting_closes_the_session_while_a_guest_spins() -> None:
    """q and q again end the app with code 0, Ctrl-C with 130; the session is closed either way."""
    for keys, code in ((("q", "q"), 0), (("ctrl+c",), 130)):
        async with stage(spin=True) as s:
            await s.pilot.press("space")
            await s.until(lambda s=s: s.session.spun > 1, "the run")  # type: ignore[misc]
            await s.pilot.press(*keys)
        assert s.app.return_value == code
        assert s.session.closed


async def test_slower_and_faster() -> None:
    """minus slows a run down to steps at a chosen speed."""
    async with stage(spin=True) as s:
        await s.press(*["minus"] * 9)
        assert s.screen.time.speed == 0
        await s.pilot.press("space")
        await s.see("running at 1/s")
        await s.pilot.press("plus")
        await s.press("space")
        assert "step" in s.session.calls


async def test_views_of_the_lower_part() -> None:
    """w turns from three ways to the conversation, the reasons, the log, and back."""
    async with stage() as s:
        await s.press("e", "e", "e")
        await s.see("The CPU refused it: privileged, and this is ring 3 (#GP). The VMM did it.")
        await s.press("w")
        await s.see("Guest OS  CPU, `out 0xe9, al`: talk")
        await s.press("w")
        await s.see("in, out: a device's port")
        await s.press("w")
        await s.see("The latest exits  of TRAP AND EMULATE")
        await s.press("w")
        await s.see("Software (fake) did it, device and all.")


async def test_an_exit_is_chosen_and_its_card_opened() -> None:
    """up marks an exit of the log; Enter shows its bytes, the rule, what the VMM did and the cost."""
    async with stage() as s:
        await s.press("e", "e", "e", "w", "w", "w", "up", "up")
        assert s.screen.looking.selected == 0
        await s.press("enter")
        assert isinstance(s.app.screen, Sheet)
        for words in (
            "Exit 1 of trap:native",
            "fa",
            "Switches interrupts off",
            "Virtual IF = 0.",
            "21.0 µs",
        ):
            await s.see(words)
        await s.press("escape", "down", "down", "down")
        assert s.screen.looking.selected is None


async def test_an_instruction_in_full_on_every_machine() -> None:
    """Enter tells what each machine did with it, the emulator, too, and what the kernel has saved."""
    async with stage(size=(120, 50)) as s:
        await s.press("e", "e", "e", "enter")
        for words in (
            "bytes e6 e9   at 10000f",
            "EMULATOR   fake, host memory at 0x7f21c0a8d3a0",
            "It reads e6 e9, finds `out`, and calls its own device: console 'H'.",
            "in ring 3 (it believes: 0)",
            "The saved RIP is still 10000f",
            "the CPU leaves guest mode",
        ):
            await s.see(words)


async def test_machines_are_shown_and_hidden() -> None:
    """1 2 3 take a lane away and bring it back; the last one stays."""
    async with stage(size=(120, 40)) as s:
        assert "3 KVM" in s.text()
        await s.press("3")
        assert "3 KVM" not in s.text()
        await s.see("One program, two machines")
        await s.press("1", "2")
        await s.see("2 TRAP AND EMULATE")
        await s.press("1", "3")
        await s.see("One program, three machines")


async def test_what_takes_the_place_of_what() -> None:
    """r z P show registers, the program alone, large digits; the same key brings the session back."""
    async with stage(size=(100, 30)) as s:
        await s.press("e", "r")
        await s.see("Registers, each machine's own")
        await s.see("CPU: host's")
        await s.press("r", "z")
        await s.see("exits so far")
        await s.press("z", "P")
        await s.see("how often the guest was left")
        await s.press("P")
        await s.see("Its ring: as it believes, really")
        await s.press("z", "escape")
        await s.see("Its ring: as it believes, really")


async def test_what_is_opened_and_closed_leaves_no_trace() -> None:
    """A part that is opened and closed again, or a window made smaller and larger, leaves the exit in
    sight, and its cells in their columns."""
    async with stage() as s:
        await s.press("e", "e", "e")

        def exit_row() -> str:
            lines = s.text().splitlines()
            return next((line for line in lines if line.startswith(" done")), "not drawn yet")

        before = exit_row()
        assert before.count("⇄ 1") == 2
        for key in ("R", "t", "m", "T", "D", "N", "r", "z", "P"):
            await s.press(key, key)
            assert exit_row() == before, key
        for size in ((80, 24), (40, 10), (200, 60), (120, 40)):
            await s.pilot.resize_terminal(*size)
            await s.pilot.pause()
        await s.until(lambda: exit_row() == before, "the same columns again")


async def test_the_emulator_never_leaves_and_says_so() -> None:
    """Once others have left their guests, its lane says never, and stays inside."""
    async with stage() as s:
        assert "never" not in s.text()
        await s.press("e")
        await s.see("never")
        await s.see("stays inside")


async def test_help_and_guest_screen_and_typing() -> None:
    """? v and t open their sheets; typed text reaches the guests."""
    async with stage(screen="From the VGA screen") as s:
        await s.press("question_mark")
        await s.see("Help: The machines")
        await s.press("escape", "v")
        await s.see("From the VGA screen")
        await s.press("escape", "k", "h", "i", "enter")
        assert s.session.typed == "hi\n"


async def test_escape_closes_one_level_and_never_leaves() -> None:
    """Esc lets a picked line go, then closes the inside; with nothing open it does nothing."""
    async with stage() as s:
        await s.press("m", "escape", "down", "escape", "escape", "escape")
        assert s.screen.looking.picked is None
        assert s.screen.is_current
        assert not s.session.closed


async def test_every_key_is_in_the_palette() -> None:
    """ctrl+p lists each action of the screen by its name."""
    async with stage() as s:
        titles = {command.title for command in s.app.get_system_commands(s.app.screen)}
        wanted = {"Step", "Run or pause", "Next exit", "Go to instruction", "Begin anew", "Light"}
        assert wanted <= titles
        assert not {"Screenshot", "Maximize", "Keys"} & titles  # Textual's own, which ours replace


async def test_clicks() -> None:
    """A click picks a line, sets a breakpoint at its left end, presses a key, goes along the
    timeline."""
    async with stage(size=(160, 48)) as s:
        await s.press("e", "e", "e")
        row = next(y for y, line in enumerate(s.text().splitlines()) if "test    al, al" in line)
        await s.pilot.click(offset=(30, row))
        assert s.screen.looking.picked == 0x10000B
        await s.pilot.click(offset=(3, row))
        assert s.screen.time.addresses == {0x10000B}
        await s.see("◆")
        await s.press("escape")
        await s.pilot.click("#region-lower", offset=(150, 0))
        await s.see("in full")
        await s.press("escape")
        await s.pilot.click("#keys", offset=(14, 0))
        await s.until(lambda: s.session.n == 8, "a step by a click")
        await s.pilot.click("#timeline", offset=(3, 0))
        await s.until(lambda: s.session.n == 0, "instruction 0 by a click")


async def test_a_divergence_is_named() -> None:
    """A divergence is shown with its instruction, difference and cores; the register is marked; d goes
    there."""
    async with stage(size=(160, 48), diverges=True) as s:
        await s.press("n", "n")
        await s.see("They parted at instruction 2: pushfq answers otherwise on TRAP AND EMULATE.")
        await s.see("not equal from 2 on")
        await s.see("≠ flags")
        await s.press("n", "d")
        assert s.session.n == 1


async def test_a_machine_that_the_host_stopped_says_why() -> None:
    """A machine that the host stopped has the reason in its lane."""
    async with stage(size=(160, 48), error="the vCPU process was killed by signal 9") as s:
        await s.see("stopped: the vCPU process")
        await s.see("was killed by signal 9")


async def test_a_guest_that_has_got_out_is_named() -> None:
    """The header says that control is lost, and what the guest holds."""
    async with stage(size=(160, 48), escaped=("trap:native: [stack] is mapped at 7ffe0000",)) as s:
        await s.see("NOT confined: trap:native: [stack] is mapped at 7ffe0000")
    async with stage(size=(80, 24), escaped=("trap:native: descriptor 3 is open",)) as s:
        await s.see("NOT confined")


async def test_a_missing_core_has_its_reason_in_its_lane() -> None:
    """With one core absent two machines run, and its lane has the reason."""
    why = (("kvm", "/dev/kvm does not exist"),)
    async with stage(cores=("interpreter", "trap:native"), unavailable=why) as s:
        await s.see("3 KVM")
        await s.see("cannot run here:")
        await s.see("/dev/kvm does not")


async def test_the_end_is_told_in_words() -> None:
    """Above the program of a guest that has ended stands how it ended."""
    async with stage() as s:
        await s.press("space")
        await s.see("exited with status 0")
        await s.see("ended")
        assert "Hello, ring 0!" in s.text()


async def test_only_changed_rows_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step repaints a few rows of the program only."""
    async with stage(size=(160, 48)) as s:
        await s.press(*["n"] * 5)
        pane = s.screen.query_one("#region-program")
        painted: list[int] = []
        refresh = pane.refresh

        def counting(*regions: object, **options: object) -> object:
            painted.append(len(regions))
            return refresh(*regions, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(pane, "refresh", counting)
        await s.press("n")
        assert painted
        assert 0 not in painted  # 0 regions: all of it
        assert max(painted) < 6


def test_the_fake_has_a_life() -> None:
    """The fake session prints its text and ends, as the other tests assume."""
    session = FakeSession()
    session.run(1)
    assert session.moments[-1].console == "Hello, ring 0!\n"
    assert len(PROGRAM) == 13
