"""Headless Chromium for tests, driven by ChromeDriver over its own HTTP interface (W3C WebDriver)."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE = 60.0
"""Seconds that a condition may take to come true on a busy computer."""


class Browser:
    """One browser with a profile of its own."""

    def __init__(self, driver: str, profile: Path, size: tuple[int, int]) -> None:
        self._driver = driver
        flags = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        options = {"goog:chromeOptions": {"args": flags, "binary": shutil.which("chromium")}}
        wanted = {"capabilities": {"alwaysMatch": options}}
        self._session = f"/session/{_asked(driver, '/session', wanted)['sessionId']}"

    def _do(self, what: str, **values: object) -> object:
        return _asked(self._driver, f"{self._session}/{what}", values)

    def open(self, address: str) -> None:
        self._do("url", url=address)

    def run(self, script: str, *values: object) -> object:
        """The value of a script's body."""
        return self._do("execute/sync", script=script, args=list(values))

    def text(self, selector: str) -> str:
        """What a person sees of an element, "" where there is none."""
        found = self.run("return document.querySelector(arguments[0])?.innerText || ''", selector)
        assert isinstance(found, str)
        return found

    def wait(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}\n{self.text('body')[:3000]}"

    def click(self, selector: str) -> None:
        found = self._do("element", using="css selector", value=selector)
        assert isinstance(found, dict)
        self._do(f"element/{found[_ELEMENT]}/click")

    def press(self, keys: str, selector: str = "body") -> None:
        """Keys, to that element. Named ones are private characters (WebDriver, 17.4.2)."""
        found = self._do("element", using="css selector", value=selector)
        assert isinstance(found, dict)
        self._do(f"element/{found[_ELEMENT]}/value", text=keys)

    def picture(self, path: Path) -> None:
        found = _asked(self._driver, f"{self._session}/screenshot")
        assert isinstance(found, str)
        path.write_bytes(base64.b64decode(found))

    def tell(self, command: str, **values: object) -> object:
        """The answer to a command of the Chrome DevTools protocol."""
        return self._do("goog/cdp/execute", cmd=command, params=values)

    @property
    def roles(self) -> set[str]:
        """Of the parts of the page, as a screen reader is told them."""
        found = self.tell("Accessibility.getFullAXTree")
        assert isinstance(found, dict)
        return {node["role"]["value"] for node in found["nodes"] if "role" in node}

    @property
    def fetched(self) -> list[str]:
        """The addresses of all that the page has asked for, beside itself."""
        found = self.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert isinstance(found, list)
        return found

    def close(self) -> None:
        request = urllib.request.Request(self._driver + self._session, method="DELETE")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30):
            pass


def _asked(driver: str, path: str, values: object = None) -> dict[str, object] | object:
    data = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(driver + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()[:2000]) from None


@contextlib.contextmanager
def browsers(folder: Path, *sizes: tuple[int, int]) -> Iterator[list[Browser]]:
    """As many browsers as sizes of windows, at once."""
    process = subprocess.Popen(
        ["chromedriver", "--port=0", f"--log-path={folder}/driver.log"],
        stdout=subprocess.PIPE,
        text=True,
    )
    opened: list[Browser] = []
    try:
        assert process.stdout is not None
        port = next(
            found[1]
            for line in process.stdout
            if (found := re.search(r"successfully on port (\d+)", line))
        )
        for number, size in enumerate(sizes):
            opened.append(Browser(f"http://127.0.0.1:{port}", folder / f"profile{number}", size))
        yield opened
    finally:
        for browser in opened:
            browser.close()
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
