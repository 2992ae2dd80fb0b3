"""The errors that Ringscope raises on purpose.

    RingscopeError
    |-- InputError          the user's mistake: one line "file:line: reason", exit code 2
    |-- UnavailableError    a core cannot run on this host: one sentence why, exit code 3
    `-- EngineError         the host stopped a running core (process killed, ioctl refused)
        `-- MappingsFullError   no room for one more mapping: drop some, and try again

A guest's own mistakes are none of these: they are exceptions of the *guest's* CPU (cores/x86/faults.py)
and end in the guest's handlers or in a shutdown of its machine.
"""

from __future__ import annotations


class RingscopeError(Exception):
    """Base of the errors whose text is meant for the user."""


class InputError(RingscopeError):
    """Bad input: names the file, the line where there is one, and the reason."""

    def __init__(self, reason: str, path: str | None = None, line: int | None = None) -> None:
        shown = path if path is None or path.strip() == path != "" else repr(path)
        place = ":".join(str(part) for part in (shown, line) if part is not None)
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason = reason
        self.path = path
        self.line = line


class UnavailableError(RingscopeError):
    """A core cannot run here; the text is the reason, and what would help where that is known."""


class EngineError(RingscopeError):
    """The host could not go on with a running core; the machine stops with "error"."""


class MappingsFullError(EngineError):
    """The host has no room for one more mapping of guest memory; the VMM drops all and refills."""
