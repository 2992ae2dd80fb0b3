"""Golden screens: the main screens as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage import check_golden, stage

from app.tui.app import RingscopeApp
from app.tui.lanes.reasons import reason_rows
from app.tui.lanes.scene import Scene, all_lanes
from app.tui.rows.glyphs import ASCII
from app.tui.rows.theme import PALETTES
from tests.sampling import all_but

SIZES = [(80, 24), (100, 30), (120, 40), (160, 48), (200, 60)]


def name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@pytest.mark.parametrize("size", SIZES, ids=name)
async def test_session(size: tuple[int, int]) -> None:
    """The session screen after an exit, and after three ordinary instructions more."""
    async with stage(size=size) as s:
        await s.press(*"eee")
        check_golden(f"exit-{name(size)}", s.text())
        await s.press(*"nnn")
        check_golden(f"steps-{name(size)}", s.text())


@pytest.mark.parametrize("size", all_but([(80, 24), (120, 40)], (120, 40)), ids=name)
@pytest.mark.parametrize(
    ("keys", "golden"),
    [("eeew", "conversation"), ("eeeww", "reasons"), ("eeewww", "log"), ("eeer", "registers"),
     ("eeez", "alone"), ("eeeP", "projector")],
)  # fmt: skip
async def test_views(size: tuple[int, int], keys: str, golden: str) -> None:
    """Each view in its place."""
    async with stage(size=size) as s:
        await s.press(*keys)
        check_golden(f"{golden}-{name(size)}", s.text())


@pytest.mark.parametrize("height", [16, 17, 19, 22, 29, 35])
async def test_every_view_fits(height: int) -> None:
    """At any height that is enough the bottom row has the keys: no view is higher than the screen."""
    async with stage(size=(64, height), screen="the guest's screen") as s:
        for keys in ("eee", "w", "w", "w", "r", "rz", "zP", "Pm", "mt", "tR", "RD", "DT", "Tf"):
            await s.press(*keys)
            lines = s.text().splitlines()
            assert lines[-1].endswith("? help"), s.text()
            assert lines[0].split()[-1] in ("paused", "ended"), s.text()  # and no scroll bar


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=name)
async def test_a_divergence(size: tuple[int, int]) -> None:
    """The parting of the machines, and registers where they differ."""
    async with stage(size=size, diverges=True) as s:
        await s.press(*"een")
        check_golden(f"diverged-{name(size)}", s.text())


@pytest.mark.parametrize("cores", [("trap:native",), ("interpreter", "kvm")], ids="-".join)
async def test_fewer_machines(cores: tuple[str, ...]) -> None:
    """One machine and two have wider lanes."""
    async with stage(size=(80, 24), cores=cores) as s:
        await s.press(*"eee")
        check_golden(f"machines-{len(cores)}-80x24", s.text())


async def test_four_machines() -> None:
    """Two of a kind are told apart, and every lane keeps its facts at 80x24."""
    cores = ("interpreter", "trap:native", "trap:portable", "kvm")
    async with stage(size=(80, 24), cores=cores) as s:
        await s.press(*"eee")
        check_golden("machines-4-80x24", s.text())


async def test_a_free_run() -> None:
    """Nothing is counted or compared; reasons take the place of three ways."""
    async with stage(size=(80, 24)) as s:
        await s.press("f")
        check_golden("free-80x24", s.text())


async def test_a_window_that_is_too_small() -> None:
    """It says what it needs, and that a larger one is well."""
    async with stage(size=(40, 10)) as s:
        await s.see("Make the window larger")
        await s.pilot.resize_terminal(80, 24)
        await s.see("Who executes the guest's code")


@pytest.mark.parametrize("size", [(64, 16), (70, 20), (90, 26), (250, 80)], ids=name)
async def test_other_sizes(size: tuple[int, int]) -> None:
    """The facts are there at any size, no cell is cut in two, and the keys are in the last row."""
    async with stage(size=size) as s:
        await s.press(*"eee")
        lines = s.text().splitlines()
        assert len(lines) == size[1]
        assert "? help" in lines[-1]
        for words in ("Who executes", "Left", "out", "3 KVM"):
            assert words in s.text()


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=name)
async def test_no_color(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the same words and signs are shown, without any colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with stage(size=size) as s:
        await s.press(*"eee")
        check_golden(f"exit-{name(size)}", s.text())
        for widget in s.app.screen.query("Region, Timeline, Keys"):
            for strip in widget.render_lines(widget.size.region):
                for segment in strip:
                    assert segment.style is not None
                    for color in (segment.style.color, segment.style.bgcolor):
                        if color is not None and color.triplet is not None:
                            assert len({*color.triplet}) == 1, (segment.text, color)


async def test_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the terminal has no Unicode, only ASCII is sent."""
    monkeypatch.setattr("app.tui.app.for_this_terminal", lambda: ASCII)
    async with stage(size=(80, 24)) as s:
        for keys in ("eee", "w", "w", "w", "w", "r", "rz", "zP", "Pm", "mR"):
            await s.press(*keys)
            assert s.text().isascii(), s.text()
        for keys in (("g",), ("H",), ("ctrl+p",), ("question_mark",)):
            await s.press(*keys)
            assert s.text().isascii(), s.text()
            await s.press("escape")
        s.app.notify("a message of ¹ and 漢")
        await s.see("a message of ? and ??")
        assert s.text().isascii(), s.text()


async def test_home() -> None:
    """The home screen lists the shipped guests and the abilities of this host."""
    async with stage(size=(120, 40), home=True) as s:
        await s.see("cannot")
        for words in ("hello", "tour", "/dev/kvm does not exist", "ring 3, held by", "open a file"):
            assert words in s.text()


async def test_home_opens_a_guest_and_names_what_it_cannot_open() -> None:
    """Enter runs the selected guest; a path that is no program gives a notice."""
    from cores.errors import InputError

    async with stage(size=(120, 40), home=True) as s:
        await s.press("down", "down", "enter")
        await s.see("TRAP AND EMULATE")
        await s.press("h")

        def refuse(path: str, disk: object) -> object:
            raise InputError("no such file", path)

        s.app._open_program = refuse  # type: ignore[assignment]  # a stand-in for the loader
        await s.press("o", "x", "enter")
        await s.see("x: no such file")


@pytest.mark.parametrize("theme", all_but(PALETTES, *list(PALETTES)[1:]))
@pytest.mark.parametrize("size", [(40, 10), (80, 24), (300, 80)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_any_size_and_theme(size: tuple[int, int], theme: str) -> None:
    """All views and sheets open at every size and in every theme."""
    async with stage_of(size, theme) as s:
        await s.press(*"eeewew", "question_mark", "escape", "v", "escape", "up", "enter", "escape")
        assert len(s.text().splitlines()) == size[1]


def stage_of(size: tuple[int, int], theme: str):  # type: ignore[no-untyped-def]
    return stage(size=size, theme=theme)


async def test_our_own_failure_is_said() -> None:
    """A session that cannot be opened leaves a screen with the reason."""

    def fails() -> object:
        raise RuntimeError("no luck")

    app = RingscopeApp(lambda path, disk: fails, list, fails)  # type: ignore[arg-type, return-value]
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(200):
            await pilot.pause(0.01)
            if app.worker is not None and app.worker.failure:
                break
        await pilot.pause(0.1)
        from app.tui.rows import screenshot_svg

        assert "RuntimeError: no luck" in screenshot_svg.text(app)


async def test_a_comment_has_the_whole_row() -> None:
    """A line of the source that is a comment alone is not cut where the lanes begin: no machine has
    anything in it. One behind an instruction is."""
    words = "a comment that says more than has room left of the lanes, and is read to its end"
    async with stage() as s:
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        source = (f"# {words}", *worker.snapshot.source[1:])
        worker.snapshot = replace(worker.snapshot, source=source)
        await s.see(words)


async def test_what_is_not_timed_has_no_time() -> None:
    """Answers without an exit are counted only: no time of 0.0 µs is said of them."""
    async with stage(size=(120, 40)) as s:
        await s.press("e", "e", "e")
        worker = s.app.worker
        assert worker is not None
        assert worker.snapshot is not None
        first, trap, *others = worker.snapshot.machines
        trap = replace(trap, exits_by_reason={**trap.exits_by_reason, "callout": 542})
        snapshot = replace(worker.snapshot, machines=(first, trap, *others))
    scene = Scene(snapshot, 120, 40, all_lanes(snapshot))
    lines = ["".join(text for text, _ in line) for line in reason_rows(scene, 9)]
    assert any("542" in line and "µs" not in line for line in lines)
    assert any("io" in line and "µs" in line for line in lines)
