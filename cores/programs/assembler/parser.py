"""Assembly source into units for Keystone, each with its line.

Intel syntax with GNU directives. `#`, `//` and `/* */` begin comments. So does `;` where no statement
follows it: `cli; hlt` is two statements, as Keystone and the GNU assembler have it, and `cli ; no
interrupts now` is one. Besides Keystone's language it takes numeric labels (`1:` with `1b` and `1f`),
`$` for this place, any sum in an operand (cores/programs/assembler/operands.py), and what
cores/programs/assembler/dialect.py rewrites. Sections mean nothing in a flat image: its parts lie in
the order of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod

from cores.errors import InputError
from cores.programs.assembler import dialect, operands

LABEL = re.compile(r"\s*(\d+|[A-Za-z_.@$][\w.$@]*)\s*:(?!=)")
WORD = re.compile(r"[A-Za-z_.@$][\w.$@]*|\\\w+")
ASSIGNMENT = re.compile(r"([A-Za-z_.$@][\w.$@]*)\s*(?:=(?!=)|\s[eE][qQ][uU]\s)(.*)$")
NUMERIC_REFERENCE = re.compile(r"(?<![\w.$])(\d+)([bf])\b")
PROSE = re.compile(
    r"\b(?!(?:ptr|offset|short|rel|far)\b)[A-Za-z]+ +"
    r"(?!(?:ptr|byte|[dq]?word|tbyte|xmmword|offset)\b)[A-Za-z]"
)
QUOTATION = re.compile(r'"(\\.|[^"\\])*"|\'(\\.|[^\\])\'')
DEFINITION = re.compile(r"\.(?:equ|set|equiv)\s+([A-Za-z_.$@][\w.$@]*)\s*,(.*)$", re.IGNORECASE)
COMMENT_OR_QUOTE = re.compile("[#/;\"']")
HUGE = 1 << 29
"""Bytes in the largest RAM."""
MANY = 1 << 20
"""Repetitions that Keystone manages in a moment."""
LONGEST_LINE = 1 << 16
"""Characters: what looks at a line takes the square of them."""
LONGEST_EXCERPT = 100


@dataclass(frozen=True, slots=True)
class Unit:
    """What must stay together: a statement, or a block from `.rept` to its `.endr`.

    line: 1-based, where it begins. shown: the user's text, for messages. text: for Keystone.
    size: the bytes it has to come to, None when that is not known beforehand. code: an instruction,
    of which some bytes must come: Keystone drops many that it cannot read, without a word.
    """

    line: int
    shown: str
    text: str
    size: int | None = None
    code: bool = False


@dataclass(slots=True)
class Assembly:
    """A source, parsed. labels: the names that the user gave to places, in order."""

    units: list[Unit] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def excerpt(text: str) -> str:
    """A statement, as a message quotes it."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_EXCERPT else f"{words[:LONGEST_EXCERPT]} ..."


def parse(source: str, path: str, is_mnemonic: Callable[[str], bool], base: int) -> Assembly:
    """Raises InputError for what Keystone would misunderstand.

    is_mnemonic: is this word an instruction? It decides what a `;` begins. base: of the image."""
    parser = _Parser(path, is_mnemonic, base)
    lines = list(parser.without_comments(source))
    for parser.line, text in enumerate(lines, 1):
        parser.find_names(text)
    statements = []
    for parser.line, text in enumerate(lines, 1):
        for statement in parser.statements(text):
            statements.append((parser.line, statement))
            parser.find_definition(statement)
    parser.symbols = operands.resolve(parser.definitions)
    for parser.line, statement in statements:
        parser.statement(statement)
    if parser.blocks:
        _, line, shown, _ = parser.blocks[-1]
        raise InputError(f"block without an end: {shown}", path, line)
    return parser.out


class _Parser:
    def __init__(self, path: str, is_mnemonic: Callable[[str], bool], base: int) -> None:
        self.path = path
        self.base = base
        self.is_mnemonic = is_mnemonic
        self.out = Assembly()
        self.line = 0
        self.macros: set[str] = set()
        self.places: set[str] = set()  # the names that are labels
        self.numeric: dict[str, list[int]] = {}  # numeric label -> the lines that define it
        self.definitions: dict[str, list[str]] = {}  # name -> the expressions that it stands for
        self.symbols: dict[str, operands.Sum] = {}
        self.depth = 0
        self.serial = 0
        self.blocks: list[tuple[str, int, str, int]] = []  # open: (closed by, line, text, repetitions)
        self.block: list[str] = []

    def error(self, reason: str, shown: str) -> InputError:
        return InputError(f"{reason}: {excerpt(shown)}", self.path, self.line)

    # From characters to statements

    def without_comments(self, source: str) -> Iterator[str]:
        """The lines, comments blanked out; raises InputError for quotations without an end."""
        comment = 0  # the line where an open /* began
        for self.line, line in enumerate(source.split("\n"), 1):
            if len(line) > LONGEST_LINE:
                raise self.error(f"more than {LONGEST_LINE} characters in a line", line)
            if not comment and not COMMENT_OR_QUOTE.search(line):
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
                            raise self.error("quotation without an end", line[i:])
                        kept = kept[: kept.rindex(";")]
                        break
                    i, kept = match.end(), kept + match[0]
                else:
                    i, kept = i + 1, kept + line[i]
            yield kept.rstrip()
        if comment:
            raise InputError("comment without an end", self.path, comment)

    def find_names(self, text: str) -> None:
        """First pass: macros and numeric labels may be used before they are defined."""
        for part in dialect.split(text, ";"):
            if match := re.match(r"\s*\.macro\s+([\w.$]+)", part):
                self.macros.add(match[1].lower())
            while match := LABEL.match(part):
                if match[1].isdigit():
                    self.numeric.setdefault(match[1], []).append(self.line)
                self.places.add(match[1])
                part = part[match.end() :]

    def find_definition(self, statement: str) -> None:
        """Names of numbers may be used before they are defined as well."""
        while match := LABEL.match(statement):
            statement = statement[match.end() :].strip()
        word = statement.split(maxsplit=1)[0].lower() if statement else ""
        self.depth += (word in dialect.BLOCKS) - (word in dialect.CLOSERS)
        if match := ASSIGNMENT.match(statement) or DEFINITION.match(statement):
            expressions = self.definitions.setdefault(match[1], [])
            expressions.append(match[2] if not self.depth else "")

    def statements(self, text: str) -> Iterator[str]:
        """Split at `;`, which begins a comment where no statement follows it."""
        if bad := next((c for c in text if not (c.isprintable() or c in "\t\r\f")), ""):
            raise self.error("unexpected character", repr(bad))
        for i, part in enumerate(dialect.split(text, ";")):
            if i and not self._is_statement(part.strip()):
                return
            if part.strip():
                yield part.strip()

    def _is_statement(self, part: str) -> bool:
        if not part or LABEL.match(part) or ASSIGNMENT.match(part):
            return True
        match = WORD.match(part)
        if match is None:
            return False
        word = match[0].lower()
        if word.startswith("."):
            return len(word) > 1 and word[1].isalpha()
        if word in self.macros or word in dialect.ADDED:
            return True
        # "in the beginning" starts like an instruction, and is none: two words in a row
        return self.is_mnemonic(word) and not PROSE.search(part[match.end() :])

    # From a statement to a unit

    def statement(self, shown: str) -> None:
        text, labels = shown, ""
        while match := LABEL.match(text):
            labels += self._label(match[1], shown)
            text = text[match.end() :].strip()
        if not text:
            self._emit(shown, labels)
            return
        if match := ASSIGNMENT.match(text):
            self._not_a_register(match[1], shown)
            word, rest = f"{match[1]} =", match[2].strip() or ","
        elif match := WORD.match(text):
            if definition := DEFINITION.match(text):
                self._not_a_register(definition[1], shown)
            word, rest = match[0], text[match.end() :].strip()
        else:
            raise self.error("not a statement", shown)
        if reason := dialect.complaint(word.lower(), rest):
            raise self.error(reason, shown)
        rest = self._numeric_references(rest, shown)
        if word.endswith("="):
            labels, rest = self._here(labels, rest)
            self._emit(shown, f"{labels}{word} {rest}")
        elif word.startswith("."):
            self._directive(shown, labels, word.lower(), rest)
        elif word.lower() in self.macros:
            if '"' not in rest and "'" not in rest:
                labels, rest = self._here(labels, rest)
                rewriter = operands.Rewriter(self.symbols, self.base, lambda: self._name("sum"))
                rest = rewriter.arguments(rest)
                labels += "".join(rewriter.definitions)
            self._emit(shown, f"{labels}{word} {rest}")
        elif word.startswith("\\"):
            self._emit(shown, f"{labels}{word} {rest}")
        else:
            self._instruction(shown, labels, word, rest)

    def _label(self, name: str, shown: str) -> str:
        if name.startswith("__ks_"):
            raise self.error("this name is taken", shown)
        if not name.isdigit():
            self._not_a_register(name, shown)
            if not self.blocks:
                self.out.labels.append(name)
            return f"{name}:\n"
        if self.blocks:
            raise self.error("numeric labels do not work inside a block", shown)
        return f"__ks_{name}_{self.line}:\n"

    def _not_a_register(self, name: str, shown: str) -> None:
        """In an operand such a name is the register, without a word."""
        if operands.REGISTER.match(name):
            raise self.error("a register's name cannot be given to anything else", shown)

    def _numeric_references(self, text: str, shown: str) -> str:
        """`1b` and `1f`: the nearest label 1 up to this line and after it."""

        def target(match: re.Match[str]) -> str:
            places = self.numeric.get(match[1], [])
            if match[2] == "b":
                found = [line for line in places if line <= self.line][-1:]
            else:
                found = [line for line in places if line > self.line][:1]
            if not found:
                raise self.error(f"there is no label {match[0]}", shown)
            return f"__ks_{match[1]}_{found[0]}"

        return dialect.outside_quotes(lambda piece: NUMERIC_REFERENCE.sub(target, piece), text)

    def _here(self, labels: str, text: str) -> tuple[str, str]:
        """`$` and `.`, this place, get a name; Keystone takes `.-a` for one word. Inside a block,
        which may be repeated, a name could not be given twice."""
        if self.blocks:
            return labels, dialect.place(" . ", text)
        here = self._name("here")
        changed = dialect.place(here, text)
        return (labels, text) if changed == text else (f"{labels}{here}:\n", changed)

    def _directive(self, shown: str, labels: str, word: str, rest: str) -> None:
        if word not in dialect.BLOCKS:
            labels, rest = self._here(labels, rest)
        if word in dialect.IGNORED:
            self._emit(shown, labels)
        elif word == ".att_syntax":
            raise self.error("only Intel syntax is understood", shown)
        elif word in dialect.BLOCKS:
            self._open(shown, labels, word, rest)
        elif word in dialect.CLOSERS:
            self._close(shown, f"{labels}{word}")
        elif word == ".org":
            place = dialect.number(rest) or 0
            if not rest or not 0 <= place < HUGE:
                raise self.error("place out of range", shown)
            base = "__ks_0 + " if place < 1 << 20 else ""
            self._emit(shown, f"{labels}. = {base}{rest}")
        elif word in dialect.SPACES:
            self._space(shown, labels, word, rest)
        elif word in dialect.ALIGNMENTS:
            value = dialect.number(dialect.split(rest, ",")[0])
            if value is None or value not in dialect.ALIGNMENTS[word]:
                raise self.error("an alignment is a number, a power of two", shown)
            self._emit(shown, f"{labels}{word} {rest}")
        elif word in dialect.PASSED:
            self._check_arguments(shown, word, rest)
            size = dialect.DATA_SIZES.get(word)
            count = len(dialect.split(rest, ",")) if rest else 0
            self._emit(shown, f"{labels}{word} {rest}", None if size is None else size * count)
        else:
            raise self.error("unknown directive", shown)

    def _check_arguments(self, shown: str, word: str, rest: str) -> None:
        """What Keystone would drop in silence."""
        if word in dialect.ALTERNATIVES and not (self.blocks and self.blocks[-1][0] == ".endif"):
            raise self.error("an alternative without its .if", shown)
        if word in dialect.TEXTS and not all(
            text.lstrip().startswith(('"', "\\")) for text in dialect.split(rest, ",") if rest
        ):
            raise self.error("a text stands in quotation marks", shown)
        if word in dialect.DEFINERS and not DEFINITION.match(f"{word} {rest}"):
            raise self.error("a name, a comma and its value are needed", shown)

    def _number(self, text: str, shown: str) -> tuple[str, bool]:
        """A size or a count, as a plain number if it is known. Else: may Keystone read it as it is?
        It may not where labels decide, for it has no places yet."""
        parts = operands.tokens(text) or []
        whole = operands.evaluate(parts, self.symbols)
        if whole is not None and whole.value is not None:
            return str(whole.value), True
        names = [part for part in parts if operands.is_name(part) and not part.startswith("__ks_")]
        for name in names:
            if not (name[0] == "\\" or name == "." or name in self.places or name in self.definitions):
                raise self.error(f"unknown symbol: {name}", shown)
        # What is defined again and again has the value of the moment, and a macro's argument any.
        return text, any(name[0] == "\\" or len(self.definitions.get(name, ())) > 1 for name in names)

    def _open(self, shown: str, labels: str, word: str, rest: str) -> None:
        if not rest:
            raise self.error("the statement ends too early", shown)
        times = 1
        if word == ".rept":
            rest, readable = self._number(rest, shown)
            count = dialect.number(rest)
            times = 1 if count is None else count
            if not readable or times < 0 or times * prod(block[3] for block in self.blocks) > MANY:
                raise self.error("number out of range", shown)
        if not self.blocks:
            self.block = []
        self.blocks.append((dialect.BLOCKS[word], self.line, shown, times))
        self._emit(shown, f"{labels}{word} {rest}")

    def _close(self, shown: str, text: str) -> None:
        if not self.blocks or self.blocks[-1][0] != shown.split()[0].lower():
            raise self.error("an end without its block", shown)
        self._emit(shown, text)
        _, line, opening, _ = self.blocks.pop()
        if not self.blocks:
            self.out.units.append(Unit(line, opening, "\n".join(self.block)))

    def _space(self, shown: str, labels: str, word: str, rest: str) -> None:
        size, *others = dialect.split(rest, ",")
        size, readable = self._number(size, shown)
        known = [dialect.number(n) for n in (size, *others[: word == ".fill"])]
        counts = [n for n in known if n is not None]
        if not rest or any(n < 0 for n in counts) or prod(counts) > HUGE:
            raise self.error("size out of range", shown)
        if readable:
            self._emit(shown, f"{labels}{word} {','.join((size, *others))}")
            return
        changed = dialect.space(word, size, others)
        if changed is None:
            raise self.error("a size made of labels can only be filled with zeros", shown)
        self._emit(shown, labels + " ".join(changed))

    def _instruction(self, shown: str, labels: str, word: str, rest: str) -> None:
        lead = ""
        while word.lower() in dialect.PREFIXES and (match := WORD.match(rest)):
            lead += f"{word}\n"
            word, rest = match[0], rest[match.end() :].strip()
        changed = dialect.mnemonic(word, dialect.operands(rest))
        if changed is None:
            raise self.error("invalid operand", shown)
        word, rest = changed
        if operands.BRANCH.match(word.lower()):
            rest = re.sub(r"^short\s+", "", rest, flags=re.IGNORECASE)
        labels, rest = self._here(labels, rest)
        rewriter = operands.Rewriter(self.symbols, self.base, lambda: self._name("sum"))
        try:
            rest = ",".join(rewriter.instruction(word.lower(), dialect.split(rest, ",")))
        except operands.Unclear as reason:
            raise self.error(str(reason), shown) from None
        labels += "".join(rewriter.definitions)
        self._emit(shown, f"{labels}{lead}{word} {rest}", code=True)

    def _name(self, kind: str) -> str:
        self.serial += 1
        return f"__ks_{kind}{self.serial}"

    def _emit(self, shown: str, text: str, size: int | None = None, *, code: bool = False) -> None:
        if self.blocks:
            self.block.append(text)
        else:
            self.out.units.append(Unit(self.line, shown, text, size, code))
