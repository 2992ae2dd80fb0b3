"""What can be done with a session from a screen: its time, its breakpoints, its state. What of it is
looked at is screens/looking.py's, the keys and the drawing are screens/machines.py's."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import PurePath

from textual.message import Message
from textual.screen import Screen

from app.session_thread import AnySession, Worker, words
from app.tui.rows.glyphs import UNICODE, Glyphs
from cores.debugging import breakpoints, edits
from cores.errors import InputError
from cores.machine.report import SessionSnapshot

from ..settings import Settings
from .ask import Ask

SPEEDS: tuple[float | None, ...] = (1, 2, 5, 10, 50, 200, 1000, None)
"""Instructions a second; None: as fast as it goes."""

HOW_TO_BREAK = "100008 or a symbol, on io, on exit, rax = 48, if = 0, divergence"
HOW_TO_POKE = 'rax = 48, 100200 = 48 65, text = "Hi"; ends in @core for one machine alone'


class SessionScreen(Screen[None]):
    """A screen over a worker's session."""

    class Disk(Message):
        """The user wants the guests to have another data disk; "" none."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, worker: Worker, settings: Settings) -> None:
        super().__init__()
        self.worker = worker
        self.settings = settings
        speed = settings.speed or None
        self.speed = SPEEDS.index(speed) if speed in SPEEDS else len(SPEEDS) - 1

    @property
    def snapshot(self) -> SessionSnapshot | None:
        return self.worker.snapshot

    @property
    def glyphs(self) -> Glyphs:
        glyphs = getattr(self.app, "glyphs", UNICODE)
        assert isinstance(glyphs, Glyphs)
        return glyphs

    def moved(self) -> None:
        """Time goes on: what was chosen in the past no longer matters."""

    def forgotten(self) -> None:
        """Nothing lies ahead of the machines any more."""

    # -- time ---------------------------------------------------------------------------------

    def action_run(self) -> None:
        s = self.snapshot
        if s is None:
            return
        if s.running:
            self.worker.pause()
        else:
            self.moved()
            self.worker.run(SPEEDS[self.speed])

    def action_step(self) -> None:
        self.moved()
        self.worker.step()

    def action_step_back(self) -> None:
        self.moved()
        self.worker.step_back()

    def action_next_exit(self) -> None:
        self.moved()
        self.worker.next_exit()

    def action_previous_exit(self) -> None:
        self.moved()
        self.worker.previous_exit()

    def action_run_free(self) -> None:
        self.moved()
        if self.worker.breakpoints:
            self.notify("Breakpoints hold in lockstep alone: running freely, nobody looks at them")
        self.worker.run_free()

    def action_restart(self) -> None:
        self.moved()
        self.forgotten()
        self.worker.restart()

    def action_faster(self, by: int) -> None:
        self.speed = max(0, min(self.speed + by, len(SPEEDS) - 1))
        speed = SPEEDS[self.speed]
        self.settings.speed = speed or 0.0
        self.notify("As fast as it goes" if speed is None else f"{speed:g} instructions a second")
        if self.snapshot is not None and self.snapshot.running:
            self.worker.run(speed)

    def go_to(self, instruction: int) -> None:
        self.moved()
        self.worker.go_to(instruction)

    def action_go_to(self) -> None:
        def answered(text: str | None) -> None:
            if text is None or not text.strip():
                return
            try:
                number = int(text.strip().replace(",", "").replace("_", ""), 0)
            except ValueError:
                self.notify(f"{text.strip()!r} is not a number of instructions", severity="warning")
                return
            if number < 0:
                self.notify("Time begins at instruction 0", severity="warning")
                return
            self.go_to(number)

        question = Ask("Go to which instruction?", "a number, such as 1200 or 0x400")
        self.app.push_screen(question, answered)

    def action_go_to_divergence(self) -> None:
        s = self.snapshot
        if s is None or s.divergence is None:
            self.notify("The machines have not parted")
            return
        self.go_to(s.divergence.instruction)

    # -- breakpoints --------------------------------------------------------------------------

    @property
    def addresses(self) -> frozenset[int]:
        """Those of the breakpoints that stand at an instruction."""
        points = self.worker.breakpoints
        return frozenset(p.address for p in points if isinstance(p, breakpoints.AtAddress))

    def action_break(self) -> None:
        """Asks where; what is set there already is taken away."""
        s = self.snapshot
        if s is None or not s.machines:
            return
        here = f"{s.machines[0].registers.get('rip', 0):x}"
        now = ", ".join(sorted(map(str, self.worker.breakpoints)))

        def answered(text: str | None) -> None:
            if text is None or not text.strip():
                return
            try:
                point = breakpoints.parse(text, s.symbols)
            except InputError as error:
                self.notify(words(error), severity="warning")
                return
            self.toggle(point)

        question = f"Stop where? (now: {now})" if now else "Stop where?"
        self.app.push_screen(Ask(question, HOW_TO_BREAK, here, HOW_TO_BREAK), answered)

    def toggle(self, point: breakpoints.Breakpoint) -> None:
        """Set a breakpoint, or clear it. One address has one, whatever it is called."""
        same = {
            p
            for p in self.worker.breakpoints
            if p == point
            or (
                isinstance(p, breakpoints.AtAddress)
                and isinstance(point, breakpoints.AtAddress)
                and p.address == point.address
            )
        }
        kept = self.worker.breakpoints - same
        self.worker.breakpoints = kept if same else kept | {point}
        self.notify(f"Breakpoint {'cleared' if same else 'set'}: {point}")
        self.stale()

    def action_clear_breakpoints(self) -> None:
        count = len(self.worker.breakpoints)
        self.worker.breakpoints = frozenset()
        self.notify(f"{count} breakpoint{'s' * (count != 1)} cleared")
        self.stale()

    def stale(self) -> None:
        """Something of the screen's own has changed: draw again."""

    def action_glossary(self) -> None:
        from .glossary import GlossaryScreen  # 60 ms that the first picture need not wait for

        self.app.push_screen(GlossaryScreen(self.words_in_sight()))

    def words_in_sight(self) -> str:
        """Text on the screen that may use words of the glossary."""
        return ""

    # -- the whole ----------------------------------------------------------------------------

    def action_save_session(self) -> None:
        """All machines into a file, which the home screen opens again."""
        s = self.snapshot
        if s is None:
            return

        def answered(text: str | None) -> None:
            path = (text or "").strip()
            if path:
                saving = self.worker.ask(lambda session: _saved(session, path))
                saving.add_done_callback(lambda done: self.app.call_later(known, path, done))

        def known(path: str, done: Future[str]) -> None:
            if done.cancelled() or done.exception() is not None:
                return  # said in the banner
            refusal = done.result()
            if refusal:
                self.notify(refusal, severity="warning", timeout=8)
                return
            self.settings.last = path
            self.settings.save()
            self.notify(f"Saved {path}: the first page goes on there")

        name = "session" if s.path == "-" else PurePath(s.path).stem
        hint = "All machines as they stand now. The way they came is not kept."
        question = Ask("Save the session as which file?", "a file", f"{name}.ringscope", hint)
        self.app.push_screen(question, answered)

    # -- the state ----------------------------------------------------------------------------

    def action_poke(self) -> None:
        """Change a register or memory of all machines alike, or of one."""
        s = self.snapshot
        if s is None:
            return
        if s.mode == "free":
            self.notify("The machines run freely: restart to change their state", severity="warning")
            return

        def answered(text: str | None) -> None:
            if text is None or not text.strip():
                return
            what, _, core = text.partition("@")
            names = [m.core for m in s.machines if not core or m.core.startswith(core.strip())]
            try:
                change = edits.parse(what, s.symbols)
                if not names:
                    raise InputError(f"no machine here is called {core.strip()!r}")
            except InputError as error:
                self.notify(words(error), severity="warning")
                return
            self.forgotten()
            self.worker.poke(change, names[0] if core else None)  # a failure is in the banner

        self.app.push_screen(Ask("Change what?", "rax = 48", "", HOW_TO_POKE), answered)

    def action_type(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.worker.type(text + "\n")

        self.app.push_screen(Ask("Type on the guests' keyboard", "Enter sends the line"), answered)

    def action_disk(self) -> None:
        """Start over with a data disk."""

        def answered(path: str | None) -> None:
            if path is not None:
                self.post_message(self.Disk(path.strip()))

        now = self.snapshot.disk if self.snapshot is not None else ""
        hint = "The machines start over. Empty: no disk. Each writes to a copy of its own."
        self.app.push_screen(Ask("Which disk image?", "a raw image", now, hint), answered)


def _saved(session: AnySession, path: str) -> str:
    """Why it cannot be saved, "" when it has been. A refusal is no failure of the session's."""
    from cores.debugging import saved_session
    from cores.debugging.live_session import LiveSession

    if not isinstance(session, LiveSession):
        return "only sessions of x86 machines can be saved"
    try:
        saved_session.save(session, path)
    except InputError as error:
        return words(error)
    return ""
