"""Help describes the pane in front, and fits its sheet."""

from __future__ import annotations

import pytest
from stage import stage

from app.tui import help_topics
from app.tui.rows.glyphs import ASCII, UNICODE, Glyphs
from app.tui.rows.rows import row_width
from app.tui.screens import help
from app.tui.screens.editor import EditorScreen
from app.tui.screens.glossary import GlossaryScreen
from app.tui.screens.machines.screen import MachinesScreen


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("topic", help_topics.TOPICS, ids=lambda topic: topic.title)
def test_help_fits_its_sheet(topic: help_topics.Topic, glyphs: Glyphs) -> None:
    """No line of the help is cut off, and no key overlaps its description."""
    room = help.WIDTH - 4
    groups = tuple(title for title, _ in help_topics.KEYS)
    assert all(row_width(line) <= room for line in help.topic_rows(topic, glyphs, room, groups))
    for _, keys in (("", topic.keys), ("", help_topics.marks(glyphs)), *help_topics.KEYS):
        assert all(len(key) < help.KEY for key, _ in keys)


@pytest.mark.parametrize(
    ("keys", "topic"),
    [
        ([], help_topics.MACHINES),
        (["down"], help_topics.PICKED),
        (["e", "w"], help_topics.CONVERSATION),
        (["e", "w", "w"], help_topics.REASONS),
        (["e", "w", "w", "w"], help_topics.LOG),
        (["r"], help_topics.REGISTERS),
        (["m"], help_topics.MEMORY),
        (["t"], help_topics.PAGES),
        (["T"], help_topics.TABLES),
        (["R"], help_topics.RINGS),
        (["D"], help_topics.DEVICES),
        (["N"], help_topics.NETWORK),
    ],
    ids=lambda value: getattr(value, "title", None),
)
async def test_help_is_for_what_has_the_keys(keys: list[str], topic: help_topics.Topic) -> None:
    """? and F1 open the help of the pane or view in front, with its explanation above its keys; both
    close it."""
    async with stage(size=(80, 24)) as s:
        for key in ("question_mark", "f1"):
            await s.press(*(keys if key == "question_mark" else []), key)
            await s.see(f"Help: {topic.title} ")
            assert topic.text[0].split()[0] in s.text().splitlines()[2]
            await s.press("pagedown", key)
            assert isinstance(s.app.screen, MachinesScreen)


async def test_general_keys_follow_and_pages_turn() -> None:
    """Scrolling shows the general keys; right and left turn to the other panes' help."""
    async with stage(size=(80, 24)) as s:
        await s.press("question_mark", "end")
        await s.see("ctrl+c quits as well")
        await s.press("right")
        await s.see("Help: A picked line ")
        await s.press("left", "left")
        await s.see("Help: Guests and lessons ")
        assert "In a lesson" not in s.text()  # what does not work here is not listed
        await s.press("escape")
        assert isinstance(s.app.screen, MachinesScreen)


async def test_home_editor_and_glossary_have_help() -> None:
    """F1 opens help on the home screen, in the editor and in the glossary."""
    async with stage(size=(80, 24), home=True) as s:
        await s.press("f1")
        await s.see("Help: Guests and lessons ")
        assert "run in lockstep" not in s.text()
        await s.press("end")
        await s.see("write a guest of your own")
        await s.press("escape", "G", "f1")
        await s.see("Help: The glossary ")
        await s.press("escape")
        assert isinstance(s.app.screen, GlossaryScreen)
        await s.press("escape", "c", "f1")
        await s.see("Help: The editor ")
        await s.press("f1")
        assert isinstance(s.app.screen, EditorScreen)
