"""Grading: the shipped tasks with their model answers, and submissions that are wrong or hostile."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from app.commands import submission
from app.main import main
from cores.errors import InputError
from lessons.format.task import parse_task
from lessons.grading import grade, numbers, seed_of
from lessons.library import TASKS, task_file

ANSWERS = Path(__file__).parent / "answers"
NAMES = sorted(path.stem for path in TASKS.glob("*.md"))
TASK = """+++
title = "T"
summary = "S"
minutes = 5
cores = ["interpreter", "trap"]
[vary]
n = [3, 4]
+++
## Do
Print {n} letters.
"""
CASE = "```case\nlimit = 2000\n```\n"
GOAL = '```goal\nname = "G"\npoints = 2\nthat = ["trap.exits <= n"]\nhint = "H"\n```\n'


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task.md"
    path.write_text(TASK + CASE + GOAL)
    return path


def program(tmp_path: Path, source: str) -> str:
    """The path of a submission."""
    pytest.importorskip("keystone", reason="Keystone assembles submissions")
    path = tmp_path / "student.s"
    path.write_text(source)
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_answer_has_all_points(name: str) -> None:
    """Each shipped task gives its model answer, which is kept apart, every point."""
    pytest.importorskip("keystone", reason="Keystone assembles submissions")
    task = parse_task(task_file(name))
    result = grade(task, str(ANSWERS / f"{name}.s"))
    assert [(o.name, o.message) for o in result.outcomes if o.points != o.of] == []
    assert result.points == task.points == 10


def test_a_wrong_answer_is_told_what_was_found(task: Path, tmp_path: Path) -> None:
    """A missed goal gives no points; the value that was found and the hint are said."""
    four = "_start: mov ecx, 4\nx: out 0xe9, al\nloop x\nxor eax, eax\nout 0xf4, al\n"
    (outcome,) = grade(parse_task(str(task)), program(tmp_path, four)).outcomes
    assert (outcome.points, outcome.of, outcome.message) == (0, 2, "trap.exits is 5; H")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "_start: cli\nx: jmp x\n",
            "stopped after 2,000 instructions: it does not end; interpreter.stop",
        ),
        ("_start: mov eax, nowhere\n", "cannot be run: "),
        ("_start: ud2\n", "interpreter.stop is 'shutdown'"),
    ],
)
def test_a_hostile_submission_ends(tmp_path: Path, source: str, said: str) -> None:
    """An endless guest, one that cannot be assembled and one that crashes end with a reason."""
    path = tmp_path / "task.md"
    path.write_text(TASK + CASE + GOAL.replace("trap.exits <= n", "each.stop == 'exit'"))
    result = grade(parse_task(str(path)), program(tmp_path, source))
    assert [(o.points, o.of) for o in result.outcomes] == [(0, 2)]
    assert result.outcomes[0].message.startswith(said)


def test_time_is_limited(task: Path, tmp_path: Path) -> None:
    """A case ends after its seconds, in exact and in free mode."""
    spin = program(tmp_path, "_start: cli\nx: jmp x\n")
    for head in ("limit = 100_000_000", "free = true"):
        wanted = GOAL.replace("trap.exits <= n", "trap.stop == 'exit'")
        task.write_text(TASK + f"```case\n{head}\n```\n{wanted}")
        (outcome,) = grade(parse_task(str(task)), spin, timeout=0.2).outcomes
        assert outcome.message.startswith("stopped after 0.2 seconds: it does not end")


def test_each_student_has_numbers_of_his_own(task: Path) -> None:
    """A name gives the same numbers each time; names differ."""
    parsed = parse_task(str(task))
    assert numbers(parsed, None) == {"n": 3}
    found = {str(numbers(parsed, seed_of(name))) for name in "abcdefgh"}
    assert len(found) == 2
    assert numbers(parsed, seed_of("a")) == numbers(parsed, seed_of("a"))


def test_a_hidden_case_tells_nothing(task: Path, tmp_path: Path) -> None:
    """Of a hidden case the student sees the goal's name and hint, and no value."""
    task.write_text(TASK + CASE.replace("limit", "hidden = true\nlimit") + GOAL)
    many = "_start: mov ecx, 9\nx: out 0xe9, al\nloop x\nout 0xf4, al\n"
    (outcome,) = grade(parse_task(str(task)), program(tmp_path, many)).outcomes
    assert (outcome.hidden, outcome.message) == (True, "H")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TASK, "a task needs a ```goal with points"),
        (TASK + GOAL, ":11: a goal belongs to a ```case before it"),
        (
            TASK + CASE + GOAL.replace("points = 2", "points = -1"),
            ":16: points is a whole number from 0",
        ),
        (TASK + CASE + GOAL.replace("exits <=", "exits ="), ":17: not an expression"),
        (TASK + CASE + GOAL + "```ask\n```\n", ":20: no block is called 'ask'; there are case, goal"),
        (TASK.replace("{n}", "{m}") + CASE + GOAL, ""),
    ],
)
def test_a_wrong_task_has_its_line(tmp_path: Path, text: str, said: str) -> None:
    """Mistakes of a task are bad input with a line."""
    path = tmp_path / "task.md"
    path.write_text(text)
    if said:
        with pytest.raises(InputError) as error:
            parse_task(str(path))
        assert said in str(error.value)
    else:
        assert main(["grade", str(path)]) == 2


def test_the_command(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a program the task is printed; with programs points, as text, JSON and for Gradescope;
    the exit code says whether all points were given."""
    assert main(["grade", str(task), "--student", "a"]) == 0
    assert "letters." in capsys.readouterr().out
    good = program(tmp_path, "_start: xor eax, eax\nout 0xf4, al\n")
    results = tmp_path / "results.json"
    assert main(["grade", str(task), good, "--gradescope", str(results)]) == 0
    assert "2 of 2 points" in capsys.readouterr().out
    written = json.loads(results.read_text())
    assert written["score"] == 2
    assert written["tests"][0]["max_score"] == 2
    assert written["tests"][0]["visibility"] == "visible"
    assert main(["grade", str(task), good, str(tmp_path / "none.s"), "--json"]) == 1
    both = json.loads(capsys.readouterr().out)["submissions"]
    assert [one["points"] for one in both] == [2, 0]
    assert both[1]["failure"].startswith("cannot be run")
    assert main(["grade", "fewer-exit"]) == 2
    assert "did you mean 'fewer-exits'?" in capsys.readouterr().err
    assert main(["grade", str(task), good, good, "--gradescope", str(results)]) == 2


posix = pytest.mark.skipif(os.name != "posix", reason="processes have no such limits here")
KEYS = {
    "score": (int, float), "execution_time": (int, float), "output": str, "tests": list,
    "visibility": str, "stdout_visibility": str, "extra_data": dict, "leaderboard": list,
}  # fmt: skip
TEST_KEYS = {
    "score": (int, float), "max_score": (int, float), "status": str, "name": str, "number": str,
    "output": str, "visibility": str, "tags": list, "extra_data": dict, "output_format": str,
}  # fmt: skip
"""Keys of Gradescope's results.json, and their types (its manual for autograders, "Output Format")."""
VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")


def test_gradescope_can_read_its_file(task: Path, tmp_path: Path) -> None:
    """Each key of results.json is one that Gradescope knows, of its type; points are of goals alone."""
    task.write_text(TASK + CASE + GOAL + CASE.replace("limit", "hidden = true\nlimit") + GOAL)
    results = tmp_path / "results.json"
    five = program(tmp_path, "_start: mov ecx, 5\nx: out 0xe9, al\nloop x\nout 0xf4, al\n")
    results.write_text("[1]")
    assert main(["grade", str(task), five, "--gradescope", str(results), "--overwrite"]) == 1
    found = json.loads(results.read_text())
    assert all(isinstance(found[key], KEYS[key]) for key in found)
    assert len(found["tests"]) == 2
    for test in found["tests"]:
        assert all(isinstance(test[key], TEST_KEYS[key]) for key in test)
        assert test["status"] == ("passed" if test["score"] == test["max_score"] else "failed")
        assert test["visibility"] in VISIBILITIES
    assert found["score"] == sum(test["score"] for test in found["tests"])


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ("import time; time.sleep(600)", "stopped after 1 seconds: it does not end"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",
            "seconds of CPU time",
            marks=posix,
        ),
        pytest.param("import os; os.abort()", "it ended early (signal 6)", marks=posix),
        ("raise SystemExit(90)", "MiB of memory"),
        ("print('{}')", "ended early (exit code 0)"),
        ("print('[' * 100000)", "ended early (exit code 0)"),
        ("import sys; sys.stdout.buffer.write(b'\\xff' * 100)", "ended early (exit code 0)"),
    ],
)
def test_a_submission_that_breaks_its_process(
    task: Path, child: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the process that grades, the result is no points, with the reason."""
    monkeypatch.setattr(submission, "again", lambda *words: [sys.executable, "-c", child, *words])
    if said.startswith("stopped"):  # the others end by themselves, however busy the computer is
        monkeypatch.setattr(submission, "START", 0.5)
    result = submission.graded(parse_task(str(task)), "x.s", None, 0.5)
    assert (result.points, result.of) == (0, 2)
    assert said in result.failure
    assert said in result.outcomes[0].message


@posix
def test_a_submission_has_limits(task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission is graded within bounds of memory; with too little of it there are no points."""
    good = program(tmp_path, "_start: xor eax, eax\nout 0xf4, al\n")
    parsed = parse_task(str(task))
    assert submission.graded(parsed, good, None, None).points == 2
    monkeypatch.setattr(submission, "BASE", -(100 << 20))
    assert submission.graded(parsed, good, None, None).points == 0
