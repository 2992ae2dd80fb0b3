"""The player on real machines: moves, questions, values, and navigation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cores.engines.base import RingZero
from cores.errors import InputError
from lessons.format.expressions import ExpressionError, Value, parse
from lessons.format.parser import parse_text
from lessons.library import COURSE
from lessons.play.events import (
    Asked,
    Begun,
    Broken,
    Event,
    Kept,
    LeftOut,
    Looked,
    Moved,
    Paused,
    Pictured,
    Quoted,
    Said,
    Shown,
    Verdict,
)
from lessons.play.measure import KINDS, nanoseconds
from lessons.play.player import Player
from lessons.play.stage import open_stage
from lessons.play.values import Scene

HEAD = """+++
title = "T"
summary = "S"
minutes = 5
guest = "hello"
cores = ["interpreter", "trap"]
[vary]
n = [2, 3, 4, 5, 6]
+++
## First
At {trap.instructions}, AL is {trap.al}.
"""

EIGHT_BYTES = tuple((core, "8a 06 84 c0 74 07 e6 e9") for core in ("interpreter", "trap"))

ASK = """```ask
question = "How many for {n}?"
then = { exit = "io", times = "n" }
number = "new.trap.exits"
why = "One each."
[[wrong]]
when = "answer > n"
why = "Too many."
```
## Second
After {trap.exits}.
"""


@contextlib.contextmanager
def playing(body: str, seed: int | None = None, head: str = HEAD) -> Iterator[Player]:
    lesson = parse_text(head + body, "x.md")
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        yield Player(lesson, stage, seed)


def to_the_end(player: Player, answer: str | None = None) -> list[Event]:
    events: list[Event] = []
    while not player.ended:
        events += player.answer(answer) if player.question else player.proceed()
    return events


def test_a_lesson_is_played_in_order() -> None:
    """Steps, filled paragraphs, moves and the verdict come in the script's order."""
    with playing(ASK) as player:
        events = to_the_end(player, "2")
    assert [type(event).__name__ for event in events] == [
        "Begun", "Said", "Asked", "Moved", "Verdict", "Begun", "Said", "Ended",
    ]  # fmt: skip
    assert events[1] == Said("At 0, AL is 0.")
    assert events[4] == Verdict("How many for 2?", "2", True, "2", "One each.")
    assert events[6] == Said("After 2.")


def test_a_wrong_answer_is_explained() -> None:
    """A wrong number gets its own explanation, then the general one."""
    with playing(ASK) as player:
        verdict = next(e for e in to_the_end(player, "9") if isinstance(e, Verdict))
    assert (verdict.right, verdict.explanation) == (False, "Too many. One each.")


def test_nonsense_is_no_answer() -> None:
    """An answer that is no number is refused, and the question stays open."""
    with playing(ASK) as player:
        while player.question is None:
            player.proceed()
        with pytest.raises(ValueError, match="a whole number"):
            player.answer("many")
        assert player.question is not None


def test_a_seed_varies_the_numbers() -> None:
    """The same seed gives the same numbers, and seeds differ."""
    with playing("") as player:
        assert player.numbers == {"n": 2}
    found = set()
    for seed in range(6):
        with playing("", seed) as one, playing("", seed) as other:
            assert one.numbers == other.numbers
            found.add(one.numbers["n"])
    assert len(found) > 1


@pytest.mark.parametrize(
    ("block", "instructions", "exits"),
    [
        ('```run\nsymbol = "next"\n```\n', 1, 0),
        ('```run\nsymbol = "next"\ntimes = 3\n```\n', 13, 2),
        ('```run\nexit = "io"\ntimes = 2\n```\n', 11, 2),
        ('```run\nexit = "any"\n```\n', 5, 1),
        ("```run\ninstructions = 20\n```\n", 20, 3),
        ('```run\noutput = "ell"\n```\n', 23, 4),
        ("```run\nend = true\n```\n", 222, 37),
        ("```step\ntimes = 7\n```\n", 7, 1),
        ("```step\ntimes = 7\n```\n```back\ntimes = 3\n```\n", 4, 0),
    ],
)
def test_where_a_move_ends(block: str, instructions: int, exits: int) -> None:
    """Every kind of move stops all machines at its end."""
    with playing(block) as player:
        to_the_end(player)
        for machine in player.now.machines:
            assert machine.instructions == instructions
        assert player.now.machines[1].exits == exits


def test_a_move_can_be_made_in_slices() -> None:
    """A move made in slices of a millisecond arrives at the same place."""
    with playing('```run\nsymbol = "done"\n```\n') as player:
        slices = 0
        while not player.ended:
            player.proceed(0.001)
            slices += 1
        assert slices > 3
        assert player.now.machines[0].registers["rip"] == player.stage.address("done")


def test_a_place_never_reached_is_told() -> None:
    """A move that never arrives, or spends its limit, is reported as the lesson's mistake at its line,
    and the lesson goes on."""
    with playing('```run\noutput = "Goodbye"\n```\nOn.\n') as player:
        broken = [e for e in to_the_end(player) if isinstance(e, Broken)]
    assert [(b.line, "never reached in 222" in b.message) for b in broken] == [(12, True)]
    with playing('```run\noutput = "Goodbye"\nlimit = 50\n```\n') as player:
        assert any(isinstance(e, Broken) and "in 50" in e.message for e in to_the_end(player))


def test_an_unknown_symbol_has_its_line() -> None:
    """An unknown symbol is reported as the author's mistake at the block's line."""
    with playing('\n```run\nsymbol = "nowhere"\n```\n') as player, pytest.raises(InputError) as error:
        to_the_end(player)
    assert str(error.value) == "x.md:13: the guest has no symbol 'nowhere'"
    with playing('\n```run\nsymbol = "dome"\n```\n') as player, pytest.raises(InputError) as error:
        to_the_end(player)
    assert str(error.value) == "x.md:13: the guest has no symbol 'dome'; did you mean done?"


def test_a_value_belongs_to_a_machine() -> None:
    """A register without a machine is refused, with the right spelling in the message."""
    with playing("\n{rbx}\n") as player, pytest.raises(InputError) as error:
        to_the_end(player)
    assert str(error.value) == "x.md:13: whose rbx? Say on which machine: trap.rbx"


def test_expectations() -> None:
    """True expectations are counted; a false one is reported with its line and the value found."""
    body = (
        '```step\n```\n```expect\nthat = [\n  "each.instructions == 1",\n  "trap.exits == 5",\n]\n```\n'
    )
    with playing(body) as player:
        events = to_the_end(player)
    assert Kept(1) in events
    assert Broken(17, "expected trap.exits == 5; trap.exits is 0") in events


def test_what_speaks_of_an_absent_core_is_left_out() -> None:
    """Paragraphs, questions, views and claims about an absent core are skipped; its moves are still
    made."""
    body = (
        "On kvm {kvm.exits}.\n\n"
        '```ask\nquestion = "?"\nthen = { step = 3 }\nnumber = "kvm.exits"\n```\n'
        '```show\nview = "rings"\ncore = "kvm"\n```\n```expect\nthat = ["kvm.exits == 9"]\n```\n'
    )
    with playing(body) as player:
        events = to_the_end(player)
        assert player.now.machines[0].instructions == 3
    assert [e.core for e in events if isinstance(e, LeftOut)] == ["kvm"] * 4
    assert not any(isinstance(e, Asked | Shown | Broken) for e in events)


def test_going_back_returns_the_machines() -> None:
    """Going back leads to the stop before, with the machines' state of that stop."""
    with playing("```step\ntimes = 9\n```\nNow {trap.instructions}.\n```step\n```\nEnd.\n") as player:
        while not (player.at_stop and player.now.machines[0].instructions == 9):
            player.proceed()
        player.proceed()
        while not player.at_stop:
            player.proceed()
        assert player.now.machines[0].instructions == 10
        assert player.back()
        assert player.now.machines[0].instructions == 9


def test_jumping_to_a_step() -> None:
    """A step is found by title or number, and the machines are in its state."""
    with playing(ASK) as player:
        player.jump("second")
        assert player.proceed() == [Begun("Second", 2, 2)]
        assert player.now.machines[1].exits == 2
        player.jump("1")
        assert player.proceed() == [Begun("First", 1, 2)]
        assert player.now.machines[1].exits == 0
        with pytest.raises(ValueError, match="there are 1 to 2"):
            player.jump("third")


def test_taking_over_and_returning() -> None:
    """After the reader has driven the machines, also freely, the script's state is restored."""
    with playing("```step\ntimes = 9\n```\nNow.\n") as player:
        while player.now.machines[0].instructions != 9:
            player.proceed()
        player.take_over()
        player.stage.session.step()
        player.stage.run_free(0.05)
        player.rejoin()
        assert all(machine.instructions == 9 for machine in player.now.machines)
        assert player.stage.snapshot().mode == "exact"


def test_another_guest(tmp_path: Path) -> None:
    """`load` starts other machines; going back across it restores the first ones."""
    (tmp_path / "two.bin").write_bytes(bytes.fromhex("b001 e6f4"))  # mov al, 1; out 0xf4, al
    body = 'One.\n```load\nguest = "two.bin"\n```\n```run\nend = true\n```\nStatus {trap.status}.\n'
    lesson = parse_text(HEAD + body, str(tmp_path / "l.md"))
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        player = Player(lesson, stage)
        assert Said("Status 1.") in to_the_end(player)
        player.jump("1")
        assert stage.setup == lesson.setup


def test_another_guest_that_cannot_be(tmp_path: Path) -> None:
    """A `load` that fails keeps the present machines."""
    lesson = parse_text(HEAD + "One.\n", str(tmp_path / "l.md"))
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        stage.session.step()
        with pytest.raises(InputError, match="no such disk"):
            stage.load(replace(stage.setup, disk=str(tmp_path / "none.img")))
        assert stage.setup == lesson.setup
        stage.session.step()
        assert {m.instructions for m in stage.snapshot().machines} == {2}


def test_a_free_run() -> None:
    """A run to the end at full speed ends as the stepped one does."""
    with playing("```run\nend = true\nfree = true\n```\nIt said {trap.console}\n") as player:
        events = to_the_end(player)
    assert any(isinstance(e, Moved) for e in events)
    assert Said("It said Hello from ring 0, or so I believe.") in events


def test_an_endless_guest_runs_freely_for_a_time(tmp_path: Path) -> None:
    """A guest that never ends runs freely for the seconds given to each machine; nothing has stopped
    then. A free run to its end is reported as the lesson's mistake."""
    (tmp_path / "spin.bin").write_bytes(bytes.fromhex("fa ebfe"))  # cli; jmp to itself
    head = HEAD.replace('"hello"', '"spin.bin"')
    body = "```run\nfree = true\nseconds = 0.1\n```\n"
    claims = '```expect\nthat = ["each.stop == None", "each.seconds >= 0.1"]\n```\n'
    lesson = parse_text(head + body + claims, str(tmp_path / "l.md"))
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        player = Player(lesson, stage)
        assert Kept(2) in to_the_end(player)
        cpu = {machine.core: machine.cpu_seconds for machine in player.now.machines}
        assert cpu.get("trap:native") is None or cpu["trap:native"] >= 0
        assert cpu["interpreter"] is None


def test_how_values_are_written() -> None:
    """Counts are written with their noun, small numbers in words."""
    body = (
        "{trap.exits:exit|exits}, {trap.instructions:d}, {machines:w} machines.\n"
        "```step\ntimes = 5\n```\n"
        "{trap.exits:exit|exits} on {machines} machines.\n"
    )
    with playing(body) as player:
        said = [event.markdown for event in to_the_end(player) if isinstance(event, Said)]
    assert said[0].endswith("0 exits, 0, two machines.")
    assert said[1] == "1 exit on 2 machines."


def test_marks_are_concealed_until_the_first_answer() -> None:
    """Marks in the code would answer the first question about a guest; they are shown after it, and
    concealed again for another guest with a question."""
    body = f'```show\nview = "code"\n```\n{ASK}```show\nview = "code"\n```\n'
    again = body.replace("## Second", "## Fourth").replace("{n}", "{n} more")
    with playing(f'{body}## Third\n```load\nguest = "hello"\n```\n{again}') as player:
        shown: list[Shown] = []
        while not player.ended:
            conceals = player.conceals
            asked = player.question is not None
            assert conceals or not asked
            events = player.answer(None) if asked else player.proceed()
            shown += [event for event in events if isinstance(event, Shown)]
    assert [event.marks for event in shown] == [False, True, False, True]


def test_a_picture(tmp_path: Path) -> None:
    """A picture beside the lesson is shown; a text has the words for it."""
    (tmp_path / "x.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    block = '```image\nfile = "x.svg"\nalt = "Two rings."\n```\n'
    lesson = parse_text(HEAD + block, str(tmp_path / "l.md"))
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        events = to_the_end(Player(lesson, stage))
    assert Pictured(str(tmp_path / "x.svg"), "Two rings.") in events


def looked(body: str) -> list[Event]:
    with playing(body) as player:
        return [event for event in to_the_end(player) if isinstance(event, Looked)]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ('pane = "trap"', Looked("pane", "trap", ())),
        ('register = "al"', Looked("register", "al", (("interpreter", "0x48"), ("trap", "0x48")))),
        ('symbol = "next"', Looked("symbol", "next", (("at", "0x100007"), *EIGHT_BYTES))),
        ("address = 0x100007", Looked("address", "0x100007", (("at", "0x100007"), *EIGHT_BYTES))),
        ("line = 12", Looked("line", "12", (("at", "0x100007"),))),
        ('event = "io"', Looked("event", "io", (("interpreter", "0"), ("trap", "1")))),
        ('event = "any"', Looked("event", "any", (("interpreter", "0"), ("trap", "1")))),
    ],
)  # fmt: skip
def test_what_a_focus_shows(block: str, expected: Looked) -> None:
    """A focus on a pane, register, address, symbol, source line or event shows its values."""
    assert looked(f"```step\ntimes = 5\n```\n```focus\n{block}\n```\n") == [expected]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ('register = "rxx"', "nothing is called 'interpreter.rxx'; did you mean"),
        ('symbol = "nowhere"', "the guest has no symbol 'nowhere'"),
        ("line = 1", "line 1 of the guest has no instruction"),
        ('event = "oi"', "nothing is called"),
        ("address = 0x7fff00000000", "nothing is mapped at 0x7fff00000000 on interpreter"),
    ],
)
def test_a_focus_on_nothing_has_its_line(block: str, expected: str) -> None:
    """A focus on something absent is reported as the author's mistake at the block's line."""
    with playing(f"\n```focus\n{block}\n```\n") as player, pytest.raises(InputError) as error:
        to_the_end(player)
    assert str(error.value).startswith(f"x.md:13: {expected}")


def test_a_pause_is_a_stop() -> None:
    """A pause waits for the reader, and for its seconds in autoplay."""
    with playing("```pause\nseconds = 2.5\n```\nAfter it.\n```pause\n```\n") as player:
        while not player.at_stop:
            player.proceed()
        assert player.pausing == 2.5
        assert player.proceed() == [Paused(2.5)]
        assert player.pausing == 0
        player.proceed()
        assert player.at_stop
        assert player.pausing == 2.0


def test_quotes_of_the_source() -> None:
    """A quote has the present text of the definition or tagged comment."""
    body = '```quote\nfile = "cores/vmm/vmm.py"\ntag = "interrupt-due"\n```\n'
    with playing(body) as player:
        (quoted,) = [event for event in to_the_end(player) if isinstance(event, Quoted)]
    assert quoted.place == "cores/vmm/vmm.py: interrupt-due"
    assert quoted.code.startswith("# Is an interrupt due")
    assert "self.delivery.interrupt()" in quoted.code


def test_what_an_instruction_costs_is_measured() -> None:
    """The costs of stepping, translated code and direct execution are measured, in this order; an
    absent core is left out."""
    with playing('```expect\nthat = ["speed.stepped > 20 * speed.translated"]\n```\n') as player:
        events = to_the_end(player)
    assert Kept(1) in events
    assert all((cost := nanoseconds(kind)) is None or cost > 0 for kind in KINDS)


def test_the_simulation_prints_what_the_guest_does() -> None:
    """The model of lesson 13 has the guest's behaviour."""
    head = HEAD.replace('"hello"', '"guests/fibonacci.s"')
    body = '```run\nend = true\n```\n```expect\nthat = ["each.console == simulation"]\n```\n'
    lesson = parse_text(head + body, str(COURSE / "x.md"))
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        assert Kept(1) in to_the_end(Player(lesson, stage))


SAY = """```say
when = "{when}"
text = "At {{trap.instructions}}."
```
"""


@pytest.mark.parametrize(("when", "said"), [("trap.exits == 0", ["At 0."]), ("trap.exits > 0", [])])
def test_a_paragraph_on_condition(when: str, said: list[str]) -> None:
    """A conditional paragraph is shown, with its values, where its condition is true, and left out
    elsewhere."""
    with playing(SAY.format(when=when)) as player:
        events = to_the_end(player)
    assert [e.markdown for e in events if isinstance(e, Said)][1:] == said


def seen(ring_zero: RingZero, nested: bool | None, counts: dict[str, int] | None) -> Scene:
    """A session's snapshot as on a host with such a KVM."""
    lesson = parse_text(HEAD, "x.md")
    with contextlib.closing(open_stage(lesson.setup)) as stage:
        now = stage.snapshot()
    kvm = replace(
        now.machines[1], core="kvm", ring_zero=ring_zero, nested_paging=nested, kernel_exits=counts
    )
    now = replace(now, machines=(*now.machines, kvm))
    return Scene(now, now, lambda *_: b"")


@pytest.mark.parametrize(
    ("ring_zero", "nested", "counts", "expected"),
    [
        (RingZero.GUEST_MODE, True, {"exits": 9}, (True, True, 9)),
        (RingZero.INTERPRETED, False, {"exits": 9}, (False, False, 9)),
        (RingZero.UNKNOWN, None, None, (False, False, None)),
    ],
)  # fmt: skip
def test_what_lessons_know_of_the_hosts_kvm(
    ring_zero: RingZero, nested: bool | None, counts: dict[str, int] | None, expected: tuple[Value, ...]
) -> None:
    """Lessons know hardware support and nested paging as probed, the kernel's counts, and no shadow
    count of 0."""
    scene = seen(ring_zero, nested, counts)
    names = ("here.kvm_hardware", "here.kvm_nested", "kvm.kernel.exits")
    assert tuple(scene.value(parse(name)) for name in names) == expected
    assert scene.value(parse("kvm.exits.shadow")) is None
    with pytest.raises(ExpressionError, match="did you mean kvm_hardware"):
        scene.value(parse("here.kvm_hardwar"))
