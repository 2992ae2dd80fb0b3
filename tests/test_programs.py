"""The runner of a folder of programs, on two small ones made here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cores.programs.assembler import keystone
from tests import linux_lab, programs

GREET = """
_start: lea     rsi, [rip + text]
        mov     edx, 6
        mov     edi, 1
        mov     eax, 1          # write
        syscall
        mov     edi, [rsp]      # argc
        mov     eax, 60         # exit
        syscall
text:   .ascii  "hello\\n"
"""


needs_assembler = pytest.mark.skipif(not keystone.installed(), reason="Keystone is not installed")


@needs_assembler
@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="no x86-64 Linux")
def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Linux programs are held against this host; a file that cannot be started is named, and what is no
    program is left out."""
    path = Path(linux_lab.program(tmp_path, GREET))
    path.chmod(0o755)
    (tmp_path / "program.args").write_text("one two\n")
    (tmp_path / "notes.txt").write_text("no program\n")
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    assert programs.run(tmp_path, ["interpreter"], 60.0, 100) == 0
    told = capsys.readouterr().out
    assert "truncated: shorter than an ELF header" in told
    assert "exit 3, " in told
    assert "same, " in told
    assert told.endswith("1 programs, 0 of them not everywhere the same\n")


@needs_assembler
def test_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core whose output is not the host's makes the exit code 1."""
    linux_lab.program(tmp_path, GREET)
    monkeypatch.setattr(
        programs, "on_this_host", lambda *_: programs.Ran("this host", "hi", "exit 1", 0.0)
    )
    assert programs.run(tmp_path, ["interpreter"], 60.0, 0) == 1
    assert "other output" in capsys.readouterr().out
