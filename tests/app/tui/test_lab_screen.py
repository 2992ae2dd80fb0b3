"""The lab's screen: a student's VMM beside ours."""

from __future__ import annotations

from pathlib import Path

from stage import stage

from app import lab
from app.lab import Result
from app.text.lab_runs import side_by_side
from app.tui.screens.lab import LabScreen
from cores.lab.log import NAMES, Event
from cores.lab.pairs import done
from cores.lab.reference import reference
from cores.lab.steps import step_of
from cores.lab.student import compiled, run
from cores.lab.verdict import judged

SOLUTION = Path(__file__).resolve().parents[2] / "lab" / "step3.py"


def results(source: str) -> list[Result]:
    """The results of step 3, made in this process."""
    found = []
    for case in step_of(3).cases(1)[:2]:
        ours = reference(case)
        mine = run(compiled(source.encode(), "vmm.py"), "vmm.py", case, *lab.limits_of(ours))
        verdict = judged(mine, ours, strict=True, hidden=False)
        found.append(Result(case, mine, ours, verdict))
    return found


async def test_the_first_difference_is_marked() -> None:
    """At 80x24 both lists stand side by side, the cursor is at the first difference, and below is what
    went wrong and what each did; run again, with a right file, it says so."""
    right = SOLUTION.read_text()
    wrong = results(right.replace('"pushf", "popf"', '"pushf"'))
    async with stage(size=(80, 24), home=True) as s:
        s.app.show_lab("step 3", wrong, lambda: results(right))
        await s.see("100053 pushfq  patched          ≠ 100015 popfq  flags")
        assert "ring 3 executes popf without a trap" in s.text()
        assert "not yet" in s.text()
        screen = s.app.screen
        assert isinstance(screen, LabScreen)
        at = screen.marked
        await s.press("home", "down", "end", "d")
        assert screen.marked == at
        await s.press("right")
        await s.see("nested  (2 of 2)")
        await s.press("r")
        await s.see("right")
        await s.until(lambda: screen.result.verdict.passed, "the second run")
        assert "≠" not in s.text()
        await s.press("escape")
        assert not isinstance(s.app.screen, LabScreen)


async def test_the_home_page_asks_for_step_and_file() -> None:
    """`l` asks; what is no step is told, and nothing else happens."""
    async with stage(home=True) as s:
        await s.press("l", *"9 x.py", "enter")
        await s.see("a step is a number from 1 to 8, not '9'")


def test_side_by_side_as_text() -> None:
    """Without a terminal the exits around the first difference are text."""
    text = side_by_side(results(SOLUTION.read_text().replace('"pushf", "popf"', '"pushf"'))[0])
    assert "100053 pushfq  patched                 ≠ 100015 popfq  flags" in text


def test_a_frame_that_is_stored_at_once_is_shown_in_words() -> None:
    """Our VMM stores a handler's frame at once, a student's by pushes: both read alike, by address."""
    low, high = (0x100, "2b" + 7 * "00"), (0x108, "33" + 7 * "00")
    assert done(_stores(high, low)) == "[100] = 2b, [108] = 33"
    assert done(_stores((0x100, low[1] + high[1]))) == "[100] = 2b, [108] = 33"
    narrow = (0x100, "2b0000003300000002000000")
    assert done(_stores(narrow)) == "[100] = 2b, [104] = 33, [108] = 2"
    assert done(_stores((0x100, 512 * "00"))) == "[100] = 512 bytes"


def _stores(*writes: tuple[int, str]) -> Event:
    """An exit at which only these were done."""
    state = (0,) * len(NAMES)
    return Event(1, 0, 0, "", "", state, after=state, writes=[*writes])
