"""Orders to the session's thread, and how each stands to what the machines are doing."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from app.any_session import AnySession

Obey = Callable[[AnySession], Callable[[], None]]
"""Carries a command out; gives what makes its future's answer known, once the picture is taken."""
Refuse = Callable[[Exception | None], None]
"""Has its future fail; None: it was never carried out."""


class Way(Enum):
    """How an order stands to the goal under way."""

    BESIDE = auto()  # the goal goes on afterwards
    INSTEAD = auto()  # in its place, and in that of all that wait for its end
    AFTER = auto()  # where the goal is a journey, and no long one, at its end
    AFTER_EXIT = auto()  # the same, after the way to the next exit even where that is long


class Journey(Enum):
    """A goal that ends at a place: the next exit, which may never come, or an instruction."""

    TO_EXIT = auto()
    TO_INSTRUCTION = auto()


class Order(NamedTuple):
    """A command in the queue."""

    obey: Obey
    refuse: Refuse
    way: Way
