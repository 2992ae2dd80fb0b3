"""Breakpoints, edits of state, the whole log, and the views inside a machine."""

from __future__ import annotations

import pytest
from fake_session import FakeSession
from stage import check_golden, stage

from app.tui.lanes.log import Events, visible
from app.tui.screens.ask import Ask
from app.tui.widgets.assembly_area import tokens
from app.tui.widgets.timeline import Timeline
from cores.debugging.breakpoints import AtAddress
from cores.debugging.edits import RegisterPoke


async def answer(s: object, key: str, text: str) -> None:
    """Press a key, and type the answer to its prompt."""
    await s.press(key)  # type: ignore[attr-defined]
    screen = s.app.screen  # type: ignore[attr-defined]
    assert isinstance(screen, Ask)
    screen.query_one("#answer").value = text  # type: ignore[attr-defined]
    await s.press("enter")  # type: ignore[attr-defined]


async def test_a_run_stops_at_a_breakpoint() -> None:
    """x sets one by its symbol, the gutter marks it, space runs to it, X clears it."""
    async with stage(size=(160, 48)) as s:
        await answer(s, "x", "next")
        assert s.screen.time.addresses == {0x100009}
        await s.see("◆   100009")
        await s.press("space")
        await s.see("Stopped at the breakpoint: next (100009)")
        assert s.session.moments[s.session.n].registers["rip"] == 0x100009
        await s.press("X", "space")
        assert s.session.n == s.session.last


async def test_a_breakpoint_at_the_next_instruction_and_by_a_click() -> None:
    """Enter accepts the proposed address; a click on an instruction sets and clears a breakpoint."""
    async with stage(size=(160, 48)) as s:
        await s.press("n", "x", "enter")
        assert s.screen.time.addresses == {0x100001}
        row = next(y for y, line in enumerate(s.text().splitlines()) if " 10000b  " in line)
        await s.pilot.click(offset=(4, row))
        assert AtAddress(0x10000B) in s.app.worker.breakpoints  # type: ignore[union-attr]
        await s.pilot.click(offset=(4, row))
        assert s.screen.time.addresses == {0x100001}
        await answer(s, "x", "nonsense here")
        await s.see("is no address, symbol or condition")


async def test_a_register_is_poked_on_all_machines_or_one() -> None:
    """p changes a register on all machines, @core on one; invalid input is refused in words."""
    async with stage() as s:
        await answer(s, "p", "rax = 48")
        await answer(s, "p", "rbx=1 @trap")
        assert s.session.poked == [
            (RegisterPoke("rax", 0x48), None),
            (RegisterPoke("rbx", 1), "trap:native"),
        ]
        await answer(s, "p", "cr3 = 0")
        await s.see("is no register, address or symbol")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("m", ["Memory  of TRAP AND EMULATE", "at rsp"]),
        ("t", ["Walk of 100000", "page directory", "a page of 4 KiB", "stale in user: 400000"]),
        ("T", ["64-bit code", "#GP", "10:100016 done", "rsp0 9000"]),
        ("R", ["What the guest believes", "the guest, kernel and all"]),
        ("D", ["PIC, master", "9,600 baud"]),
        (
            "N",
            [
                "leads to user",
                "who has 10.0.2.2?",
                "damaged: a frag",
                "not known",
                "3 packets, and",
                "and 7 before",
            ],
        ),
    ],
)
@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_inside(size: tuple[int, int], key: str, words: list[str]) -> None:
    """Each key opens its tab, stepping goes on beside it, and the same key closes it."""
    async with stage(size=size) as s:
        await s.press("n", key)
        text = ""
        for _ in range(40):  # what does not fit is scrolled to
            if s.text() in text:
                break
            text += s.text()
            await s.press("down")
        for word in words:
            assert word in text, text
        await s.press("n")
        assert s.session.n == 2
        await s.press(key)
        await s.see("Registers  the same on all three")


async def test_memory_follows_and_marks() -> None:
    """a takes a symbol, an address or a register; a changed byte has a mark besides its colour."""
    async with stage(size=(120, 40)) as s:
        await s.press("m")
        await answer(s, "a", "100100")
        await s.see("48 65*6c 6c 6f 2c")
        await s.see("Hello, ring 0!")
        await answer(s, "a", "rsi")
        assert s.screen.looking.inside.where == "rsi"
        await answer(s, "a", "nowhere")
        await s.see("is no address, symbol or register")
        await s.press("escape")
        await s.see("Registers  the same on all three")


@pytest.mark.parametrize("key", ["m", "t"])
async def test_the_inside_looks_so(key: str) -> None:
    """The views match their golden screens."""
    async with stage(size=(160, 48)) as s:
        await s.press("e", "e", key)
        await s.press("a", *"100100", "enter")
        check_golden(f"inside-{key}-160x48", s.text())


async def test_the_log_goes_back_to_the_first_event() -> None:
    """Events older than the snapshot's are fetched from the session."""
    long = "x" * 300
    async with stage(text=long) as s:
        await s.press("space", "w", "w", "w", "home")
        assert s.screen.looking.selected == 0
        await s.see("virtual IF = 0")
        await s.press("pagedown", "end")
        assert s.screen.looking.selected is None


def test_the_log_shows_the_chosen_event() -> None:
    """The chosen event is visible, whichever of a thousand it is."""
    session = FakeSession(text="x" * 300)
    session.n = session.last
    machine = session.snapshot().machines[1]
    events = tuple(session.events("trap:native"))
    for number in (0, 1, 100, 250, len(events) - 1):
        shown = Events(machine, number, events, 0)
        assert (number, events[number]) in visible(shown, 8)
        assert shown.event == events[number]


async def test_the_card_says_what_the_exit_changed() -> None:
    """The card shows the registers before and after an exit, found by executing it again."""
    async with stage(size=(120, 40)) as s:
        await s.press("e", "e", "e", "w", "w", "w", "up", "enter")
        await s.see("rip 10000f to 100011")
        assert "around" in s.session.calls


async def test_the_way_to_an_instruction_is_a_bar() -> None:
    """A long seek shows a progress bar."""
    async with stage(size=(80, 24)) as s:
        s.screen.query_one(Timeline).show(400, {}, (400, 1000))
        await s.see("on the way to 1,000")
        await s.see("40 %")


async def test_a_disk_is_loaded() -> None:
    """L asks for an image and opens the program again with it."""
    async with stage() as s:
        asked: list[tuple[str, object]] = []

        def opened(path: str, disk: str | None = None) -> object:
            asked.append((path, disk))
            return lambda: FakeSession()

        s.app._open_program = opened  # type: ignore[assignment]  # a stand-in for the loader
        await answer(s, "L", "disk.img")
        await s.see("none yet")
        assert asked == [("hello.s", "disk.img")]


def test_assembly_is_cut_into_its_parts() -> None:
    """A comment sign in a string begins no comment, and operands are not taken for mnemonics."""
    line = "next:   rep movsb ; mov al, '#'  # 0x48"
    found = [(line[a:b], kind) for a, b, kind in tokens(line)]
    assert found == [
        ("next:", "label"), ("rep", "mnemonic"), ("movsb", "mnemonic"), ("mov", "mnemonic"),
        ("'#'", "string"), ("# 0x48", "comment"),
    ]  # fmt: skip
