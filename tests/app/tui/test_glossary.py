"""The glossary in the interface, and the choice of a lesson's step."""

from __future__ import annotations

from stage import stage

from app.tui.screens.glossary import GlossaryScreen
from lessons import glossary


def glossary_screen(s: object) -> GlossaryScreen:
    screen = s.app.screen  # type: ignore[attr-defined]
    assert isinstance(screen, GlossaryScreen)
    return screen


async def test_every_word_can_be_opened() -> None:
    """Each term of the glossary is the first that is found by its name; typed, it is selected, and its
    explanation shown."""
    async with stage() as s:
        await s.press("G")
        screen = glossary_screen(s)
        terms = glossary.terms()
        assert [term for term in terms if screen.found(term)[0] != term] == []
        for term in list(terms)[::12]:
            screen.query_one("#answer").value = term  # type: ignore[attr-defined]
            await s.pilot.pause()
            assert screen.marked == term
            await s.see(terms[term].split()[0])
        await s.press("escape")


async def test_a_search_looks_into_explanations_too() -> None:
    """Matches in names come first, then those in explanations; without a match nothing is selected."""
    async with stage(home=True) as s:
        await s.press("G", *"trap")
        screen = glossary_screen(s)
        found = screen.found("trap")
        assert found[0] == "trap"
        assert "paravirtualization" in found
        await s.press("down")
        assert screen.marked == found[1]
        screen.query_one("#answer").value = "no such word"  # type: ignore[attr-defined]
        await s.pilot.pause()
        assert screen.marked is None
        await s.press("enter")


def test_words_that_a_text_uses() -> None:
    """The terms of a text are found in its order, in the plural and by other names; parts of words are
    not."""
    text = "The VMMs hold a guest in ring 3; its entrapment ends in page-faults."
    assert glossary.occurring(text) == [
        "virtual machine monitor, VMM", "guest", "ring", "page fault", "page", "exception, fault",
    ]  # fmt: skip
    assert glossary.occurring("") == []
