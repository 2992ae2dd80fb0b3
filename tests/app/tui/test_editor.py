"""Writing a guest in the interface, and the settings that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import stage

from app.tui import settings
from app.tui.screens.editor import TEMPLATES, EditorScreen
from cores.programs.assembler import keystone
from cores.programs.loader import assemble_program

needs_assembler = pytest.mark.skipif(not keystone.installed(), reason="Keystone has no wheel here")


@needs_assembler
async def test_a_guest_is_written_assembled_and_run(tmp_path: Path) -> None:
    """A mistake is reported with its line and the cursor moves there; corrected, the guest is saved and
    run."""
    async with stage(home=True) as s:
        await s.press("c")
        editor = s.app.screen
        assert isinstance(editor, EditorScreen)
        editor.area.text = "start: nop\n mov rax, cr9\n"
        await s.press("f2")
        await s.see("new guest:2")
        assert editor.area.cursor_location[0] == 1
        editor.area.text = "start: cli\n hlt\n"
        await s.press("f2")
        await s.see("2 bytes")
        await s.press("f5")
        await s.see("Save as which file?")
        path = tmp_path / "mine.s"
        editor.app.screen.query_one("#answer").value = str(path)  # type: ignore[attr-defined]
        await s.press("enter")
        await s.see("TRAP AND EMULATE")
        assert path.read_text(encoding="utf-8") == "start: cli\n hlt\n"


async def test_nothing_written_is_lost() -> None:
    """Esc asks about unsaved text, as q's and Ctrl-C do; a template does not replace it."""
    async with stage(home=True) as s:
        await s.press("c", "f3")
        editor = s.app.screen
        assert isinstance(editor, EditorScreen)
        assert editor.area.text == next(iter(TEMPLATES.values()))
        await s.press("x", "f3")
        await s.see("save your text first")
        await s.press("escape")
        await s.see("The new guest is not saved.")
        await s.press("enter")
        assert s.app.screen is editor
        await s.press("ctrl+c")
        await s.see("The new guest is not saved. Leave?")
        await s.press("escape", "escape", "l")
        await s.see("This computer")


async def test_a_shipped_guest_is_edited_as_a_copy() -> None:
    """i on a guest opens its text without its path, so that saving asks for a path."""
    async with stage(home=True) as s:
        await s.press("down", "down", "i")
        await s.see("new guest")
        editor = s.app.screen
        assert isinstance(editor, EditorScreen)
        assert "_start" in editor.area.text


@needs_assembler
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_assemble(name: str) -> None:
    """Every template assembles."""
    assert assemble_program(TEMPLATES[name].encode(), name).size > 4


def test_settings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are saved and read again; a damaged file gives defaults, and an unwritable one is no
    error."""
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path / "new"))
    assert settings.load() == settings.Settings()
    settings.Settings(theme="ringscope-day", speed=5).save()
    assert settings.load() == settings.Settings(theme="ringscope-day", speed=5.0)
    (tmp_path / "new" / "settings.json").write_text('{"theme": 3, "speed": "fast", "more": 1}')
    assert settings.load() == settings.Settings()
    (tmp_path / "new" / "settings.json").write_text("{")
    assert settings.load() == settings.Settings()
    monkeypatch.setenv("RINGSCOPE_CONFIG", "/dev/null")
    settings.Settings(theme="x").save()
