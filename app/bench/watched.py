"""The interface while all machines run freely, with one more key, for ``bench screen``.

F12 shows ``WORDS`` over the session, once the machines run, and takes them away again. So the way of a
key to the screen is measured without any text or key of the interface itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from app import pace
from app.any_session import AnySession
from app.session_thread import Opener
from app.tui.app import RingscopeApp
from app.tui.screens.over import Over
from cores.lockstep.options import Options
from cores.runs.open import open_session

from . import guests

KEY = "\x1b[24~"
"""F12, as a terminal sends it."""
WORDS = "all machines run freely"
_ROOT = Path(__file__).parents[2]


class Mark(Over[None]):
    """A few words over the session."""

    def compose(self) -> ComposeResult:
        yield Static(WORDS)


class Watched(RingscopeApp):
    """The interface, with that key."""

    CSS_PATH = str(_ROOT / "app" / "tui" / RingscopeApp.CSS_PATH)  # Textual looks beside this file
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f12", "mark", show=False, priority=True)]

    def show_session(self, opener: Opener) -> None:
        super().show_session(opener)
        assert self.worker is not None
        self.worker.run_free()

    def action_mark(self) -> None:
        if isinstance(self.screen, Mark):
            self.pop_screen()
            return
        snapshot = self.worker.snapshot if self.worker is not None else None
        if snapshot is not None and snapshot.running and snapshot.mode == "free":
            self.push_screen(Mark())
        else:
            self.set_timer(0.05, self.action_mark)


def command() -> list[str]:
    """The command that starts it in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from {__name__} import main; main()"
    return [sys.executable, "-P", "-c", code]


def app() -> Watched:
    def opener() -> AnySession:
        return open_session(guests.forever(), Options())

    return Watched(lambda path, disk: opener, list, opener)


def main() -> None:
    pace.take_turns()
    app().run()
