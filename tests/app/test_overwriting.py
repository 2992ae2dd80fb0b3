"""Commands that write a file do not overwrite a user's file of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.main import main

COMMANDS = {
    "image": (["image", "hello", "-o"], "a bootable disk of ours"),
    "recording": (["play", "two-ways", "--plain", "--record"], "a recording (asciicast)"),
}


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGSCOPE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RINGSCOPE_RUNTIME", str(tmp_path / "runtime"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_users_file_stays(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another kind of file is refused in one line that names --overwrite, before any work; the
    command's own kind is overwritten."""
    words, kind = COMMANDS[command]
    notes = tmp_path / "notes.md"
    notes.write_text("# mine\n")
    assert main([*words, str(notes)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"ringscope {words[0]}: {notes}: there is a file of this name, which is not {kind}:"
        " --overwrite replaces it\n"
    )
    assert notes.read_text() == "# mine\n"
    assert main([*words, str(notes), "--overwrite"]) == 0
    made = notes.read_bytes()
    assert len(made) > 1000
    assert main([*words, str(notes)]) == 0
    assert len(notes.read_bytes()) > 1000


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk gives one line, at whichever write it occurs."""
    words, _ = COMMANDS[command]
    assert main([*words, "/dev/full"]) == 2
    err = capsys.readouterr().err
    assert err == f"ringscope {words[0]}: /dev/full: cannot be written: No space left on device\n"


def test_a_new_lesson_replaces_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """new-lesson overwrites neither of its two files."""
    (tmp_path / "guest.s").write_text("nop\n")
    assert main(["new-lesson", str(tmp_path)]) == 2
    assert "already there; nothing was written" in capsys.readouterr().err
    assert (tmp_path / "guest.s").read_text() == "nop\n"
    assert not (tmp_path / "lesson.md").exists()
