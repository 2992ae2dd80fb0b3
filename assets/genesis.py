"""Makes genesis.m68k of the words in its listing: ``python -m assets.genesis``."""

from __future__ import annotations

import re
from pathlib import Path

LISTING = Path(__file__).resolve().parent / "guests" / "genesis.lst"
IMAGE = LISTING.with_suffix(".m68k")
LOAD_ADDRESS = 0x1000
LINE = re.compile(r"([0-9a-f]{4})  ((?:[0-9a-f]{4} )*[0-9a-f]{4})\b")


def image(listing: str) -> bytes:
    """The words of each line that begins with an address. Raises ValueError when an address is not
    where the words before it end."""
    code = bytearray()
    for line in listing.splitlines():
        if match := LINE.match(line):
            if int(match[1], 16) != LOAD_ADDRESS + len(code):
                raise ValueError(f"wrong address: {line}")
            code += bytes.fromhex(match[2])
    return bytes(code)


def main() -> None:
    IMAGE.write_bytes(image(LISTING.read_text()))
    print(f"{IMAGE.name}: {IMAGE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
