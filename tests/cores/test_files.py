"""What was in a file stays there until all of what replaces it is on the disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from cores.files import replacing


def test_it_takes_the_place(tmp_path: Path) -> None:
    """The new content, the old permissions; a link still leads there."""
    old, link = tmp_path / "old", tmp_path / "link"
    old.write_bytes(b"before")
    old.chmod(0o640)
    link.symlink_to(old.name)
    with replacing(link) as file:
        file.write(b"after")
        assert old.read_bytes() == b"before"
    assert old.read_bytes() == b"after"
    assert old.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "old"]


def test_no_room(tmp_path: Path) -> None:
    """The old content is still there, and nothing else."""
    path, room = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, room[1]))
    try:
        with pytest.raises(OSError, match="too large"), replacing(path) as file:
            file.write(bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_device_stays_a_device() -> None:
    """It is written, not replaced by a file of its name."""
    with pytest.raises(OSError, match="No space left"), replacing("/dev/full") as file:
        file.write(b"anything")
    assert Path("/dev/full").is_char_device()
