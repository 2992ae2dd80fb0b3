"""A device of the user's own, from a Python file: ``--device FILE.py``.

The file holds one or more classes that derive from ``Device``. It is the user's program, and may do
what any may. What it raises stops the machine with a sentence that names its line.
"""

from __future__ import annotations

import copy
import functools
import inspect
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from cores import input_file
from cores.errors import EngineError, InputError
from cores.pc.devices.base import Device, MemoryDevice

LARGEST = 1 << 20
_GUARDED = (
    "read", "write", "read_string", "write_string", "describe", "advance", "next_event", "facts",
    "notes", "widths", "mmio_read", "mmio_peek", "mmio_write", "describe_access", "poll", "next_poll",
)  # fmt: skip


class DeviceError(EngineError):
    """The user's device has raised an exception; the machine stops with it."""


def load_devices(path: str) -> tuple[type[Device], ...]:
    """The devices of a file, in its order. Raises InputError."""
    source = input_file.read(path, LARGEST)
    module = ModuleType("own_device")
    module.__file__ = path
    try:
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        raise InputError(f"no Python: {error.msg}", path, error.lineno) from None
    except Exception as error:
        raise InputError(_words(error), path, _line(error, path)) from error
    kinds = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Device) and kind.__module__ == module.__name__
    ]
    if not kinds:
        raise InputError("no class in it derives from Device (docs/extending.md)", path)
    for kind in kinds:
        if missing := sorted(kind.__abstractmethods__):
            raise InputError(f"{kind.__name__} has no {' and no '.join(missing)}", path)
        _check_ports(kind, path)
    return tuple(_guarded(kind, path) for kind in kinds)


def _check_ports(kind: type[Device], path: str) -> None:
    if issubclass(kind, MemoryDevice):
        if not isinstance(kind.window, range) or not kind.window:
            raise InputError(f"{kind.__name__}.window is no range of physical addresses", path)
        return
    ports = kind.ports
    try:
        lawful = all(isinstance(port, int) and 0 <= port < 1 << 16 for port in ports)
    except TypeError:
        lawful = False
    if not lawful or not ports:
        raise InputError(f"{kind.__name__}.ports are no port numbers, as in (0x300, 0x301)", path)


def _guarded(kind: type[Device], path: str) -> type[Device]:
    """The same device: its exceptions are ``DeviceError``, its saved state is a copy in depth."""

    def save(self: Device) -> dict[str, Any]:
        return copy.deepcopy(kind.save(self))

    def restore(self: Device, state: dict[str, Any]) -> None:
        kind.restore(self, copy.deepcopy(state))

    members: dict[str, object] = {"save": save, "restore": restore, "name": kind.name or kind.__name__}
    for name in _GUARDED:
        method = getattr(kind, name, None)
        if method is not None and method is not getattr(Device, name, None):
            members[name] = _careful(method, kind, path)
    plug = kind.plug.__func__  # type: ignore[attr-defined]
    members["plug"] = classmethod(_careful(plug, kind, path))
    return type(kind.__name__, (kind,), members)


def _careful(method: Callable[..., Any], kind: type[Device], path: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def careful(*arguments: Any) -> Any:
        try:
            value = method(*arguments)
        except Exception as error:
            line = _line(error, path)
            place = path if line is None else f"{path}:{line}"
            raise DeviceError(f"{place}: {kind.__name__}: {_words(error)}") from error
        if method.__name__ == "read":
            if not isinstance(value, int):
                raise DeviceError(f"{path}: {kind.__name__}.read gave {value!r}, which is no number")
            value &= (1 << 8 * arguments[2]) - 1
        return value

    return careful


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


def _line(error: BaseException, path: str) -> int | None:
    """The line of the user's file that raised it, or None."""
    frames = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path
    ]
    return frames[-1] if frames else None
