"""The palette: grouped, one row an entry, with the options as switches and themes that all work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stage import stage

from app.tui.app import interface
from app.tui.options import FIELDS
from app.tui.palette import COLOURS, GROUPS
from app.tui.rows.theme import PALETTES, styles
from app.tui.screens.palette import Palette
from cores.lockstep.options import Options
from tests import linux_lab


async def test_entries_are_grouped_and_found() -> None:
    """Groups come in their order; typing narrows the list, and Enter does what is marked."""
    async with stage() as s:
        groups = [entry.group for entry in s.app.entries()]
        assert groups == sorted(groups, key=GROUPS.index)
        assert len({entry.title for entry in s.app.entries()}) == len(groups)
        await s.press("ctrl+p")
        assert isinstance(s.app.screen, Palette)
        listed = s.app.screen.listed
        assert listed.virtual_size.height == listed.option_count  # one row each
        await s.press(*"light", "enter")
        assert s.app.theme == "ringscope-day"
        await s.press("ctrl+p", *"no such thing", "enter")
        await s.see("ring")


async def test_options_are_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--pure is a switch: the program that is on starts over with it; cores can be taken away, but not
    the last."""
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path))
    app = interface("hello", Options(cores=("interpreter",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        first = app.worker
        found = {entry.title: entry for entry in app.entries()}
        pure = next(entry for title, entry in found.items() if "--pure" in title)
        assert pure.on is False
        assert not any("core interpreter" in title for title in found)
        for _ in range(1000):
            if app.worker is not None and app.worker.snapshot is not None:
                break
            await pilot.pause(0.01)
        pure.run()
        await pilot.pause()
        assert app.worker is not first
        assert app.options.now is not None
        assert app.options.now.pure
        again = {entry.title: entry for entry in app.entries()}
        assert again[pure.title].on
        wanted = "boot module disk clock device append ram input slow net virtio with poll give"
        for option in wanted.split():
            assert any(title.startswith(f"--{option}") for title in again), option
        for _ in range(1000):
            if app.worker is not None and app.worker.snapshot is not None:
                break
            await pilot.pause(0.01)
        app.options.change(
            replace(app.options.now, disks=("/no/such/disk.img",))
        )  # it cannot start so: all is as it was
        assert app.options.now.disks == ()
        app.options.ask(next(field for field in FIELDS if field.flag == "--clock"))
        await pilot.pause()
        app.screen.query_one("#answer").value = "2026-01-01T12:00:00"  # type: ignore[attr-defined]
        await pilot.press("enter")
        assert app.options.now.clock == 820_584_000
        assert app.options.now.pure


async def test_options_of_a_linux_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that says nothing can be taken for one for Linux; then its files can be named."""
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path))
    path = linux_lab.program(tmp_path, b"\x0f\x0b", note=b"")
    app = interface(path, Options(cores=("interpreter",), ram=16 << 20))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        found = {entry.title[:7]: entry for entry in app.entries()}
        assert "--files" not in found
        for _ in range(1000):
            if app.worker is not None and app.worker.snapshot is not None:
                break
            await pilot.pause(0.01)
        found["--linux"].run()
        await pilot.pause()
        found = {entry.title[:7]: entry for entry in app.entries()}
        assert found["--linux"].on
        assert found["--files"].value == "none"
        assert app.options.recognized == "ELF64 for Linux (--linux), static"


def test_every_theme_is_complete_and_legible() -> None:
    """Each role has a colour in each theme; on both grounds the contrast is 4.5 or more (WCAG 2.1,
    1.4.3), for rules and zeros, which carry no meaning alone, 2.8."""
    assert set(COLOURS) == set(PALETTES)
    roles = {frozenset(styles(theme)) for theme in PALETTES}
    assert len(roles) == 1
    for theme, palette in PALETTES.items():
        for role, style in styles(theme).items():
            assert style.color is not None, (theme, role)
            assert style.bgcolor is not None, (theme, role)
            front, back = (c.get_truecolor() for c in (style.color, style.bgcolor))
            least = 2.8 if role.rstrip("@") == "faint" else 4.5
            found = contrast(tuple(front), tuple(back))
            assert found >= least, (theme, role, round(found, 2))
        assert contrast(rgb(palette.text), rgb(palette.background)) >= 7


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The ratio of relative luminances, as WCAG 2.1 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: tuple[int, ...]) -> float:
    parts = [c / 255 for c in colour]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
