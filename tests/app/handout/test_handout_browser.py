"""A handout in headless Chromium, with the network off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.handout.page import page
from app.handout.recorder import perform
from lessons.library import find
from tests.browser import Browser, browsers, needs_browser

pytestmark = [pytest.mark.full, needs_browser]
LEFT = "\ue012"
"""The arrow key (WebDriver, 17.4.2)."""
SLIDER = ".film input[type=range]"


@pytest.fixture(scope="module")
def handout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The first lesson's, on a screen as wide as a phone's."""
    folder = tmp_path_factory.mktemp("browser")
    file = folder / "lesson.html"
    file.write_text(page(perform(find("two-ways"))))
    with browsers(folder, (500, 900)) as (browser,):
        browser.tell("Network.enable")
        browser.tell(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0,
            uploadThroughput=0,
        )  # fmt: skip
        browser.open(file.as_uri())
        yield browser


def test_nothing_is_fetched(handout: Browser) -> None:
    """The page is whole without a network, and asks for nothing."""
    assert handout.fetched == []
    assert handout.run("return document.querySelectorAll('.film .machines').length > 3")
    assert handout.run("return document.documentElement.scrollWidth <= innerWidth")


def test_the_slider_goes_by_keys(handout: Browser) -> None:
    """An arrow key goes one moment back; [ and ] go from exit to exit."""
    last = handout.run(f"return Number(document.querySelector('{SLIDER}').value)")
    before = handout.text(".film output")
    handout.press(LEFT, SLIDER)
    assert handout.run(f"return Number(document.querySelector('{SLIDER}').value)") == int(str(last)) - 1
    assert handout.text(".film output") != before
    handout.press("[", SLIDER)
    assert handout.run(f"return Number(document.querySelector('{SLIDER}').value)") == 0
    assert "ring 0" in handout.text(".film h3")


def test_exits_are_marked(handout: Browser) -> None:
    """The slider of a move has a mark for each moment at which a machine left its guest."""
    lists = "[...document.querySelectorAll('datalist')]"
    marks = handout.run(f"return {lists}.map(list => list.children.length)")
    assert marks == [0, 0, 1, 1]  # the loop has no exit; its end, and the free run, have the one


def test_answers_wait_for_the_reader(handout: Browser) -> None:
    """An answer is not to be seen before one was given; then the page says whether that was right."""
    answer = "The CPU itself."
    assert handout.text(".question").count(answer) == 1  # among the choices
    handout.click(".question input[value=a]")
    assert handout.text(".question .reply").startswith("Not so.")
    handout.click(".question input[value=b]")
    assert handout.text(".question .reply") == "Right."
    assert handout.text(".question").count(answer) == 2


def test_paper(handout: Browser) -> None:
    """In print there are no sliders; the machines' moments are words, the answers stand at the end."""

    def seen(selector: str) -> object:
        return handout.run(
            "return [...document.querySelectorAll(arguments[0])].some(e => e.offsetParent !== null)",
            selector,
        )

    assert not seen(".answers")
    handout.tell("Emulation.setEmulatedMedia", media="print")
    assert seen(".answers")
    assert seen(".still")
    assert not seen(SLIDER)
    handout.tell("Emulation.setEmulatedMedia", media="")
