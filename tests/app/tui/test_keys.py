"""Each key of the machines' screen does what it says."""

from __future__ import annotations

import pytest
from fake_session import PROGRAM, FakeSession
from stage import stage

from app.tui.screens.ask import Ask
from app.tui.screens.sheet import Sheet
from app.tui.widgets.switches import Switches


@pytest.mark.parametrize(
    ("keys", "call", "instruction"),
    [
        (["n"], "step", 1),
        (["n", "n", "b"], "go_to", 1),
        (["e"], "next_exit", 1),
        (["e", "e", "e"], "next_exit", 7),
        (["e", "e", "e", "E"], "go_to", 6),
        (["n", "n", "r"], "restart", 0),
        (["space"], "run", 98),
        (["f"], "run", 98),
    ],
)
async def test_a_key_moves_all_machines(keys: list[str], call: str, instruction: int) -> None:
    """n b e E r space f reach the session, and the screen shows the new position."""
    async with stage() as s:
        await s.press(*keys)
        assert call in s.session.calls
        assert s.session.n == instruction
        if s.session.mode == "exact":
            await s.see(f" {instruction} instr")


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


async def test_views_of_the_world_switches() -> None:
    """w cycles through log, dialogue and chart."""
    async with stage() as s:
        await s.press("e", "e", "e")
        await s.see("[log]")
        await s.see("console 'H'")
        await s.press("w")
        await s.see("Guest OS   CPU, `out 0xe9, al`: talk")
        await s.press("w")
        await s.see("of time")
        await s.press("w")
        await s.see("[log]")


async def test_an_exit_is_chosen_and_its_card_opened() -> None:
    """up marks an exit; Enter shows its bytes, the rule, what the VMM did and the cost."""
    async with stage() as s:
        await s.press("e", "e", "e", "up", "up")
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


async def test_machines_are_shown_and_hidden() -> None:
    """On a wide screen 3 shrinks the third machine to a line, and brings it back."""
    async with stage(size=(160, 48)) as s:
        assert "3 HARDWARE" in s.text()
        await s.press("3")
        assert s.screen.looking.shown_panes(3) == {1, 2}
        await s.see("3 HARDWARE  kvm  rip 100000")
        await s.press("3")
        assert s.screen.looking.shown_panes(3) == {1, 2, 3}


async def test_a_narrow_screen_shows_one_machine() -> None:
    """At 80 columns 1 2 3 and the arrows choose the machine that has the pane."""
    async with stage(size=(80, 24)) as s:
        assert s.screen.looking.shown_panes(3) == {2}
        await s.press("1")
        assert s.screen.looking.shown_panes(3) == {1}
        await s.see("─ 1 EMULATOR")
        await s.press("right", "right")
        assert s.screen.looking.shown_panes(3) == {3}


async def test_the_interpreter_has_no_exits_and_says_so() -> None:
    """The interpreter's pane says that it has no exits."""
    async with stage() as s:
        await s.press("e", "e", "left")
        await s.see("no world to switch")


async def test_help_and_guest_screen_and_typing() -> None:
    """? v and t open their sheets; typed text reaches the guests."""
    async with stage(screen="From the VGA screen") as s:
        await s.press("question_mark")
        await s.see("Help: The machines")
        await s.press("escape", "v")
        await s.see("What the guest shows on trap:native")
        await s.press("escape", "k", "h", "i", "enter")
        assert s.session.typed == "hi\n"


async def test_escape_closes_one_level_and_never_leaves() -> None:
    """Esc closes the inside of a machine; with nothing open it does nothing at all."""
    async with stage() as s:
        await s.press("m")
        assert s.screen.inside.tab == "memory"
        await s.press("escape")
        assert s.screen.inside.tab == ""
        await s.press("n", "escape", "escape")
        await s.see(" 1 instr")
        assert not s.session.closed


async def test_every_key_is_in_the_palette() -> None:
    """ctrl+p lists each action of the screen by its name."""
    async with stage() as s:
        titles = {command.title for command in s.app.get_system_commands(s.app.screen)}
        wanted = {"Step", "Run or pause", "Next exit", "Go to instruction", "Restart", "Help", "Light"}
        assert wanted <= titles
        assert not {"Screenshot", "Maximize", "Keys"} & titles  # Textual's own, which ours replace


async def test_clicks() -> None:
    """Tabs, key hints, panes and the timeline react to clicks."""
    async with stage(size=(160, 48)) as s:
        await s.press("e", "e", "e")
        tabs = s.screen.query_one(Switches)
        await s.pilot.click(tabs, offset=(27, 0))
        await s.see("[dialogue]")
        await s.pilot.click("#machine-3")
        await s.see("of kvm")
        await s.pilot.click("#keys", offset=(12, 0))
        await s.until(lambda: s.session.n == 8, "a step by a click")
        await s.pilot.click("#timeline", offset=(11, 0))
        await s.until(lambda: s.session.n == 0, "instruction 0 by a click")


async def test_a_divergence_is_named() -> None:
    """A divergence is shown with its instruction, difference and cores; the register is marked; d goes
    there."""
    async with stage(size=(160, 48), diverges=True) as s:
        await s.press("n", "n")
        await s.see("The machines part after 1 instruction, by `pushfq` at 100001: rflags differs")
        await s.see("rflags: interpreter 2, trap:native 202, kvm 2")
        await s.see("≠")
        await s.press("n", "d")
        assert s.session.n == 1


async def test_a_machine_that_the_host_stopped_says_why() -> None:
    """A machine that the host stopped shows the reason in its pane."""
    async with stage(error="the vCPU process was killed by signal 9") as s:
        await s.see("the vCPU process was killed")
        await s.see("the host could not go on")


async def test_a_guest_that_has_got_out_is_named() -> None:
    """The header says that control is lost, and what the guest holds."""
    async with stage(size=(160, 48), escaped=("trap:native: [stack] is mapped at 7ffe0000",)) as s:
        await s.see("control LOST: trap:native: [stack] is mapped at 7ffe0000")
    async with stage(size=(80, 24), escaped=("trap:native: descriptor 3 is open",)) as s:
        await s.see("control LOST")


async def test_a_missing_core_has_its_reason_in_a_line() -> None:
    """With one core absent two machines run, and a line gives the reason."""
    why = (("kvm", "/dev/kvm does not exist"),)
    async with stage(cores=("interpreter", "trap:native"), unavailable=why) as s:
        await s.see("kvm  cannot run here: /dev/kvm does not exist")


async def test_the_end_is_told_in_words() -> None:
    """The pane of a guest that has ended shows how it ended."""
    async with stage() as s:
        await s.press("space")
        await s.see("exited with status 0")
        await s.see("ended")
        assert "Hello, ring 0!" in s.text()


async def test_only_changed_rows_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that changes one register repaints a few rows of a pane only."""
    async with stage(size=(160, 48)) as s:
        await s.press(*["n"] * 5)
        pane = s.screen.query_one("#machine-1")
        painted: list[int] = []
        refresh = pane.refresh

        def counting(*regions: object, **options: object) -> object:
            painted.append(len(regions))
            return refresh(*regions, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(pane, "refresh", counting)
        await s.press("n")
        assert painted
        assert 0 not in painted  # 0 regions: all of it
        assert max(painted) < 12


def test_the_fake_has_a_life() -> None:
    """The fake session prints its text and ends, as the other tests assume."""
    session = FakeSession()
    session.run(1)
    assert session.moments[-1].console == "Hello, ring 0!\n"
    assert len(PROGRAM) == 13
