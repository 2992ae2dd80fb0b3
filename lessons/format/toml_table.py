"""A TOML table of a lesson, read key by key; whatever is wrong is an InputError with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import cast

from cores.errors import InputError
from lessons.format.expressions import LARGEST, Expression, ExpressionError, parse

_PLACE = re.compile(r" \(at line (\d+), column \d+\)$| \(at end of document\)$")

_PLAIN = {
    "Invalid value": "not a value: write a text in quotes, a number, true or false, or a [list]",
    "Expected '=' after a key": "each line of a block is KEY = VALUE; or is a closing ``` missing?",
    "Expected newline or end of document": "something stands behind the value; a text needs quotes",
    "Cannot overwrite a value": "this key stands here twice",
    "Unterminated string": 'a text is not closed: the second " is missing',
    "Illegal character '\\n'": 'a text is not closed on its line: the second " is missing',
}
"""What tomllib says, and what an author needs to know."""
_LONG_NUMBER = re.compile(r"[0-9_]{4000}")


class Table:
    """path, line: where it begins (1-based line of the fence). Keys that were not asked for are
    reported by ``finish``."""

    def __init__(self, values: dict[str, object], lines: list[str], path: str, line: int) -> None:
        self.path = path
        self.line = line
        self._values = values
        self._lines = lines
        self._known: set[str] = set()

    @classmethod
    def parse(cls, lines: list[str], path: str, line: int) -> Table:
        """lines: the TOML; line: the 1-based line of the fence before it. Raises InputError."""
        try:
            return cls(tomllib.loads("\n".join(lines)), lines, path, line)
        except RecursionError:
            raise InputError("nested too deeply", path, line + 1) from None
        except tomllib.TOMLDecodeError as error:
            place = _PLACE.search(str(error))
            offset = int(place.group(1)) if place and place.group(1) else len(lines)
            said = _PLACE.sub("", str(error))
            reason = next((why for what, why in _PLAIN.items() if said.startswith(what)), said)
            raise InputError(reason, path, line + offset) from None
        except ValueError:  # Python reads no number of thousands of digits
            offset = next((n for n, text in enumerate(lines, 1) if _LONG_NUMBER.search(text)), 1)
            raise InputError("too large a number", path, line + offset) from None

    def error(self, key: str, reason: str) -> InputError:
        """A complaint about the line where ``key`` stands."""
        return InputError(reason, self.path, self._line_of(key))

    def _line_of(self, key: str) -> int:
        pattern = re.compile(rf"\s*(\[\[?\s*)?{re.escape(key)}\b")
        inline = re.compile(rf"[{{,]\s*{re.escape(key)}\s*=")
        for number, line in enumerate(self._lines, self.line + 1):
            if key and (pattern.match(line) or inline.search(line)):
                return number
        return self.line

    def has(self, key: str) -> bool:
        self._known.add(key)
        return key in self._values

    def string(self, key: str, default: str | None = None) -> str:
        """default: None where the key is needed."""
        if not self.has(key):
            if default is None:
                raise InputError(f'{key} = "..." is missing', self.path, self.line)
            return default
        value = self._values[key]
        if not isinstance(value, str):
            raise self.error(key, f"{key} is a text, in quotes")
        return value

    def scalar(self, key: str) -> str:
        """A text or a number, as text."""
        value = self._values[key] if self.has(key) else None
        if isinstance(value, str | int) and not isinstance(value, bool):
            return value if isinstance(value, str) else hex(value)
        raise self.error(key, f"{key} is a text or a number")

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        if not self.has(key) and default is not None:
            return default
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.error(key, f"{key} is a whole number from {low} to {high}")
        return value

    def number(self, key: str, high: float, default: float) -> float:
        value = self._values[key] if self.has(key) else default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
            raise self.error(key, f"{key} is a number from 0 to {high:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self._values[key] if self.has(key) else False
        if not isinstance(value, bool):
            raise self.error(key, f"{key} is true or false")
        return value

    def strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        if not self.has(key):
            return default
        value = self._values[key]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(key, f"{key} is a list of texts")
        return tuple(cast("list[str]", value))

    def lines_of(self, key: str) -> list[tuple[str, int]]:
        """A list of texts, each with the line where it stands."""
        found, at = [], 0
        for text in self.strings(key, ()):
            quoted = (f'"{_escaped(text)}"', f"'{text}'")
            for number in range(at, len(self._lines)):
                if any(words in self._lines[number] for words in quoted):
                    at = number
                    break
            found.append((text, self.line + 1 + at))
        if not found:
            raise self.error(key, f"{key} = [...] is missing")
        return found

    def table(self, key: str) -> dict[str, object]:
        value = self._values[key] if self.has(key) else {}
        if not isinstance(value, dict):
            raise self.error(key, f"{key} is a table")
        return cast("dict[str, object]", value)

    def inner(self, key: str) -> Table:
        """A table inside this one."""
        return Table(self.table(key), self._lines_from(key), self.path, self._line_of(key) - 1)

    def tables(self, key: str) -> list[Table]:
        """The tables of an array: [[choice]] ..."""
        value = self._values[key] if self.has(key) else []
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise self.error(key, f"write [[{key}]]")
        starts = [i for i, line in enumerate(self._lines) if line.strip() == f"[[{key}]]"]
        if len(starts) != len(value):
            raise self.error(key, f"write each [[{key}]] on a line of its own")
        ends = [*starts[1:], len(self._lines)][: len(starts)]
        return [
            Table(cast("dict[str, object]", inner), self._lines[a:b], self.path, self.line + a)
            for inner, a, b in zip(value, starts, ends, strict=True)
        ]

    def _lines_from(self, key: str) -> list[str]:
        return self._lines[self._line_of(key) - self.line - 1 :]

    def expression(self, key: str) -> Expression:
        value = self._values[key] if self.has(key) else ""
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.error(key, f"{key} is an expression, in quotes, or a number")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise self.error(key, "too large a number")
        try:
            return parse(str(value))
        except ExpressionError as error:
            raise self.error(key, str(error)) from None

    def finish(self) -> None:
        """Complain about keys that mean nothing here."""
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise self.error(key, f"nothing is called {key!r} here{hint}")


def _escaped(text: str) -> str:
    """Escape a character for a basic TOML string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
