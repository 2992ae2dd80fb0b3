"""Coverage-guided fuzzing of all readers of files: ``python -m tests.fuzz.coverage TARGET --seconds
N``.

With atheris installed (`pip install .[fuzz]`) its coverage leads the way: bytes that reach new code
are kept and changed further. Without it they are drawn at random, which finds less, and the first
line says so. What raises
is saved under crashes/, and played again by ``--replay FILE``. Exit code 1 if something was found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

CRASHES = Path(__file__).parent / "crashes"
LONGEST = 20_000


def main(words: list[str] | None = None) -> int:
    from .targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coverage", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", metavar="FILE", type=Path, help="run the target once, on this file")
    options = parser.parse_args(words)
    target = TARGETS[options.target]
    if options.replay:
        target.run(options.replay.read_bytes())
        return 0
    if importlib.util.find_spec("atheris"):
        return _in_a_process(options.target, options.seconds, options.seed, target.seeds())
    print("atheris is not installed: random bytes and changed good ones, without coverage")
    return without_coverage(options.target, options.seconds, options.seed)


def _in_a_process(name: str, seconds: int, seed: int, seeds: list[bytes]) -> int:
    """Run libFuzzer in a child process, since it ends its process when it is done."""
    CRASHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(data)
        command = [
            sys.executable, "-m", "tests.fuzz.coverage_child", name, f"-max_total_time={seconds}",
            f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={CRASHES}/{name}-",
            "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=1024", corpus,
        ]  # fmt: skip
        return int(subprocess.run(command, cwd=os.getcwd(), check=False).returncode != 0)


def without_coverage(name: str, seconds: float, seed: int) -> int:
    """Try good inputs with small changes, and random bytes."""
    from .targets import TARGETS

    target, generator, end, runs = TARGETS[name], random.Random(seed), monotonic() + seconds, 0
    seeds = target.seeds()
    while monotonic() < end:
        data = changed(generator, generator.choice([*seeds, b""]))
        runs += 1
        try:
            target.run(data)
        except Exception as error:
            CRASHES.mkdir(exist_ok=True)
            path = CRASHES / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            print(f"{type(error).__name__}: {error}\n  {path}")
            return 1
    print(f"{runs} runs, nothing found")
    return 0


def changed(generator: random.Random, data: bytes) -> bytes:
    """A copy with some bytes changed, some removed, some doubled."""
    result = bytearray(data[:LONGEST] or generator.randbytes(generator.randrange(200)))
    for _ in range(generator.randrange(1, 12)):
        at = generator.randrange(len(result) + 1)
        match generator.randrange(5):
            case 0:
                result[at : at + 1] = generator.randbytes(1)
            case 1:
                del result[at : at + generator.randrange(1, 40)]
            case 2:
                result[at:at] = result[at : at + generator.randrange(1, 40)]
            case 3:
                result[at : at + 8] = (1 << generator.randrange(64)).to_bytes(8, "little")
            case _:
                result[at:at] = generator.randbytes(generator.randrange(1, 9))
    return bytes(result)


if __name__ == "__main__":
    sys.exit(main())
