"""The screen, as its controllers need it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from textual.message import Message

from app.session_thread import Worker
from app.tui.files import Files
from app.tui.lanes.scene import Scene
from app.tui.settings import Settings
from cores.machine.report import SessionSnapshot

from ..ask import Ask
from ..over import Over
from ..pick import Pick

T = TypeVar("T")


class Host(Protocol):
    """screen/machines.py implements it."""

    worker: Worker
    settings: Settings

    @property
    def snapshot(self) -> SessionSnapshot | None:
        """The worker's newest."""

    @property
    def files(self) -> Files:
        """Those that may be read and written."""

    @property
    def columns(self) -> int:
        """Width of the screen in cells."""

    @property
    def has_page(self) -> bool:
        """Is there a lesson?"""

    def scene(self) -> Scene | None:
        """What is shown now; None before the first snapshot."""

    def ask(self, question: Ask, answered: Callable[[str], None]) -> None:
        """Open a question; ``answered`` is not called where it is given up."""

    def choose(self, pick: Pick, chosen: Callable[[str | None], None]) -> None:
        """Open a list; ``chosen`` gets None where it is given up."""

    def open(self, sheet: Over[None]) -> None:
        """Show a sheet over the screen."""

    def terminal(self) -> None:
        """The guest's own terminal in place of this screen, until Esc."""

    def say(self, words: str, *, warning: bool = False) -> None:
        """A message that goes away by itself."""

    def when_done(self, future: Future[T], then: Callable[[Future[T]], None]) -> None:
        """Call ``then`` in the interface's thread once the worker has answered."""

    def post_message(self, message: Message) -> bool:
        """Textual's: to the screen's parents, the app first."""

    def moved(self) -> None:
        """The machines are about to go elsewhere by the user's hand: let go of what was chosen."""

    def forgotten(self) -> None:
        """Nothing lies ahead of the machines any more."""

    def stale(self) -> None:
        """Something other than the snapshot has changed: draw again."""
