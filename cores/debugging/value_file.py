"""Value file: plain values as compressed bytes, the format of a saved session.

A value is a tag of one byte and what follows it:

    N T F   None, True, False            i  length (1 byte), little-endian two's complement
    f       8 bytes, IEEE 754            s  length (8), UTF-8      b  length (8), the bytes
    t       count (4), the values        d  count (4), keys and values in turn

A file may come from anyone. The format names no code, and no length in a file is trusted: a value is
made when its bytes are there, and the number of values, their bytes and their nesting are limited. A
few compressed kilobytes could otherwise become billions of values.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

Plain = None | bool | int | float | str | bytes | tuple["Plain", ...] | dict["Plain", "Plain"]

MOST_VALUES = 4_000_000
"""Limit of values: three machines may each have changed 524,288 disk sectors, two values each."""
LARGEST = 2 << 30
"""Limit of unpacked bytes: 1 GiB of RAM that machines share, their differences, and their state."""
DEEPEST = 32
_LONGEST_INT = 9  # 64 bits and a sign
_BLOCK = 1 << 20


def write(file: BinaryIO, value: Plain) -> None:
    """Compress a value into a file. Raises OSError."""
    zipper = zlib.compressobj(1)
    for part in _encoded(value):
        file.write(zipper.compress(part))
    file.write(zipper.flush())


def read(file: BinaryIO) -> Plain:
    """The value in a file, from here to its end. Raises ValueError with a reason, and OSError."""
    source = _Source(file)
    value = _Decoder(source).value(0)
    source.demand_end()
    return value


def _encoded(value: Plain) -> Iterator[bytes]:
    match value:
        case None:
            yield b"N"
        case bool():
            yield b"T" if value else b"F"
        case int():
            length = value.bit_length() // 8 + 1
            yield b"i" + bytes([length]) + value.to_bytes(length, "little", signed=True)
        case float():
            yield b"f" + struct.pack("<d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            yield b"s" + struct.pack("<Q", len(text)) + text
        case bytes():
            yield b"b" + struct.pack("<Q", len(value))
            yield value
        case tuple():
            yield b"t" + struct.pack("<I", len(value))
            for one in value:
                yield from _encoded(one)
        case dict():
            yield b"d" + struct.pack("<I", len(value))
            for key, one in value.items():
                yield from _encoded(key)
                yield from _encoded(one)
        case _:
            raise TypeError(f"no plain value: {type(value).__name__}")


class _Source:
    """The file's bytes, unpacked on demand."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unzip = zlib.decompressobj()
        self._packed = b""
        self._block, self._at = b"", 0
        self._left = LARGEST

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes. Raises ValueError where there are fewer."""
        end = self._at + length
        if end > len(self._block):
            return self._take_more(length)
        piece = self._block[self._at : end]
        self._at = end
        return piece

    def _take_more(self, length: int) -> bytes:
        parts = [self._block[self._at :]]
        have = len(parts[0])
        if length - have > self._left:
            raise ValueError("it unpacks to more than a session can be")
        while have < length:
            if not (block := self._unpacked()):
                raise ValueError("it ends too soon")
            parts.append(block)
            have += len(block)
        self._block, self._at = parts[-1], len(parts[-1]) - (have - length)
        parts[-1] = self._block[: self._at]
        return b"".join(parts)

    def _unpacked(self) -> bytes:
        """The next unpacked bytes, at most a block; empty at the end."""
        while not self._unzip.eof:
            packed = self._packed or self._file.read(_BLOCK)
            try:
                block = self._unzip.decompress(packed, _BLOCK)
            except zlib.error:
                raise ValueError("its compression is damaged") from None
            self._packed = self._unzip.unconsumed_tail
            self._left -= len(block)
            if self._left < 0:
                raise ValueError("it unpacks to more than a session can be")
            if block:
                return block
            if not packed:
                raise ValueError("it ends too soon")
        return b""

    def demand_end(self) -> None:
        """Raises ValueError where more bytes follow, or the end is missing."""
        if self._at < len(self._block) or self._unpacked() or self._unzip.unused_data:
            raise ValueError("more follows than belongs to a session")


class _Decoder:
    def __init__(self, source: _Source) -> None:
        self._take = source.take
        self._left = MOST_VALUES
        self._made: dict[bytes, Callable[[int], Plain]] = {
            b"N": lambda _: None, b"T": lambda _: True, b"F": lambda _: False, b"i": self._int,
            b"f": self._float, b"s": self._str, b"b": self._bytes, b"t": self._tuple, b"d": self._dict,
        }  # fmt: skip

    def value(self, depth: int) -> Plain:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it has more values than a session can have")
        make = self._made.get(self._take(1))
        if make is None:
            raise ValueError("it has a value of an unknown kind")
        return make(depth)

    def _int(self, _: int) -> int:
        length = self._take(1)[0]
        if not 0 < length <= _LONGEST_INT:
            raise ValueError("it has a number of more than 64 bits")
        return int.from_bytes(self._take(length), "little", signed=True)

    def _float(self, _: int) -> float:
        (number,) = struct.unpack("<d", self._take(8))
        return float(number)

    def _length(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _bytes(self, _: int) -> bytes:
        return self._take(self._length())

    def _str(self, _: int) -> str:
        try:
            return self._take(self._length()).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise ValueError("it has text that is not UTF-8") from None

    def _count(self, depth: int, values: int) -> int:
        """Number of a container's members, of ``values`` values each. Raises ValueError past the
        limits."""
        count = int.from_bytes(self._take(4), "little")
        if depth == DEEPEST or count * values > self._left:
            raise ValueError("it has more values than a session can have")
        return count

    def _tuple(self, depth: int) -> tuple[Plain, ...]:
        return tuple([self.value(depth + 1) for _ in range(self._count(depth, 1))])

    def _dict(self, depth: int) -> dict[Plain, Plain]:
        """Keys may only be numbers and text: others could be chosen to have equal hashes in any
        number."""
        made: dict[Plain, Plain] = {}
        for _ in range(self._count(depth, 2)):
            key = self.value(depth + 1)
            if not isinstance(key, int | str):
                raise ValueError("it has a table whose keys are neither numbers nor names")
            made[key] = self.value(depth + 1)
        return made
