"""The thread that owns a session.

    interface thread                          worker thread
    submit(command) ----- queue ----------->  the only caller of the session (ptrace demands it)
                    <---- Future -----------
    .snapshot       <---- swapped attribute   the newest picture, after each command and each slice

What goes on by itself (a run, the search for the next exit) is a *goal*: a function that works for
one short slice. Between slices the worker looks into its queue, so a key is answered at once even
while a guest spins; a slice that is too long is cut short by ``AnySession.interrupt``.

A goal that ends at a place (the next exit, an instruction) is a *journey*. A step or a journey that is
asked for meanwhile begins where that one ends, so that keys pressed fast do what they do when pressed
slowly; a halt, or a run, takes the place of all of them.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from app.any_session import AnySession
from app.orders import Journey, Obey, Order, Refuse, Way
from cores.debugging.breakpoints import Breakpoint
from cores.debugging.edits import Poke
from cores.errors import InputError, RingscopeError
from cores.inspection.views import Query, View
from cores.machine.report import SessionSnapshot
from cores.x86.isa.instruction import Reason

T = TypeVar("T")
Opener = Callable[[], AnySession]
Command = Callable[[AnySession], None]
Goal = Callable[[AnySession], float | None]
"""One slice of work; gives the seconds to wait before the next one, None when the goal is reached."""

SLICE = 0.03
"""Seconds of one slice: about a frame."""

BREATH = 0.006
"""Seconds between two slices of lockstep. Stepping is Python and holds the interpreter lock; without
a pause a key took 70 to 120 ms to show (95th percentile), with it 25 to 50."""

COURTESY = 0.04
"""Seconds for which the machines stand still after a key, so that the interface has the interpreter
lock to itself while it answers: a key then takes 30 ms to show, where it took 80 in lockstep."""

BRIEF = 0.25
"""Seconds of a run before it counts as one: what ends sooner, such as the way to the next exit, must
not have marks vanish and come back, and a key pressed meanwhile waits for its end."""

QUERY_INTERVAL = 0.1
"""Seconds between two looks inside a running machine: page tables may take milliseconds to read."""

RATE_WINDOW = 0.5
"""Seconds over which instructions a second are counted."""


def alive(snapshot: SessionSnapshot) -> bool:
    """Is there a machine that has not come to its end?"""
    return any(machine.stop is None for machine in snapshot.machines)


class Worker:
    """Owns a session in a daemon thread of its own.

    snapshot: the newest picture, None until the session is open. failure: why there is no session
    or why the last command failed, "" when all is well. rates: core -> instructions a second over
    the last half second, while something goes on. busy: since when (time.monotonic) the present
    command has been going on, None while idle. breakpoints: where runs stop. views: the answers to
    ``watch``, as fresh as the snapshot. saved: the ``place`` at which the session was saved last, None
    before. unwritten: why a file that the session was to write at its end is not there.
    """

    def __init__(self, opener: Opener) -> None:
        self.snapshot: SessionSnapshot | None = None
        self.failure = self.unwritten = ""
        self.rates: dict[str, float] = {}
        self.busy: float | None = None
        self.breakpoints: frozenset[Breakpoint] = frozenset()
        self.views: dict[Query, View | None] = {}
        self.saved: tuple[int | None, ...] | None = None
        self._queries: frozenset[Query] = frozenset()
        self._queried = 0.0
        self._opener = opener
        self._queue: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._waiting: deque[Order] = deque()  # for the end of the journey
        self._journey: tuple[Journey, float] | None = None  # and when it began
        self._pending = 0
        self._ended = False
        self._lock = threading.Lock()
        self._session: AnySession | None = None
        self._goal: Goal | None = None
        self._measured: tuple[float, dict[str, int]] | None = None
        self._quiet_until = 0.0
        self._thread = threading.Thread(target=self._main, name="session", daemon=True)
        self._thread.start()

    # -- called from the interface's thread ---------------------------------------------------

    def submit(self, command: Command, way: Way = Way.BESIDE) -> Future[None]:
        """Have the worker do this next; cuts the present slice short. A goal that is under way
        goes on afterwards, unless ``way`` says otherwise."""
        return self.ask(command, way)

    def ask(self, question: Callable[[AnySession], T], way: Way = Way.BESIDE) -> Future[T]:
        """As ``submit``, for a command that has an answer."""
        future: Future[T] = Future()

        def obey(session: AnySession) -> Callable[[], None]:
            result = question(session)
            return lambda: future.set_result(result)

        def refuse(error: Exception | None) -> None:
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)

        with self._lock:
            if self._ended:
                future.cancel()
                return future
            self._pending += 1
            self._queue.put(Order(obey, refuse, way))
        self._interrupt()
        return future

    def step(self) -> Future[None]:
        return self.submit(self._halted(lambda s: s.step()), Way.AFTER)

    def step_back(self) -> Future[None]:
        return self._set_out(lambda s: max(0, s.here - 1))

    def previous_exit(self) -> Future[None]:
        return self._set_out(lambda s: s.exit_before())

    def go_to(self, instruction: int) -> Future[None]:
        return self._set_out(lambda _: instruction)

    def _set_out(self, where: Callable[[AnySession], int]) -> Future[None]:
        """Be on the way there, until it is reached or something else is asked for."""

        def set_out(session: AnySession) -> None:
            self._pursue(None)
            goal = where(session)
            if not session.seek(goal, SLICE):
                self._pursue(lambda s: None if s.seek(goal, SLICE) else BREATH, Journey.TO_INSTRUCTION)

        return self.submit(set_out, Way.AFTER)

    def restart(self) -> Future[None]:
        return self._halting(lambda s: s.restart())

    def type(self, text: str) -> Future[None]:
        """Keys for the guests' keyboards; a run goes on."""
        self.saved = None
        return self.submit(lambda s: s.key(text))

    def poke(self, poke: Poke, core: str | None = None) -> Future[None]:
        """Change all machines alike, or one."""
        self.saved = None
        return self._halting(lambda s: s.poke(poke, core))

    def watch(self, queries: frozenset[Query]) -> None:
        """Set the queries that ``views`` answers from now on."""
        if queries != self._queries:
            self._queries = queries
            if queries:
                self.submit(lambda s: None)

    def pause(self) -> Future[None]:
        return self._halting(lambda s: None)

    def run(self, speed: float | None = None) -> Future[None]:
        """Go on in lockstep, at ``speed`` instructions a second, or as fast as it goes."""

        def as_fast_as_it_goes(session: AnySession) -> float | None:
            return BREATH if session.run(SLICE, self.breakpoints) else None

        return self.pursue(as_fast_as_it_goes if speed is None else self._at_speed(speed))

    def run_to(self, point: Breakpoint) -> Future[None]:
        """As ``run``, with one more breakpoint, for this run alone."""

        def on(session: AnySession) -> float | None:
            return BREATH if session.run(SLICE, self.breakpoints | {point}) else None

        return self.pursue(on)

    def _at_speed(self, speed: float) -> Goal:
        """Several steps in a slice when one step a slice would be too slow."""
        pause = max(1 / speed, SLICE)
        steps = max(1, round(speed * pause))
        return lambda session: pause if session.run(pause, self.breakpoints, steps) else None

    def run_free(self) -> Future[None]:
        """Let each machine run on its own, at full speed, until it traps."""
        return self.pursue(lambda s: 0.0 if s.run_free(SLICE) else None)

    def next_exit(self, reason: Reason | None = None) -> Future[None]:
        """Go on until any machine leaves its guest."""

        def on(session: AnySession) -> float | None:
            return None if session.next_exit(reason, SLICE, self.breakpoints) else BREATH

        return self.submit(lambda _: self._pursue(on, Journey.TO_EXIT), Way.AFTER_EXIT)

    def make_way(self) -> None:
        """A key has been pressed: let the interface answer it first. However many are pressed, the
        machines have half of the time."""
        now = time.monotonic()
        if self._goal is not None and now >= self._quiet_until + COURTESY:
            self._quiet_until = now + COURTESY
            self._interrupt()

    @property
    def place(self) -> tuple[int | None, ...]:
        """Where the machines stand: the instructions that each has completed."""
        s = self.snapshot
        return () if s is None else tuple(machine.instructions for machine in s.machines)

    @property
    def idle(self) -> bool:
        """Nothing is asked for, and nothing goes on."""
        return self._pending == 0 and self._goal is None

    def close(self, timeout: float = 5.0) -> None:
        """End the session and the thread. Twice does no harm."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._interrupt()
            self._thread.join(timeout)

    def _halting(self, command: Command) -> Future[None]:
        return self.submit(self._halted(command), Way.INSTEAD)

    def _halted(self, command: Command) -> Command:
        """The command, with no goal left beside it."""

        def halt_first(session: AnySession) -> None:
            self._pursue(None)
            command(session)

        return halt_first

    def pursue(self, goal: Goal) -> Future[None]:
        """Work at this, slice by slice, until it is reached or something else is asked for."""

        return self.submit(lambda _: self._pursue(goal), Way.INSTEAD)

    def _interrupt(self) -> None:
        session = self._session
        if session is not None:
            session.interrupt()

    # -- the worker's own thread --------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._session = self._opener()
        except Exception as error:
            self.failure = words(error)
            self._refuse_all()
            return
        try:
            self._publish()
            gc.freeze()  # what stands now stays: looking for garbage in it took 30 ms, twice a second
            self._serve(self._session)
        finally:
            gc.unfreeze()
            session, self._session = self._session, None
            try:
                session.close()
            except InputError as error:
                self.unwritten = str(error)
            self._refuse_all()

    def _serve(self, session: AnySession) -> None:
        wait: float | None = None
        while True:
            try:
                block = wait is None or wait > 0
                order = self._queue.get(block, wait)
            except queue.Empty:
                quiet = self._quiet_until - time.monotonic()
                wait = quiet if quiet > 0 else self._slice(session)
                continue
            if order is None:
                return
            if self._waits(order):
                self._waiting.append(order)
            else:
                if order.way is Way.INSTEAD:
                    self._refuse_waiting()
                self._obey(session, order.obey, order.refuse)
            wait = None if self._goal is None else 0.0
            if self._goal is None and self._waiting:
                wait = self._next_journey(session)

    def _waits(self, order: Order) -> bool:
        """Is the order one for the end of the journey that is under way?"""
        if self._journey is None or order.way in (Way.BESIDE, Way.INSTEAD):
            return False
        journey, since = self._journey
        if journey is Journey.TO_INSTRUCTION or order.way is Way.AFTER_EXIT or self._waiting:
            return True
        return time.monotonic() - since < BRIEF

    def _pursue(self, goal: Goal | None, journey: Journey | None = None) -> None:
        self._goal = goal
        self._journey = None if goal is None or journey is None else (journey, time.monotonic())

    def _next_journey(self, session: AnySession) -> float | None:
        """Obey those who waited, up to the one that begins a journey."""
        while self._goal is None and self._waiting:
            order = self._waiting.popleft()
            self._obey(session, order.obey, order.refuse)
        return None if self._goal is None else 0.0

    def _refuse_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().refuse(None)
            with self._lock:
                self._pending -= 1

    def _obey(self, session: AnySession, obey: Obey, refuse: Refuse) -> None:
        self.busy = time.monotonic()
        try:
            self.failure = ""
            answer = obey(session)
            self._publish()
        except Exception as error:
            self._failed(error)
            refuse(error)
        else:
            answer()
        finally:
            self.busy = None
            with self._lock:
                self._pending -= 1

    def _slice(self, session: AnySession) -> float | None:
        goal = self._goal
        if goal is None:
            return None
        try:
            wait = goal(session)
            if wait is None:
                self._pursue(None)
            self._publish()
        except Exception as error:
            self._failed(error)
            return None
        return self._next_journey(session) if wait is None else wait

    def _publish(self) -> None:
        assert self._session is not None
        snapshot = self._session.snapshot()
        running = self._goal is not None and alive(snapshot)
        self._measure(snapshot, running)
        now = time.monotonic()
        if not running or now - self._queried >= QUERY_INTERVAL:
            self._queried = now
            self.views = {query: self._session.query(query) for query in self._queries}
        self.snapshot = replace(snapshot, running=running) if running != snapshot.running else snapshot

    def _measure(self, snapshot: SessionSnapshot, running: bool) -> None:
        now = time.monotonic()
        counts = {m.core: m.instructions for m in snapshot.machines if m.instructions is not None}
        if not running:
            self._measured = None
            self.rates = {}
        elif self._measured is None:
            self._measured = (now, counts)
        elif now - self._measured[0] >= RATE_WINDOW:
            since, before = self._measured
            self.rates = {c: (n - before.get(c, n)) / (now - since) for c, n in counts.items()}
            self._measured = (now, counts)

    def _failed(self, error: Exception) -> None:
        self._pursue(None)
        self._refuse_waiting()
        self.failure = words(error)
        snapshot = self.snapshot
        if snapshot is not None:
            self.snapshot = replace(snapshot, running=False, serial=snapshot.serial + 1)

    def _refuse_all(self) -> None:
        with self._lock:
            self._ended = True
        while self._waiting:
            self._waiting.popleft().refuse(None)
        while True:
            try:
                order = self._queue.get_nowait()
            except queue.Empty:
                return
            if order is not None:
                order.refuse(None)


def words(error: Exception) -> str:
    """An error for the user: our own errors are sentences already; a bug says its kind too."""
    text = str(error)
    return text if isinstance(error, RingscopeError) and text else f"{type(error).__name__}: {text}"
