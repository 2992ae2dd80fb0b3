"""The runner of foreign suites, on two small kernels made here."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests import suites

LOAD = 0x100000


def kernel(text: bytes, status: int) -> bytes:
    """A Multiboot kernel that writes a text to the serial line and exits."""
    flags = 0x10000
    entry, place = LOAD + 32, LOAD + 64
    header = struct.pack(
        "<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, LOAD, LOAD, 0, 0, entry
    )
    code = b"\xbe" + struct.pack("<I", place) + b"\xb9" + struct.pack("<I", len(text))
    code += b"\xba\xf8\x03\0\0\xfc\xf3\x6e\xb0" + bytes((status,)) + b"\xe6\xf4\xfa\xf4"
    return header + code.ljust(32, b"\x90") + text


def test_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kernel's verdicts and ending are told; a failure that QEMU has not makes the exit code 1."""
    (tmp_path / "good").write_bytes(kernel(b"PASS: one\r\nSKIP: two\r\n", 0))
    (tmp_path / "good.args").write_bytes(b"x y\n")
    (tmp_path / "notes.txt").write_text("not a kernel\n")
    assert suites.run(tmp_path, ["interpreter"], 60.0) == 0
    told = capsys.readouterr().out
    assert "good\n" in told
    assert "interpreter    1 PASS, 0 FAIL, 1 SKIP; exit 0" in told
    assert told.endswith("1 kernels, 0 failures that QEMU has not\n")


def test_a_failure_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is printed in full."""
    monkeypatch.setattr(suites.shutil, "which", lambda name: None)
    (tmp_path / "bad").write_bytes(kernel(b"FAIL: three\n", 1))
    assert suites.run(tmp_path, ["interpreter"], 60.0) == 1
    assert "    FAIL: three\n" in capsys.readouterr().out
