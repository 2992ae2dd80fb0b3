"""An ELF64 object: the contents of its `.text`, and where its labels are (ELF-64 Object File Format,
versions 1.5, "Section header", "Symbol table")."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _RELA = 2, 4


_RELOCATION = struct.Struct("<QQq")


class Incomplete(Exception):
    """A linker would have to complete the object. offset: in `.text`, of the first such place. symbols:
    as in ``Text``."""

    def __init__(self, offset: int, symbols: dict[str, int]) -> None:
        super().__init__(offset)
        self.offset = offset
        self.symbols = symbols


@dataclass(frozen=True, slots=True)
class Text:
    """content: the whole section. symbols: name -> offset in it."""

    content: bytes
    symbols: dict[str, int]


def read(image: bytes) -> Text:
    """Raises Incomplete for relocations of `.text`, and struct.error, IndexError or ValueError for what
    is no object."""
    fields = _HEADER.unpack_from(image)
    offset, number, names = fields[6], fields[12], fields[13]
    sections = [_SECTION.unpack_from(image, offset + i * _SECTION.size) for i in range(number)]

    def name(table: int, at: int) -> str:
        start = sections[table][4] + at
        return image[start : image.index(b"\0", start)].decode()

    text = [name(names, section[0]) for section in sections].index(".text")
    symbols: dict[str, int] = {}
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        for at in range(section[4], section[4] + section[5], _SYMBOL.size):
            label, _, _, where, value, _ = _SYMBOL.unpack_from(image, at)
            if where == text:
                symbols[name(section[6], label)] = value
    for section in sections:
        if section[1] == _RELA and section[7] == text and section[5]:
            offset, _, _ = _RELOCATION.unpack_from(image, section[4])
            raise Incomplete(offset, symbols)
    found = sections[text]
    return Text(image[found[4] : found[4] + found[5]], symbols)
