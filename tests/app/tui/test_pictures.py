"""Pictures of the screen, in three forms, in the user's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import stage

from app.tui import pictures


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGSCOPE_PICTURES", str(tmp_path / "pictures"))


async def test_a_picture_is_saved_in_three_forms(tmp_path: Path) -> None:
    """s saves SVG, text and an HTML fragment, says where, and two pictures have two names; the message
    of the first is not in the second."""
    async with stage() as s:
        await s.press("s")
        await s.see("Saved")
        await s.press("s")
        found = tmp_path / "pictures"
        await s.until(lambda: len(list(found.iterdir())) == 6, "the second picture")
    for ending in ("svg", "txt", "html"):
        one, two = sorted(found.glob(f"*.{ending}"))
        assert "EMULATOR" in one.read_text(encoding="utf-8")
        assert "Saved" not in two.read_text(encoding="utf-8")
    assert one.read_text(encoding="utf-8").startswith("<pre ")


@pytest.mark.parametrize("keys", [("question_mark", "s"), ("g", "f8"), ("ctrl+p", "f8")])
async def test_overlays_are_in_the_picture(tmp_path: Path, keys: tuple[str, ...]) -> None:
    """Over a sheet s saves it as it is; where letters are typed F8 does."""
    async with stage() as s:
        await s.press(*keys)
        found = tmp_path / "pictures"
        await s.until(lambda: found.exists() and len(list(found.iterdir())) == 3, "the picture")
        text = next(found.glob("*.txt")).read_text(encoding="utf-8")
        assert any(words in text for words in ("Help", "Go to which instruction?", "type to search"))


async def test_the_world_switch_is_drawn(tmp_path: Path) -> None:
    """W draws the exit that was done last, of each machine that left its guest for it; over the sheet
    of the instruction, too. In the log it draws the chosen exit alone. Where no guest was left it says
    so."""
    found = tmp_path / "pictures"
    async with stage() as s:
        await s.press("W")
        await s.see("No guest was left here")
        await s.press("e", "e", "e", "W")
        await s.until(lambda: len(list(found.glob("*.svg"))) == 1, "the diagram")
        await s.press("enter")
        await s.see("W: save as a diagram")
        await s.press("W")
        await s.until(lambda: len(list(found.glob("*.svg"))) == 2, "the second diagram")
        one, two = (path.read_text(encoding="utf-8") for path in sorted(found.glob("*.svg")))
        assert one == two
        assert "VMM (Ringscope)" in one
        assert "trap:native: io" in one
        assert "kvm: io" in one
        assert "interpreter" not in one
        await s.press("escape", "w", "w", "w", "up", "W")
        await s.until(lambda: len(list(found.glob("*.svg"))) == 3, "the chosen exit's")
        chosen = max(found.glob("*.svg"), key=lambda path: path.stat().st_mtime_ns)
        assert chosen.read_text(encoding="utf-8").count("VMM (Ringscope)") == 1


async def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is shown in a line."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RINGSCOPE_PICTURES", str(tmp_path / "file"))
    async with stage() as s:
        await s.press("s")
        await s.see("File exists")
        await s.press("e", "W")
        await s.until(lambda: s.text().count("File exists") == 2, "the second refusal")


def test_the_pictures_folder_is_not_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder named, pictures go to the user's own."""
    monkeypatch.delenv("RINGSCOPE_PICTURES")
    root = Path(__file__).resolve().parents[3]
    assert root not in pictures.folder().parents
    assert pictures.folder().is_absolute()
