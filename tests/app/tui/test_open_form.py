"""Opening a program: its path is completed, its kind is told, and the options that fit are offered."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Label, OptionList

from app.tui import paths
from app.tui.app import RingscopeApp, interface
from app.tui.options import FIELDS
from app.tui.screens.open_form import OpenForm
from cores.errors import InputError
from cores.lockstep.options import Options

SOURCE = "mov al, 1\nout 0xF4, al\n"


async def _until(pilot: Pilot[int], words: str) -> OpenForm:
    """The form, once it says these words of the file."""
    for _ in range(1000):
        form = pilot.app.screen
        if isinstance(form, OpenForm) and words in str(form.query_one("#kind", Label).render()):
            return form
        await pilot.pause(0.01)
    raise AssertionError(f"never said: {words}")


def _app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RingscopeApp:
    monkeypatch.setenv("RINGSCOPE_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.s").write_text(SOURCE)
    (tmp_path / "mine too.txt").write_text("no program\n" * 9)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "deep.s").write_text(SOURCE)
    return interface(None, Options(cores=("interpreter",)))


async def test_a_path_is_completed_and_its_options_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tab completes, the kind is said, a wrong value is refused and kept, a right one is taken."""
    app = _app(tmp_path, monkeypatch)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("o", "m", "tab")
        form = app.screen
        assert form.query_one("#path", Input).value == "mine"
        await pilot.press(*".s")
        form = await _until(pilot, "assembly, by its name")
        for _ in range(1000):
            if form.query("#fields Input"):
                break
            await pilot.pause(0.01)
        flags = {field.name for field in form.query("#fields Input").results(Input)}
        assert "--ram" in flags
        assert "--append" not in flags  # no kernel
        ram = next(
            field for field in form.query("#fields Input").results(Input) if field.name == "--ram"
        )
        ram.value = "3M"
        await pilot.press("enter")
        await _until(pilot, "--ram: 3M: RAM is a multiple of 2 MiB")
        ram.value = "4M"
        await pilot.press("enter")
        for _ in range(1000):
            if app.worker is not None and app.worker.snapshot is not None:
                break
            await pilot.pause(0.01)
        assert app.options.now is not None
        assert app.options.now.ram == 4 << 20


async def test_a_file_is_chosen_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down and Enter go into a folder and take a file; what is no program is refused in place."""
    app = _app(tmp_path, monkeypatch)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("o")
        form = app.screen
        assert isinstance(form, OpenForm)
        names = [option.id for option in form.query_one("#choices", OptionList).options]
        assert names == ["folder/", "mine too.txt", "mine.s"]
        await pilot.press("down", "enter", "down", "enter")
        assert form.query_one("#path", Input).value == "folder/deep.s"
        form.query_one("#path", Input).value = "mine too.txt"
        await pilot.press("enter")
        await _until(pilot, "text, not a flat image")
        form.query_one("#path", Input).value = "nothing there"
        await pilot.press("enter")
        await _until(pilot, "no such file")
        await pilot.press("escape")
        assert app.worker is None


def test_matches_of_a_path(tmp_path: Path) -> None:
    """Folders end with a slash; hidden names are for who types the dot; no folder is no error."""
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "above").mkdir()
    (tmp_path / "abs").write_text("")
    assert paths.matches(f"{tmp_path}/") == [f"{tmp_path}/above/", f"{tmp_path}/abs"]
    assert paths.matches(f"{tmp_path}/.") == [f"{tmp_path}/.hidden"]
    assert paths.completed(f"{tmp_path}/a") == f"{tmp_path}/ab"
    assert paths.matches(f"{tmp_path}/abs/x") == paths.matches("\0/x") == []
    assert paths.completed("no such") == "no such"


@pytest.mark.parametrize(
    ("flag", "text", "again"),
    [
        ("--ram", "64", "64M"), ("--ram", "0x2000000", "32M"), ("--disk", "a , b", "a, b"),
        ("--input", "ls\\n", "ls\\n"),
        ("--input", "a\\\\n\\e\\x\t", "a\\\\n\\e\\\\x\\t"),
        ("--clock", "2026-01-01", "2026-01-01T00:00:00"),
        ("--net", "user;lan=hub,pcap:x.pcap", "user; lan=hub,pcap:x.pcap"),
        ("--net", "replay:a.pcap", "replay:a.pcap"), ("--virtio", "net, block", "net,block"),
        ("--append", "-v", "-v"), ("--module", "a b,c", "a b, c"), ("--device", "d.py", "d.py"),
    ],
)  # fmt: skip
def test_what_is_typed_is_shown_again(flag: str, text: str, again: str) -> None:
    """An option that was typed is shown as it can be typed; nothing typed is the default."""
    field = next(field for field in FIELDS if field.flag == flag)
    options = field.read(Options(), text)
    assert field.shown(options) == again
    assert field.read(options, field.shown(options)) == options
    assert field.read(options, "") == Options()


@pytest.mark.parametrize(
    ("flag", "text"),
    [("--ram", "3M"), ("--ram", "much"), ("--disk", "a,b,c"), ("--clock", "now"), ("--net", "wifi"),
     ("--virtio", "gpu"), ("--net", "user;user;user;user;user")],
)  # fmt: skip
def test_wrong_values_are_refused(flag: str, text: str) -> None:
    """Each in one sentence."""
    field = next(field for field in FIELDS if field.flag == flag)
    with pytest.raises(InputError):
        field.read(Options(), text)
