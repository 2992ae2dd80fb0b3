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


async def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is shown in a line."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RINGSCOPE_PICTURES", str(tmp_path / "file"))
    async with stage() as s:
        await s.press("s")
        await s.see("File exists")


def test_the_pictures_folder_is_not_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder named, pictures go to the user's own."""
    monkeypatch.delenv("RINGSCOPE_PICTURES")
    root = Path(__file__).resolve().parents[3]
    assert root not in pictures.folder().parents
    assert pictures.folder().is_absolute()
