"""The disk image: its overlay, writing through, and files that cannot be used."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from cores.errors import InputError
from cores.pc.devices.storage import disk as disk_module
from cores.pc.devices.storage.disk import Disk, DiskError


def sector(fill: int) -> bytes:
    return bytes([fill]) * 512


def test_reads_the_image(image: Path) -> None:
    """Sectors have the file's content."""
    disk = Disk(str(image))
    assert disk.sectors == 40
    assert disk.read(3, 2) == sector(3) + sector(4)
    disk.close()


def test_copy_on_write(image: Path) -> None:
    """A machine's writes are seen by itself only; the file does not change."""
    before = image.read_bytes()
    one, other = Disk(str(image)), Disk(str(image))
    one.write(5, sector(0xAA) + sector(0xBB))
    assert one.read(4, 4) == sector(4) + sector(0xAA) + sector(0xBB) + sector(7)
    assert one.read(6, 1) == sector(0xBB)
    assert other.read(5, 2) == sector(5) + sector(6)
    assert image.read_bytes() == before
    one.close()
    other.close()


def test_overlay_against_a_model(image: Path) -> None:
    """Random reads and writes agree with a plain array."""
    disk, model, rng = Disk(str(image)), bytearray(image.read_bytes()), random.Random(1)
    for _ in range(300):
        lba = rng.randrange(40)
        count = rng.randint(1, 40 - lba)
        if rng.random() < 0.3:
            data = rng.randbytes(count * 512)
            disk.write(lba, data)
            model[lba * 512 : lba * 512 + len(data)] = data
        assert disk.read(lba, count) == model[lba * 512 : (lba + count) * 512]
    disk.close()


def test_saved_states_stand_still(image: Path) -> None:
    """Writes after a save do not change it, and states can be restored in both directions."""
    disk = Disk(str(image))
    disk.write(1, sector(0x11))
    early = disk.save()
    disk.write(1, sector(0x22))
    late = disk.save()
    disk.restore(early)
    assert disk.read(1, 1) == sector(0x11)
    disk.write(2, sector(0x33))
    disk.restore(late)
    assert disk.read(1, 2) == sector(0x22) + sector(2)
    assert early == {1: sector(0x11)}
    disk.close()


def test_padding(tmp_path: Path) -> None:
    """A size that is no multiple of 512 is padded with zeros, which never reach the file."""
    path = tmp_path / "odd"
    path.write_bytes(b"x" * 700)
    disk = Disk(str(path), write_through=True)
    assert disk.sectors == 2
    assert disk.read(1, 1) == b"x" * 188 + b"\0" * 324
    disk.write(1, sector(0x5A))
    assert disk.read(1, 1) == sector(0x5A)
    assert path.read_bytes() == b"x" * 512 + b"\x5a" * 188
    disk.close()


def test_write_through_and_back(image: Path) -> None:
    """Written sectors reach the file; going back removes them again."""
    disk = Disk(str(image), write_through=True)
    before = disk.save()
    disk.write(7, sector(0x77))
    disk.write(7, sector(0x78))
    after = disk.save()
    assert image.read_bytes()[7 * 512 : 8 * 512] == sector(0x78)
    disk.restore(before)
    assert image.read_bytes()[7 * 512 : 8 * 512] == sector(7) == disk.read(7, 1)
    disk.restore(after)
    assert image.read_bytes()[7 * 512 : 8 * 512] == sector(0x78) == disk.read(7, 1)
    disk.close()


def test_file_cut_while_in_use(image: Path) -> None:
    """A file that becomes shorter gives read errors, but not for sectors that the machine wrote."""
    disk = Disk(str(image))
    disk.write(30, sector(0x99))
    os.truncate(image, 5 * 512)
    assert disk.read(4, 1) == sector(4)
    with pytest.raises(DiskError):
        disk.read(5, 1)
    assert disk.read(30, 1) == sector(0x99)
    disk.close()


def test_file_removed_while_in_use(image: Path) -> None:
    """A removed file stays readable while it is open."""
    disk = Disk(str(image))
    image.unlink()
    assert disk.read(9, 1) == sector(9)
    disk.close()


def test_writing_has_a_bound(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written sectors are bounded; rewriting a sector takes no more of the bound."""
    monkeypatch.setattr(disk_module, "MOST_CHANGED", 4)
    disk = Disk(str(image))
    disk.write(0, sector(1) * 4)
    disk.write(2, sector(2) * 2)
    with pytest.raises(DiskError):
        disk.write(3, sector(3) * 2)
    assert disk.read(3, 2) == sector(2) + sector(4)
    disk.close()


def test_files_that_cannot_serve(tmp_path: Path) -> None:
    """A missing, empty or irregular file and a directory each give a sentence with the path."""
    empty = tmp_path / "empty"
    empty.touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cases = {
        tmp_path / "none": "no such disk image",
        tmp_path: "is a directory, not a disk image",
        empty: "the disk image is empty",
        fifo: "is not a regular file",
        empty / "below": "the disk image cannot be opened: Not a directory",
        Path("nul\0byte"): "the disk image cannot be opened: there is a NUL in its name",
    }
    for path, reason in cases.items():
        with pytest.raises(InputError) as caught:
            Disk(str(path))
        assert str(caught.value) == f"{path}: {reason}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write any file")
def test_permissions(image: Path) -> None:
    """Missing permission to read, or to write through, is reported as such."""
    image.chmod(0o400)
    Disk(str(image)).close()
    with pytest.raises(InputError, match="cannot be read and written: permission denied"):
        Disk(str(image), write_through=True)
    image.chmod(0)
    with pytest.raises(InputError, match="cannot be read: permission denied"):
        Disk(str(image))
