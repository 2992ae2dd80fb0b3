"""The VGA text screen: 80 columns by 25 rows at physical 0xB8000, a character and an attribute
byte each (IBM, "VGA Technical Reference", mode 3). No registers: cursor and fonts are not here."""

from __future__ import annotations

from collections.abc import Callable

from cores.pc.physical_memory import SCREEN
from cores.plural import counted

COLUMNS, ROWS = 80, 25
SIZE = COLUMNS * ROWS * 2
PAGE = 4096
WINDOW = SCREEN
"""The page that contains it; behind its 4000 bytes the page reads all ones."""

BLANK = b" \x07"

_LOW_GLYPHS = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
GLYPHS = _LOW_GLYPHS + bytes(range(0x20, 0xFF)).decode("cp437").replace("\x7f", "⌂") + " "
"""The glyph of each of the 256 character codes (code page 437)."""
_SAME = bytes(map(GLYPHS.index, GLYPHS))
"""The first code with the same glyph as a code: several are blank."""


class Vga:
    """The screen as a device in physical memory (``memory.MmioDevice``)."""

    def __init__(
        self, until: str = "", seen: Callable[[], None] = lambda: None,
        given: tuple[memoryview, int] | None = None,
    ) -> None:  # fmt: skip
        """seen: called when the text ``until`` stands on the screen. given: a view, and where in it the
        page is that holds the screen: memory that the guest may be given to write to by itself."""
        self._until, self._seen = until, seen
        self.given = given is not None
        self._view, self._at = given or (memoryview(bytearray(PAGE)), 0)
        self._view[self._at : self._at + PAGE] = (BLANK * (COLUMNS * ROWS)).ljust(PAGE, b"\xff")
        self._saved: bytes | None = None
        self._written = False

    @property
    def cells(self) -> bytes:
        """The screen's 4000 bytes, character and attribute in turn. The same object until the next
        write."""
        if self.given or self._saved is None:
            now = bytes(self._view[self._at : self._at + SIZE])
            if now != self._saved:
                self._saved = now
        assert self._saved is not None
        return self._saved

    @property
    def written(self) -> bool:
        """Has the guest written to it? Where it has the memory itself, that is seen by the contents."""
        if self.given and not self._written:
            self._written = self.cells != BLANK * (COLUMNS * ROWS)
        return self._written

    @property
    def awaited(self) -> bool:
        """Is a text waited for?"""
        return bool(self._until)

    def look(self) -> None:
        """Look for the text that is waited for, where the guest writes without telling."""
        if self.given and self._until and self._until in (self.text() or ""):
            self._seen()

    def mmio_read(self, offset: int, size: int) -> bytes:
        at = self._at + offset
        return bytes(self._view[at : min(at + size, self._at + SIZE)]).ljust(size, b"\xff")

    mmio_peek = mmio_read

    def mmio_write(self, offset: int, data: bytes) -> None:
        data = data[: max(SIZE - offset, 0)]
        if data:
            self._view[self._at + offset : self._at + offset + len(data)] = data
            self._saved = None
            self._written = True
            if self._until and self._shows(self._until, data):
                self._seen()

    def describe_access(self, offset: int) -> str:
        return ""

    def _shows(self, text: str, written: bytes) -> bool:
        """Whether the screen shows the text, and did not before ``written``."""
        if not any(GLYPHS[code] in text for code in written):
            return False
        if "\n" in text:
            return text in (self.text() or "")
        if not set(text) <= set(GLYPHS):
            return False
        return bytes(map(GLYPHS.index, text)) in self.cells[::2].translate(_SAME)

    def text(self) -> str | None:
        """The lines without trailing blanks, and without blank lines at the end; None if the guest
        has never written to the screen."""
        if not self.written:
            return None
        shown = self.cells[::2].decode("latin-1").translate(GLYPHS)
        rows = (shown[at : at + COLUMNS].rstrip(" ") for at in range(0, len(shown), COLUMNS))
        return "\n".join(rows).rstrip("\n")

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Its state in words, as ``Device.facts``."""
        text = self.text()
        words = "never written" if text is None else counted(text.count(chr(10)) + 1, "line")
        return (("screen", words),)

    def save(self) -> tuple[bytes, bool]:
        return self.cells, self.written

    def restore(self, state: tuple[bytes, bool]) -> None:
        self._saved, self._written = state
        self._view[self._at : self._at + SIZE] = self._saved
