"""The guest's terminal: its screen, with the keyboard. Every key but Esc and Ctrl+] is the guest's.

Keys become what a terminal sends for them (cores/pc/devices/scancodes.py) and go to the session's
thread; the guest gets scan codes, or bytes at its serial port, whichever it listens to.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from app.any_session import AnySession
from app.session_thread import Worker
from app.tui.lanes.scene import Scene
from app.tui.lanes.terminal import Keystroke, Typing, has_both, terminal_rows, until_sleep
from cores.inspection.views import EventsQuery, EventsView
from cores.machine.report import SessionSnapshot
from cores.pc.devices.scancodes import SENT
from cores.vmm.trace import ExitEvent

from ...widgets.keys import Hint, Keys
from ...widgets.region import Region
from ...widgets.timeline import Timeline

FRAME = 1 / 30
ASK_EVERY = 5
"""Frames between two looks at the exits of the keys."""
MOST_EVENTS = 2000
"""Events of one key that are looked at."""
KEPT = 40
"""Keystrokes that are remembered."""
REGIONS = ("header", "facts", "track", "rule", "program", "glass")

HINTS: list[Hint] = [
    ("Esc", "back to Ringscope", "back"),
    ("Ctrl+] Esc", "Esc for the guest", "send_escape"),
]

BOTH: list[Hint] = [*HINTS, ("Ctrl+] Tab", "screen or console", "other_glass")]

NAMED = {
    "enter": b"\r", "tab": b"\t", "backspace": b"\x7f", "shift+tab": b"\x1b[Z", "ctrl+j": b"\r",
    "ctrl+backslash": b"\x1c", "ctrl+circumflex_accent": b"\x1e", "ctrl+underscore": b"\x1f",
    "ctrl+at": b"\x00", **{key: SENT[key] for key in SENT},
}  # fmt: skip
PREFIX = "ctrl+right_square_bracket"

SHOWN = {"enter": "Enter", "backspace": "Backspace", "tab": "Tab", "space": "space", "escape": "Esc"}
"""Names of keys in the list of what they set off."""


def sent(key: str, character: str | None) -> bytes:
    """What a terminal sends for a key, as Textual names it; b"" for one that sends nothing."""
    plain = key.removeprefix("shift+") if key.removeprefix("shift+") in SENT else key
    if plain in NAMED:
        return NAMED[plain]
    if key.startswith("ctrl+") and len(key) == 6 and key[5].isascii() and key[5].isalpha():
        return bytes((ord(key[5].lower()) - 0x60,))
    if character is not None and len(character) == 1 and character.isprintable():
        return character.encode("latin-1", "replace")
    return b""


def shown(key: str, character: str | None) -> str:
    """A key's name in the list."""
    if character is not None and len(character) == 1 and character.isprintable() and character != " ":
        return character
    if key in SHOWN:
        return SHOWN[key]
    return f"Ctrl+{key[5:].upper()}" if key.startswith("ctrl+") else key.capitalize()


class GuestTerminal(Screen[None]):
    """Drawn from the worker's snapshots, as the session's screen, over which it lies."""

    def __init__(
        self, worker: Worker, scene: Callable[[SessionSnapshot, tuple[int, int]], Scene]
    ) -> None:
        """scene: the session's screen's view of a snapshot, at a size."""
        super().__init__()
        self._worker, self._scene = worker, scene
        self.regions = {name: Region(name, lambda region, x, y: "") for name in REGIONS}
        self.timeline, self.key_row = Timeline(), Keys(HINTS)
        self.key_row.last = ("everything else", "is the guest's", "")
        self._typed: list[Keystroke] = []
        self._prefixed = self._serial = False
        self._drawn: tuple[object, ...] = ()
        self._kept: tuple[object, ...] = ()
        self._frame = 0
        self._asked: Future[list[tuple[Keystroke, Keystroke]]] | None = None
        self._started = False

    def compose(self) -> ComposeResult:
        yield from self.regions.values()
        yield self.timeline
        yield self.key_row

    def on_mount(self) -> None:
        self.set_interval(FRAME, self.tick)
        self.call_after_refresh(self.tick)

    def on_unmount(self) -> None:
        if self._started:  # the run was for the keys' sake
            self._worker.pause()

    def on_resize(self) -> None:
        self._drawn = ()
        self.call_after_refresh(self.tick)

    # -- drawing ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Draw what has changed since the last frame."""
        if not self.is_current or not self.size.width:
            return
        self._frame += 1
        if self._frame % ASK_EVERY == 0:
            self._look_at_keys()
        s = self._worker.snapshot
        keys = tuple(self._typed)
        state = (id(s), keys, self._prefixed, self._serial)
        if s is None or not s.machines or state == self._drawn:
            return
        self._drawn, self._kept = state, (s, keys)
        scene = self._scene(s, (self.size.width, self.size.height))
        rows = terminal_rows(scene, Typing(keys, self._prefixed, self._serial))
        self.key_row.show(BOTH if has_both(s.machines[0]) else HINTS)
        for name, region in self.regions.items():
            region.show(rows.get(name, []))
        now = s.machines[0].instructions if s.mode == "exact" else None
        marks = dict(zip(s.marks, s.mark_counts or (1,) * len(s.marks), strict=True))
        self.timeline.show(now, marks, s.progress)

    # -- keys ---------------------------------------------------------------------------------

    def take_key(self, event: events.Key) -> None:
        """A key, past every binding, the app's own as well."""
        if self._prefixed:
            self._prefixed = False
            s = self._worker.snapshot
            if event.key == "escape":
                self.send(b"\x1b", "Esc")
            elif event.key == "tab" and s is not None and s.machines and has_both(s.machines[0]):
                self._serial = not self._serial
            else:
                self.action_back()
        elif event.key == "escape":
            self.action_back()
        elif event.key == PREFIX:
            self._prefixed = True
        elif text := sent(event.key, event.character):
            self.send(text, shown(event.key, event.character))

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        text = event.text.replace("\r\n", "\n").replace("\n", "\r")
        if text:
            self.send(text.encode("latin-1", "replace"), f"{len(text)} pasted")

    def send(self, text: bytes, name: str) -> None:
        """Type this on the guests' keyboards. Machines that stand still are let run: nothing else would
        have them take the key. Whether they do is seen once it is typed: the last key's run may have
        ended meanwhile."""
        s = self._worker.snapshot
        if s is None or not any(m.stop is None or m.awaits_key for m in s.machines):
            return

        def typed(done: Future[None]) -> None:  # in the worker's thread: the snapshot is the key's own
            now = self._worker.snapshot
            if now is None or done.cancelled() or done.exception() is not None:
                return
            first = {m.core: sum(m.exits_by_reason.values()) for m in now.machines}
            if not now.running:
                self._started = True
                if now.mode == "free":
                    self._worker.run_free()
                else:
                    self._worker.run()
            self.app.call_later(self._remember, Keystroke(name, first, {}))

        self._worker.type(text.decode("latin-1")).add_done_callback(typed)

    def _remember(self, key: Keystroke) -> None:
        """Keys that come before the guest is done with the last have one row: their exits cannot be
        told apart."""
        last = self._typed[-1] if self._typed else None
        if last is not None and not last.settled:
            self._typed[-1] = replace(last, name=f"{last.name} {key.name}")
        else:
            self._typed = [*self._typed[1 - KEPT :], key]

    def action_back(self) -> None:
        """Esc: the keys are Ringscope's again."""
        if self.is_current:
            self.app.pop_screen()

    def action_other_glass(self) -> None:
        self._serial = not self._serial

    def action_send_escape(self) -> None:
        self.send(b"\x1b", "Esc")

    def _look_at_keys(self) -> None:
        """Ask the worker for the exits of the keys that are not settled."""
        if self._asked is not None and not self._asked.done():
            return
        if self._asked is not None and not self._asked.cancelled() and self._asked.exception() is None:
            found = {id(old): new for old, new in self._asked.result()}  # not those renamed meanwhile
            self._typed = [found.get(id(key), key) for key in self._typed]
        self._asked = None
        s = self._worker.snapshot
        keys = [key for key in self._typed if not key.settled]
        if keys and s is not None:
            cores = [m.core for m in s.machines if m.core != "interpreter"]
            self._asked = self._worker.ask(
                lambda session: [(key, _looked(session, key, cores)) for key in keys]
            )


def _looked(session: AnySession, key: Keystroke, cores: list[str]) -> Keystroke:
    """The key with its events so far."""
    found: dict[str, tuple[ExitEvent, ...]] = {}
    settled = True
    for core in cores:
        view = session.query(EventsQuery(core, key.first.get(core, 0), MOST_EVENTS))
        events = view.events if isinstance(view, EventsView) else ()
        found[core], slept = until_sleep(events)
        settled &= slept or len(events) == MOST_EVENTS
    return replace(key, events=found, settled=settled)
