"""The page of a lesson that is in sight: state, no widget."""

from __future__ import annotations

from app.tui.lanes import lesson
from app.tui.lanes.compose import lesson_height
from app.tui.lanes.scene import Scene
from app.tui.rows.rows import Row
from lessons.play.events import Event


class LessonPage:
    """title: of the lesson. step: number and name of the present one. hint: what the reader can do.
    page: the part of the turn that is in sight, where it is longer than the screen has room for.
    picked: the marked choice of the question that waits, None without one. by_itself: the pages are
    turned for the reader. votes: of the class, in a line; "" where there are none."""

    def __init__(self) -> None:
        self.title, self.step, self.hint = "", "", ""
        self.events: tuple[Event, ...] = ()
        self.page = 0
        self.picked: int | None = None
        self.by_itself = False
        self.votes = ""
        self._size = (80, 24)

    def show(
        self, title: str, step: str, events: tuple[Event, ...], hint: str, *, by_itself: bool = False
    ) -> None:
        if events[:1] != self.events[:1]:
            self.page = 0
        self.title, self.step, self.events, self.hint = title, step, events, hint
        self.by_itself = by_itself

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever it has to be drawn anew."""
        said = (self.title, self.step, self.hint, self.events, self.votes)
        return (*said, self.page, self.picked, self.by_itself)

    def _pages(self) -> list[list[Row]]:
        width, height = self._size
        blocks = lesson.text_blocks(self.events, width, self.picked)
        if self.votes:
            blocks = lesson.with_votes(blocks, self.votes, width)
        return lesson.pages(blocks, lesson_height(height) - 1)

    @property
    def in_sight(self) -> str:
        """The words of the present page."""
        pages = self._pages()
        rows = pages[min(self.page, len(pages) - 1)]
        return "\n".join("".join(text for text, _ in line) for line in rows)

    def turn(self, by: int = 1) -> bool:
        """The next page; False when there is none."""
        page = self.page + by
        if not 0 <= page < len(self._pages()):
            return False
        self.page = page
        return True

    @property
    def last(self) -> bool:
        """Is the end of the turn in sight, and with it a question?"""
        return self.page + 1 >= len(self._pages())

    def rows(self, scene: Scene) -> tuple[Row, ...]:
        """The rule, and the page."""
        self._size = scene.width, scene.height
        pages = self._pages()
        self.page = min(self.page, len(pages) - 1)
        more = self.page + 1 < len(pages) and not self.by_itself
        keys = "Enter read on   Backspace back" if more else self.hint
        step = self.step if scene.width >= 110 else self.step.partition(":")[0]
        return (lesson.lesson_rule(scene, self.title, step, keys), *pages[self.page])
