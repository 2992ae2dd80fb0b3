"""Makes files.img, the guests' disk, from the folder files: ``python -m assets.disks.build``.

The file system is as small as one can be. Sector 0 is the directory, sixteen entries of 32 bytes:

    entry 0      16 bytes "ringscope files\\0", u32 number of files, u32 sectors of the disk, 8 zeros
    entry 1-15   16 bytes name, padded with zeros; u32 first sector; u32 size in bytes; 8 zeros

A file lies in consecutive sectors, the last one padded with zeros. Sectors count from the disk's
own beginning: on a bootable image the first LBA of the boot information is added.
"""

from __future__ import annotations

import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGE = HERE / "files.img"
MAGIC = b"ringscope files\0"
SECTOR = 512
MOST_FILES = 15
ENTRY = struct.Struct("<16sII8x")
PAGE_FILE = "pagefile", 64 << 10
"""Room for pages that a guest has no memory for: sixteen of them, empty at first."""


def contents() -> dict[str, bytes]:
    """Name -> bytes: the folder's files by name, then the page file."""
    files = {path.name: path.read_bytes() for path in sorted((HERE / "files").iterdir())}
    name, size = PAGE_FILE
    return {**files, name: bytes(size)}


def image(files: dict[str, bytes]) -> bytes:
    """The disk that holds these files. Raises ValueError for more than the directory takes."""
    if len(files) > MOST_FILES or any(len(name.encode()) > 15 for name in files):
        raise ValueError("15 files at most, their names of 15 bytes at most")
    entries, data = b"", b""
    for name, content in files.items():
        entries += ENTRY.pack(name.encode(), 1 + len(data) // SECTOR, len(content))
        data += content + bytes(-len(content) % SECTOR)
    head = ENTRY.pack(MAGIC, len(files), 1 + len(data) // SECTOR)
    return (head + entries).ljust(SECTOR, b"\0") + data


def main() -> None:
    IMAGE.write_bytes(image(contents()))
    print(f"{IMAGE.name}: {IMAGE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
