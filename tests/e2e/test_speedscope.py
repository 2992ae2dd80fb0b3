"""Speedscope, as its npm package has it, reads what `trace --format folded` and `perfetto` write.

It reads flame graphs' folded stacks and the Trace Event Format by parsers of its own. Perfetto's is no
package of npm's or PyPI's: its trace processor is downloaded by a program when it is first used.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import main
from tests.browser import Browser, browsers, needs_browser

pytestmark = [
    pytest.mark.full,
    needs_browser,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed here"),
]
VERSION = "1.25.0"
PATIENCE = 120


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speedscope's page."""
    folder = tmp_path_factory.mktemp("speedscope")
    command = ["npm", "pack", "--silent", f"speedscope@{VERSION}"]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=PATIENCE)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"npm has no speedscope here: {error}")
    shutil.unpack_archive(folder / f"speedscope-{VERSION}.tgz", folder)
    return folder / "package" / "dist" / "release" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers(tmp_path_factory.mktemp("browser"), (1200, 800)) as (one,):
        yield one


def shown(page: Path, browser: Browser, name: str, text: str) -> str:
    """The words of the page that has loaded a file: its list of frames. A file that Speedscope cannot
    read raises an alert, which fails the next command to the browser."""
    script = page.parent / "load.js"
    content = base64.b64encode(text.encode()).decode()
    script.write_text(f"speedscope.loadFileFromBase64({json.dumps(name)}, '{content}')")
    browser.open("about:blank")
    browser.open(f"{page.as_uri()}#view=sandwich&localProfilePath={script}")
    browser.wait(
        f"document.title.includes({json.dumps(name)}) && document.body.innerText.includes('Self')"
    )
    return browser.text("body")


def test_folded_stacks(page: Path, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    """Speedscope adds up the same nanoseconds for the instruction that cost most."""
    assert main(["trace", "tour", "--core", "trap", "--format", "folded"]) == 0
    text = capsys.readouterr().out
    costs: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, ns = line.rpartition(" ")
        costs[stack.rpartition(";")[2]] += int(ns)
    (instruction, ns), *_ = costs.most_common(1)
    words = shown(page, browser, "x.folded", text)
    assert re.search(rf"{ns:,} \(\d+(\.\d)?%\)\s+{re.escape(instruction)}\s", words), words[:2000]


def test_trace_events(page: Path, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    """Speedscope has a profile for each track, and the exits in the first by their instructions."""
    assert main(["trace", "tour", "--core", "trap", "--format", "perfetto"]) == 0
    words = shown(page, browser, "x.json", capsys.readouterr().out)
    assert re.search(r"trap:\w+ \(pid 1\), exits \(tid 1\) \(1/\d\)", words), words[:2000]
    assert '"reason":"descriptor"' in words
