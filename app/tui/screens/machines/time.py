"""The machines' time: run, step, go back, go to a place; and the breakpoints where runs stop."""

from __future__ import annotations

from app.session_thread import words
from app.tui.rows import places
from cores.debugging import breakpoints
from cores.errors import InputError
from cores.plural import counted

from ..ask import Ask
from .host import Host

SPEEDS: tuple[float | None, ...] = (1, 2, 5, 10, 50, 200, 1000, None)
"""Instructions a second; None: as fast as it goes."""

HOW_TO_BREAK = "100008, a symbol or file.c:12, on io, on exit, rax = 48, if = 0, divergence"


class TimeController:
    """speed: index into SPEEDS."""

    def __init__(self, host: Host) -> None:
        self._host = host
        speed = host.settings.speed or None
        self.speed = SPEEDS.index(speed) if speed in SPEEDS else len(SPEEDS) - 1

    @property
    def activity(self) -> str:
        """A run, in words."""
        speed = SPEEDS[self.speed]
        return "running" if speed is None else f"running at {speed:g}/s"

    @property
    def fast(self) -> bool:
        """Is a run faster than an eye follows?"""
        speed = SPEEDS[self.speed]
        return speed is None or speed > 30

    def run(self) -> None:
        """Run, or pause."""
        s = self._host.snapshot
        if s is None:
            return
        if s.running:
            self._host.worker.pause()
        else:
            self._host.moved()
            self._host.worker.run(SPEEDS[self.speed])

    def step(self) -> None:
        self._host.moved()
        self._host.worker.step()

    def step_back(self) -> None:
        self._host.moved()
        self._host.worker.step_back()

    def next_exit(self) -> None:
        self._host.moved()
        self._host.worker.next_exit()

    def previous_exit(self) -> None:
        self._host.moved()
        self._host.worker.previous_exit()

    def run_free(self) -> None:
        """Run freely, or pause."""
        s = self._host.snapshot
        if s is not None and s.running and s.mode == "free":
            self._host.worker.pause()
            return
        self._host.moved()
        if self._host.worker.breakpoints:
            self._host.say("Breakpoints hold in lockstep alone: running freely, none is looked for")
        self._host.worker.run_free()

    def restart(self) -> None:
        self._host.moved()
        self._host.forgotten()
        self._host.worker.restart()

    def faster(self, by: int) -> None:
        """Change to another of SPEEDS, at once where the machines run."""
        self.speed = max(0, min(self.speed + by, len(SPEEDS) - 1))
        speed = SPEEDS[self.speed]
        self._host.settings.speed = speed or 0.0
        self._host.say("As fast as it goes" if speed is None else f"{speed:g} instructions a second")
        s = self._host.snapshot
        if s is not None and s.running:
            self._host.worker.run(speed)

    def go_to(self, instruction: int) -> None:
        self._host.moved()
        self._host.worker.go_to(instruction)

    def ask_where(self) -> None:
        """Go to an instruction that the user names by its number."""

        def answered(text: str) -> None:
            if not text.strip():
                return
            try:
                number = int(text.strip().replace(",", "").replace("_", ""), 0)
            except ValueError:
                self._host.say(f"{text.strip()!r} is not a number of instructions", warning=True)
                return
            if number < 0:
                self._host.say("Time begins at instruction 0", warning=True)
                return
            self.go_to(number)

        question = Ask("Go to which instruction?", "a number, such as 1200 or 0x400")
        self._host.ask(question, answered)

    def go_to_divergence(self) -> None:
        s = self._host.snapshot
        if s is None or s.divergence is None:
            self._host.say("The machines have not parted")
            return
        self.go_to(s.divergence.instruction)

    def run_to(self, address: int) -> None:
        """Run until the machines stand at an address."""
        self._host.moved()
        self._host.worker.run_to(breakpoints.AtAddress(address))

    # -- breakpoints --------------------------------------------------------------------------

    @property
    def addresses(self) -> frozenset[int]:
        """Addresses of the breakpoints that stand at an instruction."""
        points = self._host.worker.breakpoints
        return frozenset(p.address for p in points if isinstance(p, breakpoints.AtAddress))

    def ask_breakpoint(self) -> None:
        """Set a breakpoint that the user describes; one that is set already is cleared."""
        s = self._host.snapshot
        if s is None or not s.machines:
            return
        symbols = places.named(s)
        here = f"{s.machines[0].registers.get('rip', 0):x}"
        now = ", ".join(sorted(map(str, self._host.worker.breakpoints)))

        def answered(text: str) -> None:
            if not text.strip():
                return
            try:
                point = breakpoints.parse(text, symbols)
            except InputError as error:
                self._host.say(words(error), warning=True)
                return
            self.toggle(point)

        question = f"Stop where? (now: {now})" if now else "Stop where?"
        self._host.ask(Ask(question, HOW_TO_BREAK, here, HOW_TO_BREAK), answered)

    def toggle(self, point: breakpoints.Breakpoint) -> None:
        """Set a breakpoint, or clear it. One address has one, whatever it is called."""
        same = {
            p
            for p in self._host.worker.breakpoints
            if p == point
            or (
                isinstance(p, breakpoints.AtAddress)
                and isinstance(point, breakpoints.AtAddress)
                and p.address == point.address
            )
        }
        kept = self._host.worker.breakpoints - same
        self._host.worker.breakpoints = kept if same else kept | {point}
        self._host.say(f"Breakpoint {'cleared' if same else 'set'}: {point}")
        self._host.stale()

    def clear_breakpoints(self) -> None:
        count = len(self._host.worker.breakpoints)
        self._host.worker.breakpoints = frozenset()
        self._host.say(f"{counted(count, 'breakpoint')} cleared")
        self._host.stale()
