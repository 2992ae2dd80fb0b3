"""The process that atheris takes over: ``... coverage_child TARGET`` and libFuzzer's flags."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cores", "lessons"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
