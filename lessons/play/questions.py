"""Predictions: what counts as an answer, and whether it was right once the machines have moved."""

from __future__ import annotations

from dataclasses import dataclass

from lessons.format.script import Ask
from lessons.play.values import Scene, written

LETTERS = "abcdef"


class Ambiguous(Exception):
    """None or several of a question's choices have come true."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """right: was the answer. truth: the right one, in words. why: what to say to a wrong one, and
    of the right one."""

    right: bool
    truth: str
    why: str


def read(ask: Ask, given: str) -> str:
    """An answer as it was typed: a letter or a whole number. Raises ValueError with what would do."""
    word = given.strip().lower().rstrip(").")
    if ask.choices:
        letters = LETTERS[: len(ask.choices)]
        if len(word) == 1 and word in letters:
            return word
        raise ValueError(f"one of {', '.join(letters)}")
    try:
        return str(int(word.replace(",", ""), 0))
    except ValueError:
        raise ValueError("a whole number") from None


def judge(ask: Ask, scene: Scene, given: str | None) -> Judgement:
    """Judge an answer by what is true in ``scene``. given: from ``read``, None when
    none was given. Raises Ambiguous, ExpressionError."""
    if ask.choices:
        return _judge_choice(ask, scene, given)
    assert ask.number is not None
    truth = scene.value(ask.number)
    if given is None or int(given) == truth:
        return Judgement(given is not None, written(truth), "")
    after = Scene(scene.now, scene.before, scene.peek, {**scene.numbers, "answer": int(given)})
    why = next((wrong.why for wrong in ask.wrong if after.holds(wrong.when)[0]), "")
    return Judgement(False, written(truth), why)


def _judge_choice(ask: Ask, scene: Scene, given: str | None) -> Judgement:
    true = [i for i, choice in enumerate(ask.choices) if scene.holds(choice.when)[0]]
    if len(true) != 1:
        said = ", ".join(LETTERS[i] for i in true) or "none"
        raise Ambiguous(f"exactly one choice must come true, and these did: {said}")
    letter = LETTERS[true[0]]
    truth = f"{letter}) {ask.choices[true[0]].text}"
    right = given == letter
    wrong = ask.choices[LETTERS.index(given)].why if given and not right else ""
    why = " ".join(part for part in (wrong, ask.choices[true[0]].why) if part)
    return Judgement(right, truth, why)
