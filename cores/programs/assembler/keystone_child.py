"""Keystone, in a process of its own: reads statements from standard input, writes the image.

Keystone is native code that ends its process on some sources (`mov ah, r8b`), never returns on others
(`.ascii "` without its end) and prints to standard error. In a process of its own, which costs 35 ms,
these affect neither the terminal nor the guests beside it.

    in    JSON: {"base": address, "units": [text, ...]}
    out   a line of JSON, then the image. {"addresses": of each unit, and of the end}
          or {"errno", "unit": index or null}

Keystone reports neither addresses nor lines. So the label `__ks_N` is put before unit N, and other
units may name it; a table of those labels is appended to the image and comes back as data. The unit in
error is found by bisection.
"""

from __future__ import annotations

import json
import re
import sys
from typing import BinaryIO

MEMORY_LIMIT = 2 << 30
"""Bytes of address space: an image is 512 MiB at most, and Keystone keeps three copies of it."""

SHORT_BRANCH = re.compile(r"^(loop|j\w?cxz)", re.IGNORECASE | re.MULTILINE)
"""Branches with 8 bits of reach. Tested first: without the space between branch and target the source
would assemble as well."""
LAYOUT_SUSPECT = re.compile(rf"{SHORT_BRANCH.pattern}|^(\.\s*=|\.[a-z0-9]+\s)", SHORT_BRANCH.flags)
"""Statements that can fail after parsing: branches with 8 bits of reach, backward origins, data of
labels."""


MOST_SUSPECTS = 100
"""Most other statements with labels that are tested; each test is an assembly of the whole source."""

MISSING, FIXUP, FRAGMENT, OPERAND = 144, 161, 163, 512
"""Keystone's error numbers (keystone.h, ks_err): symbol not found, target out of reach, backward
origin; invalid operand."""


class Keystone:
    """One assembler for x86-64. errno: of the last failure, 0 for none."""

    def __init__(self, base: int) -> None:
        import keystone

        self._module = keystone
        self._ks = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
        self._error = keystone.KsError
        self.base = base
        self.errno = 0

    def assemble(self, text: str) -> bytes | None:
        """The image, or None with ``errno`` set."""
        self.errno = 0
        try:
            code, _ = self._ks.asm(text.encode(), self.base, True)
        except self._error as error:
            self.errno = error.errno
            return None
        if code is None and text.strip():  # it failed without an error number
            self.errno = OPERAND
            return None
        return code or b""

    def parses(self, text: str) -> bool:
        """Whether it parses, whether or not its symbols are known and within reach."""
        return self.assemble(text) is not None or self.errno in (MISSING, FIXUP, FRAGMENT)


def build(keystone: Keystone, units: list[str]) -> tuple[dict[str, object], bytes]:
    """Assemble all units, followed by a table of their addresses."""
    table = range(len(units) + 1)
    labelled = "\n".join(f"__ks_{i}:\n{unit}" for i, unit in enumerate(units))
    quads = "\n".join(f".quad __ks_{i}" for i in table)
    image = keystone.assemble(f"{labelled}\n__ks_{len(units)}:\n.code64\n{quads}\n")
    if image is None:
        return diagnose(keystone, units), b""
    code, raw = image[: -8 * len(table)], image[-8 * len(table) :]
    return {
        "addresses": [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
    }, code


def diagnose(keystone: Keystone, units: list[str]) -> dict[str, object]:
    """The unit that causes ``keystone.errno``.

    Keystone parses everything before it lays anything out, and stops at the first error: so the last
    unit of the shortest prefix that does not parse is the one in error."""
    answer: dict[str, object] = {"errno": keystone.errno, "unit": None}
    units = [f"__ks_{i}:\n{unit}" for i, unit in enumerate(units)]
    if keystone.errno in (FIXUP, FRAGMENT):
        suspects = [i for i, unit in enumerate(units) if LAYOUT_SUSPECT.search(unit)]
        suspects.sort(key=lambda i: not SHORT_BRANCH.search(units[i]))
        others = [i for i, unit in enumerate(units) if unit.count("__ks_") > 1 and i not in suspects]
        for i in suspects + others[:MOST_SUSPECTS]:
            if (
                keystone.assemble("\n".join([*units[:i], f"__ks_{i}:\nnop\nnop", *units[i + 1 :]]))
                is not None
            ):
                answer["unit"] = i
                break
    else:
        good, bad = 0, len(units)
        while bad - good > 1:
            middle = (good + bad) // 2
            if keystone.parses("\n".join(units[:middle])):
                good = middle
            else:
                bad, answer["errno"] = middle, keystone.errno
        answer["unit"] = bad - 1
    return answer


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    request = json.load(source)
    answer, image = build(Keystone(request["base"]), request["units"])
    sink.write(json.dumps(answer).encode() + b"\n" + image)


if __name__ == "__main__":
    try:
        import resource

        seconds = int(sys.argv[1])  # of CPU time; then SIGXCPU ends the process
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # this host has no such limits: the parent's limit on elapsed time still holds
    serve(sys.stdin.buffer, sys.stdout.buffer)
