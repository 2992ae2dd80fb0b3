"""A class's room: followers get each piece once and in order, wherever they come from; votes."""

from __future__ import annotations

import json
import re

from app.teacher.audience import bars
from app.web.room import LONGEST_NAME, MOST_VOTERS, Place, Room


def words(content: bytes) -> list[str]:
    """The texts of pieces, and "cut N"."""
    found = re.findall(r"event: (\w+)\ndata: (.*)\n", content.decode())
    loaded = [(event, json.loads(data)) for event, data in found]
    return [
        data["html"] if e == "piece" else f"{e} {data.get('keep', '')}".strip() for e, data in loaded
    ]


def shown(*texts: str) -> Room:
    room = Room()
    for position, text in enumerate(texts, 1):
        room.show(position, [{"html": text}], begins=True)
    return room


def test_a_late_comer_gets_everything_and_a_follower_what_is_new() -> None:
    """Who comes late gets all pieces; who is there gets each piece once."""
    room = shown("a", "b")
    place, live, content = room.lacking(Place(), 0)
    assert words(content) == ["a", "b"]
    assert room.lacking(place, live)[2] == b""
    room.show(3, [{"html": "c"}], begins=True)
    assert words(room.lacking(place, live)[2]) == ["c"]


def test_a_lost_connection_comes_back_to_its_place() -> None:
    """The id of the last message is enough to go on; an id of another run, or none, begins anew."""
    room = shown("a", "b", "c")
    ids = re.findall(rb"id: (\S+)", room.lacking(Place(), 0)[2])
    assert words(room.lacking(room.place(ids[1].decode()), 0)[2]) == ["c"]
    for strange in (
        "",
        "x.0.2",
        f"{room.run}.9.1",
        f"{room.run}.0.\u0663",
        f"{room.run}.-1.0",
        "." * 50,
    ):
        assert words(room.lacking(room.place(strange), 0)[2]) == ["a", "b", "c"]


def test_going_back_takes_away_what_came_later() -> None:
    """When the teacher goes back, each follower is told how much stays, also who was away meanwhile."""
    room = shown("a", "b", "c")
    early = room.place(f"{room.run}.0.1")
    place, live, _ = room.lacking(Place(), 0)
    room.show(2, [{"html": "B"}], begins=True)
    assert words(room.lacking(place, live)[2]) == ["cut 1", "B"]
    assert words(room.lacking(early, 0)[2]) == ["cut 1", "B"]
    room.show(1, [{"html": "A"}], begins=True)
    assert words(room.lacking(place, live)[2]) == ["cut 0", "A"]
    assert words(room.lacking(Place(2, 0), 0)[2]) == ["A"]


def test_what_follows_a_question_stays_with_it() -> None:
    """The machines' move and the answer come from the question's place, and do not replace it."""
    room = shown("a", "question")
    room.show(2, [{"html": "moved"}, {"html": "answer"}], begins=False)
    assert words(room.lacking(Place(), 0)[2]) == ["a", "question", "moved", "answer"]
    room.show(2, [{"html": "again"}], begins=True)
    assert words(room.lacking(Place(1, 0), 0)[2]) == ["a", "again"]


def test_the_machines_as_the_teacher_drives_them_are_shown_once() -> None:
    """The newest view alone is sent, and is over with the next piece."""
    room = shown("a")
    place, live, _ = room.lacking(Place(), 0)
    for n in range(3):
        room.show_live({"html": str(n)})
    place, live, content = room.lacking(place, live)
    assert content.count(b"event: live") == 1
    assert room.lacking(place, live)[2] == b""
    room.show(2, [{"html": "b"}], begins=True)
    assert words(room.lacking(Place(), 0)[2]) == ["a", "b"]


def test_votes() -> None:
    """The last answer of a voter counts, until the answer is revealed; nonsense is refused in words."""
    room = Room()
    ann, bob = room.voter(""), room.voter("unknown")
    for _ in range(3):
        room.came()
    assert room.votes is None
    number = room.ask("Who?", "abc", "One")
    assert room.answer(ann, number, "a", "") == ""
    assert room.answer(ann, number, " B ", "") == ""
    assert room.answer(bob, number, "d", "") == "one of a, b, c"
    assert room.answer("x", number, "a", "") == "this browser is not known here: load the page again"
    assert room.votes is not None
    assert room.votes.counts == (("a", 0), ("b", 1), ("c", 0))
    assert bars(room.votes, 4) == "Votes: a 0   b ████ 1   c 0   (1 of 3)"
    room.reveal("b")
    assert room.answer(bob, number, "b", "") == "this question is closed"
    second = room.ask("How many?", "", "Two")
    assert room.answer(bob, second, "0x10", "Bob\n" * 40) == ""
    assert room.answer(bob, second, "9" * 5000, "") == ""
    assert room.answer(bob, second, "many", "") == "a whole number"
    assert room.answer(bob, number, "b", "") == "this question is closed"
    assert len(room.names[bob]) <= LONGEST_NAME


def test_the_table_has_a_row_for_each_answer() -> None:
    """The students' answers, with name, time, and whether they were right."""
    room = Room()
    ann = room.voter("")
    room.answer(ann, room.ask("Who?", "ab", "One"), "a", "Ann")
    room.reveal("a")
    head, row = room.table()
    assert head[:3] == ("question", "step", "text")
    assert row[:7] == ("1", "One", "Who?", "1", "Ann", "a", "yes")


def test_voters_are_limited() -> None:
    """However many ask for a vote, so many are given out; who has one keeps it."""
    room = Room()
    first = room.voter("")
    given = [room.voter("") for _ in range(MOST_VOTERS + 5)]
    assert given[-1] == ""
    assert room.voter(first) == first
