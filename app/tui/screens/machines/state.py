"""The machines' state: change it, type into it, give it a disk, save all of it."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from pathlib import PurePath
from typing import TYPE_CHECKING

from textual.message import Message

from app.any_session import AnySession
from app.session_thread import words
from app.tui.files import REFUSED
from cores.debugging import edits
from cores.errors import InputError

from ..ask import Ask
from .host import Host

if TYPE_CHECKING:
    from app.gdb.listener import Listener

HOW_TO_EDIT = 'rax = 48, 100200 = 48 65, text = "Hi"; ends in @core for one machine alone'


class StateController:
    """Asks the user, and hands what was answered to the worker."""

    class DiskWanted(Message):
        """The guests are to have another data disk; "" none."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, host: Host) -> None:
        self._host = host
        self._listener: Listener | None = None

    def debugger(self) -> None:
        """Listen for a debugger on this computer; the second time, say again where."""
        if self._host.snapshot is None:
            return
        if not self._host.files.all:
            self._host.say("A visitor's session takes no debugger", warning=True)
            return
        if self._listener is None:
            from app.gdb.listener import Listener

            try:
                self._listener = Listener(self._host.worker)
            except (InputError, CancelledError) as error:
                self._host.say(words(error), warning=True)
                return
        place = self._listener.address
        self._host.say(f"gdb -ex 'target remote {place}': each machine is a thread (docs/gdb.md)")

    def close(self) -> None:
        """End what listens."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def edit(self) -> None:
        """Change a register or memory of all machines alike, or of one."""
        s = self._host.snapshot
        if s is None:
            return
        if s.mode == "free":
            self._host.say("The machines run freely: restart to change their state", warning=True)
            return
        symbols, cores = s.symbols, [m.core for m in s.machines]

        def answered(text: str) -> None:
            if not text.strip():
                return
            what, _, core = text.partition("@")
            names = [name for name in cores if not core or name.startswith(core.strip())]
            try:
                change = edits.parse(what, symbols)
                if not names:
                    raise InputError(f"no machine here is called {core.strip()!r}")
            except InputError as error:
                self._host.say(words(error), warning=True)
                return
            self._host.forgotten()
            self._host.worker.poke(change, names[0] if core else None)  # a failure is in the banner

        self._host.ask(Ask("Change what?", "rax = 48", "", HOW_TO_EDIT), answered)

    def type(self) -> None:
        """Type a line on the guests' keyboards."""

        def answered(text: str) -> None:
            self._host.worker.type(text + "\n")

        self._host.ask(Ask("Type on the guests' keyboard", "Enter sends the line"), answered)

    def disk(self) -> None:
        """Start over with a data disk."""
        if not self._may_name_files():
            return
        s = self._host.snapshot
        now = s.disk if s is not None else ""
        hint = "The machines start over. Empty: no disk. Each writes to a copy of its own."

        def answered(path: str) -> None:
            self._host.post_message(self.DiskWanted(path.strip()))

        self._host.ask(Ask("Which disk image?", "a raw image", now, hint), answered)

    def save(self) -> None:
        """Save all machines into a file, which the home screen opens again."""
        s = self._host.snapshot
        if s is None or not self._may_name_files():
            return

        def answered(text: str) -> None:
            if path := text.strip():
                saving = self._host.worker.ask(lambda session: _saved(session, path))
                self._host.when_done(saving, lambda done: self._known(path, done))

        name = "session" if s.path == "-" else PurePath(s.path).stem
        hint = "All machines as they stand now. The way they came is not kept."
        question = Ask("Save the session as which file?", "a file", f"{name}.ringscope", hint)
        self._host.ask(question, answered)

    def _may_name_files(self) -> bool:
        if not self._host.files.all:
            self._host.say(REFUSED.capitalize(), warning=True)
        return self._host.files.all

    def _known(self, path: str, done: Future[str]) -> None:
        """Say how the saving ended."""
        if done.cancelled() or done.exception() is not None:
            return  # said in the banner
        if refusal := done.result():
            self._host.say(refusal, warning=True)
            return
        self._host.worker.saved = self._host.worker.place
        self._host.settings.last = path
        self._host.settings.save()
        self._host.say(f"Saved {path}: the first page goes on there")


def _saved(session: AnySession, path: str) -> str:
    """Save it; the reason where it is refused, which is no failure of the session's, else ""."""
    from cores.debugging import saved_session
    from cores.debugging.live_session import LiveSession

    if not isinstance(session, LiveSession):
        return "only sessions of x86 machines can be saved"
    try:
        saved_session.save(session, path)
    except InputError as error:
        return words(error)
    return ""
