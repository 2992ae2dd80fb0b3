"""Screenshots of the interface without a terminal, for the README.

python -m app.tui.screenshot OUT.svg [PROGRAM] [--size 160x48] [--keys e,e,n] [--theme NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from app.tui.app import RingscopeApp, interface
from app.tui.rows import screenshot_svg
from cores.lockstep.options import Options


async def _pose(app: RingscopeApp, size: tuple[int, int], keys: list[str]) -> str:
    """Run the app without a terminal, press the keys, and render the screen."""
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.0)
        for key in keys:
            await pilot.press(key)
            for _ in range(200):  # until the machines have done it, or go on by themselves
                await pilot.pause(0.02)
                if app.worker is None or app.worker.idle:
                    break
        await pilot.pause(0.5)
        return screenshot_svg.svg(app)


def main(arguments: list[str] | None = None) -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m app.tui.screenshot",
        description="Draw the interface without a terminal.",
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--size", default="160x48")
    parser.add_argument("--keys", default="")
    parser.add_argument("--theme")
    chosen = parser.parse_args(arguments)
    os.environ["RINGSCOPE_CONFIG"] = os.devnull  # the picture must not depend on the user's settings
    columns, _, rows = chosen.size.partition("x")
    app = interface(chosen.program, Options())
    if chosen.theme:
        app.theme = chosen.theme
    keys = [key for key in chosen.keys.split(",") if key]
    chosen.out.write_text(asyncio.run(_pose(app, (int(columns), int(rows)), keys)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
