"""A soak: random sessions, seeks, changes of cores, openings and closings, until the time is up.

    python -m tests.soak --seconds 3600 --seed 7

What a process may lose hold of is measured all the time and must stay flat: resident memory,
descriptors, threads, child processes. Exit code 1 and the seed when it does not.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from cores.debugging import saved_session as saved
from cores.debugging.live_session import LiveSession
from cores.engines import registry
from cores.errors import InputError, RingscopeError
from cores.lockstep.options import Options
from cores.programs.loader import load_program
from cores.programs.program import Program
from cores.programs.shipped import ASSETS

PAGE = os.sysconf("SC_PAGE_SIZE")
SLICE = 0.1
"""Seconds that one act may run a guest."""
WARM = 40
"""Acts before anything is measured: caches fill, modules are imported, the allocator grows."""
GROWTH = 48 << 20
"""Bytes that resident memory may be above the first measurement: the decoder's cache, fragments."""
IMAGES = ("hello", "primes", "tasks", "tinyos", "swap", "file", "holes", "tour", "driver")


class Usage(Counter[str]):
    """The host resources that this process holds."""

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        with contextlib.suppress(AttributeError):  # glibc's: what it keeps for later is not lost
            ctypes.CDLL(None).malloc_trim(0)
        children = 0
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                children += len((task / "children").read_text().split())
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            processes=children,
            resident=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        )


class Soak:
    """One random session after another.

    done: how often each act was done. session: the one that is open now.
    """

    def __init__(self, seed: int, folder: str) -> None:
        self.source = random.Random(seed)
        self.path = os.path.join(folder, "soak.ringscope")
        self.done: Counter[str] = Counter()
        self.cores = [core for core in registry.CORE_NAMES if registry.availability(core).available]
        self.programs = [self._load(name) for name in IMAGES]
        self.session: LiveSession | None = None
        self.acts: dict[str, tuple[int, Callable[[LiveSession], object]]] = {
            "run": (6, lambda s: s.run(SLICE)),
            "step": (4, lambda s: s.step()),
            "next exit": (4, lambda s: s.next_exit(limit=SLICE)),
            "back": (3, lambda s: s.step_back()),
            "previous exit": (3, lambda s: s.previous_exit()),
            "seek": (4, lambda s: s.seek(self.source.randrange(20_000), SLICE)),
            "free": (2, lambda s: s.run_free(SLICE)),
            "restart": (1, lambda s: s.restart()),
            "key": (2, lambda s: s.key(self.source.choice("ls\rhelp q1"))),
            "look": (3, lambda s: s.snapshot()),
            "save": (1, self._save_and_reopen),
            "close": (4, self._close),
        }

    def _load(self, name: str) -> Program:
        return load_program(str(ASSETS / "images" / f"{name}.bin"))

    def act(self) -> None:
        """Do one random action of a user."""
        session = self.session or self._open()
        weights = [weight for weight, _ in self.acts.values()]
        (name,) = self.source.choices(list(self.acts), weights)
        with contextlib.suppress(InputError):
            self.acts[name][1](session)
        self.done[name] += 1

    def _open(self) -> LiveSession:
        count = self.source.randint(1, len(self.cores))
        options = Options(
            cores=tuple(self.source.sample(self.cores, count)),
            ram=self.source.choice((4, 16, 32)) << 20,
            pure=self.source.random() < 0.1,
            input=self.source.choice((b"", b"help\rls\r")),
        )
        self.session = LiveSession(self.source.choice(self.programs), options)
        self.done["opened"] += 1
        return self.session

    def _save_and_reopen(self, session: LiveSession) -> None:
        saved.save(session, self.path)
        self._close(session)
        self.session = saved.reopen(self.path)

    def _close(self, session: LiveSession) -> None:
        self.session = None
        session.close()

    def close(self) -> None:
        if self.session is not None:
            self._close(self.session)


def soak(seconds: float, seed: int, tell: Callable[[str], None] = print) -> list[str]:
    """Run for so long; gives a description of what grew, or nothing."""
    end = monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        run = Soak(seed, folder)
        first: Usage | None = None
        grown: list[str] = []
        acts, report = 0, monotonic() + 60
        while (monotonic() < end or first is None) and not grown:
            run.act()
            acts += 1
            if run.session is None and acts >= WARM:
                now = Usage.now()
                first = first or now
                grown = _grown(first, now)
                if monotonic() > report:
                    tell(f"{acts} acts, {run.done['opened']} sessions, {now['resident'] >> 20} MiB")
                    report += 60
        run.close()
        tell(f"{acts} acts in {run.done['opened']} sessions with seed {seed}")
        return grown


def _grown(first: Usage, now: Usage) -> list[str]:
    room = {"resident": GROWTH}
    return [
        f"{what}: {first[what]} at first, {now[what]} now"
        for what in now
        if now[what] > first[what] + room.get(what, 0)
    ]


def main() -> int:
    """Run the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    try:
        grown = soak(arguments.seconds, arguments.seed)
    except RingscopeError as error:
        grown = [f"{type(error).__name__}: {error}"]
    for line in grown:
        print(f"seed {arguments.seed}: {line}", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
