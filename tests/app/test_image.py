"""``ringscope image`` and ``compare --peers`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.main import BAD_INPUT, OK, main
from tests import linux_lab


def test_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The disk is written, and the message says where its data disk begins."""
    data, target = tmp_path / "data.img", tmp_path / "boot.img"
    data.write_bytes(b"sector" * 100)
    assert main(["image", "hello", "-o", str(target), "--disk", str(data), "--ram", "32M"]) == OK
    assert target.stat().st_size == 516_096
    told = capsys.readouterr().out
    assert "32 MiB" in told
    assert "begins at sector 64" in told


def test_image_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program for another machine is refused in one line; no file is written."""
    foreign, target = tmp_path / "guest.m68k", tmp_path / "boot.img"
    foreign.write_bytes(b"\x4e\x71")
    assert main(["image", str(foreign), "-o", str(target)]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        f"ringscope image: {foreign}: a Motorola 68000 program: a PC cannot boot it"
    ]
    assert not target.exists()


def test_image_of_what_starts_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that another loader than a boot sector's starts is refused in one line."""
    target = tmp_path / "boot.img"
    path = linux_lab.program(tmp_path, b"\x0f\x0b")
    assert main(["image", path, "-o", str(target)]) == BAD_INPUT
    assert "this is ELF64 for Linux (its notes), static" in capsys.readouterr().err
    assert not target.exists()


def test_unknown_peer(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown peer is bad usage."""
    assert main(["compare", "hello", "--peers", "qemu,vmware"]) == BAD_INPUT
    assert "no peer is called 'vmware'" in capsys.readouterr().err


def test_absent_peers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Peers that are not installed are reported in text and in JSON; the cores' verdict is
    unchanged."""
    monkeypatch.setenv("PATH", "")
    arguments = ["compare", "hello", "--cores", "interpreter", "--free", "--peers", "qemu,bochs"]
    assert main(arguments) == OK
    assert "qemu cannot run here: qemu-system-x86_64 is not installed" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == OK
    peers = json.loads(capsys.readouterr().out)["peers"]
    assert [(peer["core"], peer["available"]) for peer in peers] == [("qemu", False), ("bochs", False)]
