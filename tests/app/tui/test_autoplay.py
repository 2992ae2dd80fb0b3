"""A lesson that plays by itself waits for its reader, and can be paused."""

from __future__ import annotations

from app.recording.asciicast import reading_time
from app.tui.autoplay import Autoplay

WORDS = "seven words take two seconds and more"


def test_a_page_is_left_when_it_has_been_read() -> None:
    """The reading time counts from when the text appears; twice the speed halves it."""
    for speed in (1.0, 2.0):
        auto = Autoplay(speed)
        due = 100 + reading_time(WORDS) / speed
        assert not auto.has_been_read(WORDS, 0, 100)
        assert not auto.has_been_read(WORDS, 0, due - 0.01)
        assert auto.has_been_read(WORDS, 0, due)


def test_a_pause_is_added() -> None:
    """The lesson's own pauses are added to the reading time."""
    auto = Autoplay(1.0)
    assert not auto.has_been_read(WORDS, 3, 100)
    assert not auto.has_been_read(WORDS, 3, 100 + reading_time(WORDS))
    assert auto.has_been_read(WORDS, 3, 103 + reading_time(WORDS))


def test_new_words_begin_anew() -> None:
    """After a page turn the full reading time begins again, for the same text too."""
    auto = Autoplay(1.0)
    assert not auto.has_been_read(WORDS, 0, 100)
    assert not auto.has_been_read("others", 0, 200)
    assert not auto.has_been_read(WORDS, 0, 300)
    assert auto.has_been_read(WORDS, 0, 400)
    assert not auto.has_been_read(WORDS, 0, 400)


def test_by_key_unless_a_speed_is_given() -> None:
    """Without a speed a lesson waits for keys until autoplay is switched on, at a reader's speed."""
    assert (Autoplay().on, Autoplay().speed, Autoplay().alone) == (False, 1.0, False)
    assert (Autoplay(3.0).on, Autoplay(3.0).alone) == (True, True)
