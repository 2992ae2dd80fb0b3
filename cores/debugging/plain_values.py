"""Plain values: conversion of dataclasses to numbers, text, bytes, tuples and dictionaries, and back.

A file may come from anyone, so it names no class: the types of its values follow from the types that
our own dataclasses declare for their fields, and each value is checked against its type when it is
read. A value of another type raises ValueError.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

LEAST, MOST = -(1 << 63), (1 << 64) - 1
"""Limits of whole numbers: registers, addresses and counts; a clock may be set to before its epoch."""


def plain(value: Any) -> Any:
    """Convert a value to plain ones, as they are written to a file."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return tuple(plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return tuple(map(plain, value))
    return value


def shaped(hint: Any, value: Any) -> Any:
    """Convert the result of ``plain`` back. hint: the type, or the types of a dictionary's values by
    key; Any leaves the value as it is. Raises ValueError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if isinstance(hint, dict):
        _demand(isinstance(value, dict) and value.keys() == hint.keys(), hint)
        return {key: shaped(hint[key], one) for key, one in value.items()}
    if origin is UnionType:
        return _either(arguments, value)
    if hint is int:
        _demand(type(value) is int and LEAST <= value <= MOST, hint)
        return value
    if hint in (bool, str, bytes, NoneType):
        _demand(type(value) is hint, hint)
        return value
    if hint is float:
        _demand(type(value) in (int, float), hint)
        return value
    if origin is tuple and arguments[-1] is not ...:
        return tuple(_each(arguments, value))
    if origin in (tuple, list, frozenset):
        _demand(isinstance(value, tuple), hint)
        return origin(shaped(arguments[0], one) for one in value)
    if origin in (dict, Counter):
        _demand(isinstance(value, dict), hint)
        kind = arguments[1] if origin is dict else int
        return origin({shaped(arguments[0], k): shaped(kind, one) for k, one in value.items()})
    if issubclass(hint, Enum):
        members = [one for one in hint if one.value == value and type(value) in (int, str)]
        _demand(len(members) == 1, hint)
        return members[0]
    return hint(*_each(tuple(_field_types(hint).values()), value))


def _each(hints: tuple[Any, ...], values: Any) -> list[Any]:
    _demand(isinstance(values, tuple) and len(values) == len(hints), tuple)
    return [shaped(hint, value) for hint, value in zip(hints, values, strict=True)]


def _either(hints: tuple[Any, ...], value: Any) -> Any:
    for hint in hints:
        try:
            return shaped(hint, value)
        except ValueError:
            continue
    raise ValueError(f"nothing that can stand for {hints[0].__name__}")


@cache
def _field_types(kind: type) -> dict[str, Any]:
    """Field types of a dataclass or a NamedTuple, in order."""
    return get_type_hints(kind)


def _demand(true: bool, hint: Any) -> None:
    if not true:
        raise ValueError(f"something else where {getattr(hint, '__name__', 'a table')} should be")
