"""A visitor's files: shipped guests and his own texts; no other path is opened, and none is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.tui import pictures
from app.tui.app import RingscopeApp, interface
from app.tui.files import EVERY_FILE, REFUSED, Files
from app.tui.screens.editor import EditorScreen
from app.tui.screens.home import HomeScreen
from cores.debugging import saved_session
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.programs.shipped import guests, programs

SECRET = "/etc/passwd"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def visitor(own: Path) -> RingscopeApp:
    return interface(None, Options(), files=Files(own))


def said(app: RingscopeApp) -> str:
    return " ".join(note.message for note in app._notifications)


@pytest.mark.parametrize(
    "path",
    [
        SECRET,
        "/etc/../etc/passwd",
        ".",
        "",
        "/dev/zero",
        "/proc/self/environ",
        "a\0b",
        "x" * 5000,
        "none.s",
    ],
)
def test_other_paths_are_refused(own: Path, path: str) -> None:
    """Files of the server, directories, devices, and what is not there have one answer."""
    with pytest.raises(InputError, match=REFUSED):
        Files(own).demand(path)
    EVERY_FILE.demand(path)


@pytest.mark.skipif(os.name != "posix", reason="links need a right of their own on Windows")
def test_links_lead_nowhere_else(own: Path) -> None:
    """A link in the visitor's folder, or a path through it, does not lead out of it."""
    (own / "link.s").symlink_to(SECRET)
    (own / "guest.s").write_text("hlt\n")
    for path in (own / "link.s", own / ".." / own.name / "link.s", own / ".." / "secret"):
        with pytest.raises(InputError):
            Files(own).demand(str(path))
    Files(own).demand(str(own / "guest.s"))
    for guest in programs():
        Files(own).demand(str(guest))


async def test_a_visitor_opens_no_file_of_the_server(own: Path) -> None:
    """Whatever asks the app to open, edit or attach another file is refused, and no machine begins."""
    app = visitor(own)
    async with app.run_test() as pilot:
        app.open_program(SECRET)
        app.on_home_screen_opened(HomeScreen.Opened(SECRET))
        app.open_program(str(programs()[0]), SECRET)
        app.edit(SECRET)
        await pilot.press("o")
        await pilot.pause()
        assert app.worker is None
        assert isinstance(app.screen, HomeScreen)
        assert said(app).count(REFUSED[1:]) == 5


async def test_a_visitor_writes_into_his_own_folder_alone(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new guest is saved without a name being asked for; sessions, disks and pictures are refused."""
    monkeypatch.setenv("RINGSCOPE_PICTURES", str(tmp_path / "pictures"))
    monkeypatch.chdir(tmp_path)
    app = visitor(own)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("s")
        app.edit("")
        await pilot.pause()
        assert isinstance(app.screen, EditorScreen)
        app.screen.area.text = guests()[0].read_text()  # one that runs without an assembler, too
        await pilot.press("ctrl+s")
        await pilot.press("f5")
        for _ in range(200):
            if app.worker is not None and app.worker.snapshot is not None:
                break
            await pilot.pause(0.05)
        assert app.session is not None
        assert os.listdir(own) == ["guest.s"]
        app.session.state.save()
        app.session.state.disk()
        await pilot.pause()
        assert app.screen is app.session
        assert said(app).count(REFUSED[1:]) == 2
        assert "No picture" in said(app)
    assert sorted(os.listdir(tmp_path)) == ["own"]
    assert pictures.folder() == tmp_path / "pictures"


def test_a_text_is_no_saved_session(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A saved session names a disk; a visitor's text that looks like one is not opened as one."""
    text = own / "guest.s"
    text.write_text("hlt\n")
    monkeypatch.setattr(saved_session, "is_saved", lambda path: True)
    app = visitor(own)
    with pytest.raises(InputError, match=REFUSED):
        app._open_program(str(text), None)
