"""Source lines of a compiled program: the line number programs of DWARF, versions 2 to 5.

Source: DWARF 5, 6.2; the section's name is .debug_line. The file is untrusted: every length is checked,
each opcode consumes a byte, the opcodes are counted, and whatever is damaged ends in one note, with the
lines that were found before it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MOST_OPCODES = 1_500_000
"""Opcodes of line number programs that are executed: about a second. A teaching kernel has 30,000."""
MOST_FILES = 20_000
"""Names of directories and of files in one header; more than a large kernel's unit includes."""
_LARGEST_SECTION = 64 << 20
_SECTIONS = (".debug_line", ".debug_line_str", ".debug_str")
_COMPRESSED = 1 << 11  # SHF_COMPRESSED
_ZLIB = 1
_PT_LOAD = 1
_PATH, _DIRECTORY = 1, 2  # DW_LNCT_path, DW_LNCT_directory_index


@dataclass(frozen=True, slots=True)
class LineTable:
    """places: (address, file, line) in ascending order, from each of which code belongs to that line;
    line 0: to none. files: their names, with directories where they are recorded. note: why it is not
    whole, "" where it is."""

    places: tuple[tuple[int, int, int], ...]
    files: tuple[str, ...]
    note: str = ""


EMPTY = LineTable((), ())


class _Damaged(Exception):
    """What is read does not follow the standard, in words."""


class _Reader:
    """Reads numbers and strings, never beyond ``end``."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, min(end, len(data))

    def take(self, size: int) -> bytes:
        at = self.at
        if size < 0 or at + size > self.end:
            raise _Damaged("it ends too early")
        self.at = at + size
        return self.data[at : at + size]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def uleb(self) -> int:
        """A LEB128 number (7.6). Ten bytes hold 64 bits; more are damage."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _Damaged("a number of more than 64 bits")

    def sleb(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value - (1 << shift + 7 if byte & 0x40 else 0)
        raise _Damaged("a number of more than 64 bits")

    def string(self) -> str:
        close = self.data.find(b"\0", self.at, self.end)
        if close < 0:
            raise _Damaged("a name without an end")
        found, self.at = self.data[self.at : close], close + 1
        return found.decode("utf-8", "replace")


@dataclass(slots=True)
class _Unit:
    """The header of a line number program (6.2.4). first: the number of the first file."""

    step: int
    line_base: int
    line_range: int
    lengths: bytes
    statements: bool
    files: list[str]
    first: int


def read(image: bytes) -> LineTable:
    """The line table of an ELF file; ``EMPTY`` without one. Raises nothing."""
    try:
        sections = _sections(image)
        code = [addresses for addresses, _ in loaded(image)]
    except (struct.error, _Damaged, zlib.error) as error:
        return LineTable((), (), f"its debug information is damaged: {error}")
    data = sections.get(".debug_line", b"")
    return _Table(data, sections, code).read() if data else EMPTY


def has(image: bytes) -> bool:
    """Does a file name such a section at all? Only then is it worth a look."""
    return image.startswith(b"\x7fELF") and b".debug_line\0" in image


class _Table:
    """All units of the section."""

    def __init__(self, data: bytes, strings: dict[str, bytes], code: list[range]) -> None:
        self._data, self._strings, self._code = data, strings, code
        self._numbers: dict[str, int] = {}
        self._found: list[tuple[int, int, int]] = []
        self._left = MOST_OPCODES

    def read(self) -> LineTable:
        note = ""
        reader = _Reader(self._data, 0, len(self._data))
        try:
            while reader.at < reader.end:
                self._unit(reader)
        except _Damaged as error:
            note = f"its debug information is damaged: {error}"
        if self._left <= 0:
            note = f"of its debug information only the first {MOST_OPCODES:,} steps were read"
        places: dict[int, tuple[int, int]] = {}
        for address, file, line in self._found:  # where code ends, and other code begins, that counts
            if line or address not in places:
                places[address] = (file, line)
        table = tuple((address, *places[address]) for address in sorted(places))
        return LineTable(table, tuple(self._numbers), note)

    def _unit(self, reader: _Reader) -> None:
        size, width = reader.unsigned(4), 4
        if size == 0xFFFFFFFF:
            size, width = reader.unsigned(8), 8
        inner = _Reader(reader.data, reader.at, reader.at + size)
        reader.take(size)
        version = inner.unsigned(2)
        if not 2 <= version <= 5:
            return  # of a later standard, or padding
        if version == 5:
            inner.take(2)  # the sizes of addresses and segment selectors
        begin = inner.unsigned(width) + inner.at
        unit = self._header(inner, version, width)
        if begin < inner.at:
            raise _Damaged("a header longer than it says")
        inner.at = begin
        while inner.at < inner.end and self._left > 0:
            self._sequence(inner, unit)

    def _header(self, reader: _Reader, version: int, width: int) -> _Unit:
        step = reader.unsigned(1)
        if version >= 4 and reader.unsigned(1) > 1:
            raise _Damaged("instructions of several operations, which x86 has not")
        statements = bool(reader.unsigned(1))
        line_base = reader.unsigned(1)
        line_range, opcode_base = reader.unsigned(1), reader.unsigned(1)
        if not line_range or not opcode_base:
            raise _Damaged("a header with a zero where none may be")
        lengths = reader.take(opcode_base - 1)
        if version == 5:
            directories = [name for name, _ in self._entries(reader, width)]
            entries = list(self._entries(reader, width))
        else:
            directories = ["", *_strings(reader)]
            entries = list(_old_files(reader))
        files = [_joined(directories, at, name) for name, at in entries]
        signed = line_base - 256 if line_base > 127 else line_base
        return _Unit(step, signed, line_range, lengths, statements, files, 0 if version == 5 else 1)

    def _entries(self, reader: _Reader, width: int) -> Iterator[tuple[str, int]]:
        """Names, and the numbers of their directories, in the form of version 5."""
        form = [(reader.uleb(), reader.uleb()) for _ in range(reader.unsigned(1))]
        count = reader.uleb()
        if count > MOST_FILES or (count and not form):
            raise _Damaged(f"{count:,} names in one header")
        for _ in range(count):
            name, directory = "", 0
            for content, kind in form:
                value = self._value(reader, kind, width)
                if content == _PATH and isinstance(value, str):
                    name = value
                elif content == _DIRECTORY and isinstance(value, int):
                    directory = value
            yield name, directory

    def _value(self, reader: _Reader, kind: int, width: int) -> str | int:
        """A value of one of the forms that such an entry may have (7.5.6)."""
        match kind:
            case 0x08:
                return reader.string()
            case 0x1F | 0x0E:  # DW_FORM_line_strp, DW_FORM_strp
                names = self._strings.get(".debug_line_str" if kind == 0x1F else ".debug_str", b"")
                return _Reader(names, reader.unsigned(width), len(names)).string()
            case 0x0F:
                return reader.uleb()
            case 0x0B | 0x05 | 0x06 | 0x07 | 0x1E:
                return reader.unsigned({0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}[kind])
            case 0x09:
                reader.take(reader.uleb())
                return 0
            case _:
                raise _Damaged(f"a name of form {kind:#x}")

    def _sequence(self, reader: _Reader, unit: _Unit) -> None:
        """Run the state machine (6.2.2) up to the end of a sequence."""
        address, file, line = 0, 1, 1
        rows: list[tuple[int, int, int]] = []
        base = len(unit.lengths) + 1
        while reader.at < reader.end:
            self._left -= 1
            if self._left <= 0:
                return
            opcode = reader.unsigned(1)
            if opcode >= base:
                address += (opcode - base) // unit.line_range * unit.step
                line += unit.line_base + (opcode - base) % unit.line_range
                rows.append((address, file, line))
                continue
            match opcode:
                case 0:
                    extended = _Reader(reader.data, reader.at, reader.end)
                    size = extended.uleb()
                    reader.at = extended.at
                    reader.take(size)
                    extended.end = reader.at
                    match extended.unsigned(1) if size else 0:
                        case 1:
                            self._keep(rows, address, unit)
                            return
                        case 2:
                            address = extended.unsigned(size - 1)
                        case _:
                            pass  # define_file, set_discriminator
                case 1:
                    rows.append((address, file, line))
                case 2:
                    address += reader.uleb() * unit.step
                case 3:
                    line += reader.sleb()
                case 4:
                    file = reader.uleb()
                case 8:
                    address += (255 - base) // unit.line_range * unit.step
                case 9:
                    address += reader.unsigned(2)
                case _:
                    for _ in range(unit.lengths[opcode - 1]):
                        reader.uleb()

    def _keep(self, rows: list[tuple[int, int, int]], end: int, unit: _Unit) -> None:
        """A sequence, if it is of code that is loaded: what the linker has dropped lies at 0."""
        if not rows or not any(rows[0][0] in code for code in self._code):
            return
        for address, file, line in rows:
            name = unit.files[file - unit.first] if 0 <= file - unit.first < len(unit.files) else ""
            number = self._numbers.setdefault(name, len(self._numbers))
            self._found.append((address, number, line if name and 0 < line < 1 << 24 else 0))
        self._found.append((end, 0, 0))


def _strings(reader: _Reader) -> Iterator[str]:
    for _ in range(MOST_FILES):
        name = reader.string()
        if not name:
            return
        yield name
    raise _Damaged("too many names in one header")


def _old_files(reader: _Reader) -> Iterator[tuple[str, int]]:
    """Names of files, and their directories, as up to version 4."""
    for name in _strings(reader):
        yield name, reader.uleb()
        reader.uleb()  # when it was changed
        reader.uleb()  # its size


def _joined(directories: list[str], at: int, name: str) -> str:
    """A file's name with its directory, that with the compilation's (number 0)."""
    folder = directories[at] if at < len(directories) else ""
    if at and folder and not folder.startswith("/") and directories[0]:
        folder = f"{directories[0]}/{folder}"
    return name if name.startswith("/") or not folder else f"{folder}/{name}"


def _sections(image: bytes) -> dict[str, bytes]:
    """The sections of debug information that are needed, uncompressed."""
    wide = image[4] == 2
    at = struct.unpack_from("<Q", image, 40)[0] if wide else struct.unpack_from("<I", image, 32)[0]
    size, count, names = struct.unpack_from("<HHH", image, 58 if wide else 46)
    layout = struct.Struct("<IIQQQQ" if wide else "<IIIIII")
    headers = [layout.unpack_from(image, at + i * size) for i in range(count)]
    found: dict[str, bytes] = {}
    if names >= len(headers):
        return found
    begin, length = headers[names][4:6]
    for name, _, flags, _, offset, extent in headers:
        title = _Reader(image, begin + name, begin + length).string() if name < length else ""
        if title in _SECTIONS:
            data = image[offset : offset + extent]
            found[title] = _expanded(data, wide) if flags & _COMPRESSED else data[:_LARGEST_SECTION]
    return found


def _expanded(data: bytes, wide: bool) -> bytes:
    """A compressed section (gABI, Section Compression)."""
    kind = struct.unpack_from("<I", data)[0]
    if kind != _ZLIB:
        raise _Damaged("it is compressed in another way than zlib's")
    return zlib.decompressobj().decompress(data[24 if wide else 12 :], _LARGEST_SECTION)


def loaded(image: bytes) -> list[tuple[range, int]]:
    """The linear addresses that are loaded from the file, and the offsets from which they are. Raises
    struct.error for a file that is cut."""
    wide = image[4] == 2
    at = struct.unpack_from("<Q", image, 32)[0] if wide else struct.unpack_from("<I", image, 28)[0]
    size, count = struct.unpack_from("<HH", image, 54 if wide else 42)
    layout = struct.Struct("<IIQQQQQQ" if wide else "<IIIIIIII")
    found = []
    for i in range(count):
        fields = layout.unpack_from(image, at + i * size)
        offset, linear, _, filed = fields[2:6] if wide else fields[1:5]
        if fields[0] == _PT_LOAD:
            found.append((range(linear, linear + filed), offset))
    return found
