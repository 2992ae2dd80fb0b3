"""Sessions in files."""

from __future__ import annotations

import pickle
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from cores.errors import InputError
from cores.live import LiveSession
from cores.loader import assemble_program, load_program
from cores.saved import MAGIC, is_saved, reopen, save
from cores.session import Options

COUNTER = b"""
_start: mov ecx, 40
again:  mov al, 'x'
        out 0xe9, al
        movd xmm0, ecx
        push rcx
        loop again
        xor eax, eax
        out 0xf4, al
"""
OPTIONS = Options(cores=("interpreter", "trap:portable"), ram=4 << 20)


def opened() -> LiveSession:
    return LiveSession(assemble_program(COUNTER, "counter.s", OPTIONS.ram), OPTIONS)


def ends(session: LiveSession) -> list[object]:
    while session.run(5):
        pass
    return [
        (m.report().console, m.report().memory_sha256, m.engine.read_fpu()) for m in session.machines
    ]


def test_a_session_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    """Saved in the middle and opened again, it ends as the one that was never interrupted."""
    path = str(tmp_path / "counter.ringscope")
    with closing(opened()) as session:
        session.go_to(61)
        save(session, path)
        assert is_saved(path)
        expected = ends(session)
    with closing(reopen(path)) as session:
        assert [m.instructions for m in session.snapshot().machines] == [61, 61]
        assert ends(session) == expected
        assert session.snapshot().divergence is None


def test_a_session_is_no_program(tmp_path: Path) -> None:
    """Whoever compares the file of a session is told what it is, and its bytes are not run."""
    path = tmp_path / "later.ringscope"
    path.write_bytes(MAGIC + b"x")
    with pytest.raises(InputError, match="a saved session, not a program"):
        load_program(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        MAGIC,
        MAGIC + b"junk",
        MAGIC + zlib.compress(b"junk"),
        MAGIC + zlib.compress(pickle.dumps(1)),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is not a session is one sentence, never a traceback."""
    path = tmp_path / "bad.ringscope"
    path.write_bytes(content)
    with pytest.raises(InputError, match="session"):
        reopen(str(path))


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """A pickle that names any function but the values of a session is refused unread."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("1/0",))

    path = tmp_path / "evil.ringscope"
    path.write_bytes(MAGIC + zlib.compress(pickle.dumps(Evil())))
    with pytest.raises(InputError, match="no place in a session"):
        reopen(str(path))
