"""A program's session, begun before the interface is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.opening import begin, opening
from app.tui.app import interface
from cores.debugging.saved_session import save
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.runs.open import LiveSession

OPTIONS = Options(cores=("interpreter",))
PATIENCE = 120.0


async def test_a_session_begun_before_is_the_one_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface shows the machines that a worker has already, makes no others, and ends them."""
    monkeypatch.setenv("RINGSCOPE_CONFIG", os.devnull)
    begun = begin("hello", OPTIONS)
    begun.worker.pause().result(PATIENCE)
    app = interface(None, OPTIONS)
    app.adopt(begun)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.worker is begun.worker
        assert app.session is app.screen
        assert app.options.format == "asm"
        await pilot.press("n")
        begun.worker.pause().result(PATIENCE)
        assert begun.worker.place == (1,)
    assert begun.worker.step().cancelled()


def test_a_mistake_is_said_before_machines_are_made(tmp_path: Path) -> None:
    """A file that is no program, and a disk that is not there, are refused by name."""
    with pytest.raises(InputError, match=r"none\.s"):
        begin(str(tmp_path / "none.s"), OPTIONS)
    with pytest.raises(InputError, match=r"none\.img"):
        begin("hello", Options(cores=("interpreter",), disks=(str(tmp_path / "none.img"),)))


def test_a_saved_session_goes_on(tmp_path: Path) -> None:
    """A saved session has no format of its own, and is opened at the place where it was saved."""
    session = opening("hello", OPTIONS).opener()
    assert isinstance(session, LiveSession)
    session.step()
    save(session, str(tmp_path / "session"))
    session.close()
    found = opening(str(tmp_path / "session"), OPTIONS)
    assert found.format == ""
    again = found.opener()
    assert again.here == 1
    again.close()
