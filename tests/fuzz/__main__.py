"""Random guests: ``python -m tests.fuzz --seconds N --seed S [--level L] [--cores a,b] [--free]``.

Prints a line for each failure and adds it, shrunk, to regressions.s. Level 5 is for trap:native and
kvm. Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import sys
from random import Random
from time import perf_counter

from .campaign import LEVELS, NATIVE_LEVEL, cores_here, make, run, run_free, shrink, still_fails
from .cases import append


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--level", type=int, choices=(*LEVELS, NATIVE_LEVEL), help="all, in turn, if not given"
    )
    parser.add_argument("--cores", help="separated by commas")
    parser.add_argument("--free", action="store_true", help="at full speed; only ends are compared")
    options = parser.parse_args()
    runner = run_free if options.free else run
    cores = cores_here(tuple(options.cores.split(",")) if options.cores else None)
    levels = (options.level,) if options.level else LEVELS
    seeds, end = Random(options.seed), perf_counter() + options.seconds
    count, failures = 0, set[tuple[str, ...]]()
    print(f"cores: {', '.join(cores)}")
    while perf_counter() < end:
        guest = make(levels[count % len(levels)], seeds.getrandbits(32))
        count += 1
        failure = runner(guest.source(), cores)
        if failure is None or failure.key in failures:
            continue
        failures.add(failure.key)
        print(f"level {guest.level}, seed {guest.seed}: {failure.words}", flush=True)
        small = shrink(guest, still_fails(cores, failure, runner))
        print(f"  {append(small, (runner(small.source(), cores) or failure).words)}", flush=True)
    print(f"{count} guests, {len(failures)} kinds of failure")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
