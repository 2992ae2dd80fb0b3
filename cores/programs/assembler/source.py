"""The lexer: from characters to statements; comments, quotations, `;`.

`#`, `//` and `/* */` begin comments. So does `;` where no statement follows it: `cli; hlt` is two
statements, as in the GNU assembler, and `cli ; no interrupts now` is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cores.errors import InputError
from cores.programs.assembler import dialect

LABEL = re.compile(r"\s*(\d+|[A-Za-z_.$][\w.$@]*)\s*:(?!=)")
MACRO_LABEL = re.compile(r"\s*[\w.$@\\()]*\\[\w.$@\\()]*\s*:(?!=)")
"""A label that contains a macro's argument: `\\name:`, `skip\\@:`."""
WORD = re.compile(r"[A-Za-z_.$][\w.$@]*")
ASSIGNMENT = re.compile(r"([A-Za-z_.$][\w.$@]*)\s*(?:=(?!=)|\s[eE][qQ][uU]\s)(.*)$")
DEFINITION = re.compile(r"\.(?:equ|set|equiv)\s+([A-Za-z_.$][\w.$@]*)\s*,(.*)$", re.IGNORECASE)
QUOTATION = re.compile(r'"(\\.|[^"\\])*"|\'(\\.|[^\\])\'')
_QUOTED = re.compile(r'("(?:\\.|[^"\\])*"|\'(?:\\.|[^\\])\')')
_COMMENT_OR_QUOTE = re.compile("[#/;\"']")
_PROSE = re.compile(
    r"\b(?!(?:ptr|offset|short|rel|far)\b)[A-Za-z]+ +"
    r"(?!(?:ptr|byte|[dq]?word|tbyte|xmmword|offset)\b)[A-Za-z]"
)
LONGEST_LINE = 1 << 16
"""Characters: the time to scan a line grows with their square."""
LONGEST_EXCERPT = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the user wrote it, or as a macro expanded to it.

    line: its own, or that of the outermost macro's use. written: its own line. via: names the macro in
    messages, "" outside. call: the number of the macro expansion that it comes from, and depth: the
    nesting of that; 0 outside."""

    text: str
    line: int
    written: int
    via: str = ""
    call: int = 0
    depth: int = 0


def excerpt(text: str) -> str:
    """A statement, as a message quotes it."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_EXCERPT else f"{words[:LONGEST_EXCERPT]} ..."


def outside_quotes(change: Callable[[str], str], text: str) -> str:
    """Apply ``change`` to the pieces of ``text`` between strings and character constants."""
    return "".join(p if i % 2 else change(p) for i, p in enumerate(_QUOTED.split(text)))


def split(text: str, separator: str) -> list[str]:
    """Split at the separators outside quotes."""
    hidden = "".join(
        p.replace(separator, "\0") if i % 2 else p for i, p in enumerate(_QUOTED.split(text))
    )
    return [p.replace("\0", separator) for p in hidden.split(separator)]


def read(source: str, path: str, is_mnemonic: Callable[[str], bool]) -> list[Statement]:
    """The statements of a source. is_mnemonic: whether a word is an instruction, which decides what a
    `;` begins. Raises InputError for unterminated quotations and comments, and for invalid
    characters."""
    return _Reader(path, is_mnemonic).read(source)


class _Reader:
    def __init__(self, path: str, is_mnemonic: Callable[[str], bool]) -> None:
        self.path = path
        self.is_mnemonic = is_mnemonic
        self.macros: set[str] = set()
        self.line = 0

    def read(self, source: str) -> list[Statement]:
        lines = list(self._without_comments(source))
        for text in lines:  # macros may be used before they are defined, as far as `;` goes
            self.macros |= {m.lower() for m in re.findall(r"(?:^|;)\s*\.macro\s+([\w.$]+)", text)}
        found = []
        for self.line, text in enumerate(lines, 1):
            found += [Statement(part, self.line, self.line) for part in self._statements(text)]
        return found

    def _error(self, reason: str, shown: str) -> InputError:
        return InputError(f"{reason}: {excerpt(shown)}", self.path, self.line)

    def _without_comments(self, source: str) -> Iterator[str]:
        """The lines, with comments replaced by blanks."""
        comment = 0  # the line where an open /* began
        for self.line, line in enumerate(source.split("\n"), 1):
            if len(line) > LONGEST_LINE:
                raise self._error(f"more than {LONGEST_LINE} characters in a line", line)
            if not comment and not _COMMENT_OR_QUOTE.search(line):
                yield line.rstrip()
                continue
            kept, i = "", 0
            while i < len(line):
                if comment:
                    end = line.find("*/", i)
                    i, comment = (end + 2, 0) if end >= 0 else (len(line), comment)
                elif line.startswith("/*", i):
                    i, comment, kept = i + 2, self.line, kept + " "
                elif (
                    line[i] == "#" or line.startswith("//", i) or (line[i] == ";" and not kept.strip())
                ):
                    break
                elif line[i] in "\"'":
                    match = QUOTATION.match(line, i)
                    if match is None:  # "; doesn't": an apostrophe in a comment
                        if ";" not in kept:
                            raise self._error("quotation without an end", line[i:])
                        kept = kept[: kept.rindex(";")]
                        break
                    i, kept = match.end(), kept + match[0]
                else:
                    i, kept = i + 1, kept + line[i]
            yield kept.rstrip()
        if comment:
            raise InputError("comment without an end", self.path, comment)

    def _statements(self, text: str) -> Iterator[str]:
        """Split at `;`, which begins a comment where no statement follows it."""
        if bad := next((c for c in text if not (c.isprintable() or c in "\t\r\f")), ""):
            raise self._error("unexpected character", repr(bad))
        for i, part in enumerate(split(text, ";")):
            if i and not self._is_statement(part.strip()):
                return
            if part.strip():
                yield part.strip()

    def _is_statement(self, part: str) -> bool:
        if not part or LABEL.match(part) or MACRO_LABEL.match(part) or ASSIGNMENT.match(part):
            return True
        match = WORD.match(part)
        if match is None:
            return part.startswith("\\")
        word = match[0].lower()
        if word.startswith("."):
            return len(word) > 1 and word[1].isalpha()
        if word in self.macros or word in dialect.ADDED:
            return True
        # "in the beginning" begins with a mnemonic, but is prose: two words in a row
        return self.is_mnemonic(word) and not _PROSE.search(part[match.end() :])
