"""What must be said above the program: a failure, a breakpoint that was reached, the guests' end."""

from __future__ import annotations

from app.tui.rows.machine_parts import title
from cores.machine.report import MachineSnapshot, SessionSnapshot
from cores.pc.stop import Stop


def stop_words(m: MachineSnapshot) -> str:
    """The end of a machine, or what it sleeps for, in words; "" while it goes on."""
    match m.stop:
        case None:
            return ""
        case Stop.EXIT:
            return f"exited with status {m.exit_status}"
        case Stop.POWEROFF:
            return "powered off"
        case Stop.HALTED:
            return "waits for a key" if m.awaits_key else "halted: nothing will wake it"
        case Stop.SHUTDOWN:
            return f"shut down: {m.reason or 'triple fault'}"
        case Stop.UNTIL:
            return "the text that was waited for has been shown"
        case Stop.BUDGET:
            return "stopped: its budget is spent"
        case Stop.ERROR:
            return "the host could not go on"


def messages(s: SessionSnapshot, failure: str) -> tuple[tuple[str, str], ...]:
    """(sort, words), the most urgent first. sort: "bad", "stop" or "end"."""
    found = [("bad", words) for words in (failure or s.error,) if words]
    if s.reached:
        found.append(("stop", f"Stopped at the breakpoint: {s.reached}"))
    ended = [m for m in s.machines if m.stop not in (None, Stop.ERROR)]
    going = [m for m in s.machines if m.stop is None]
    if all(m.awaits_key for m in ended):  # no end: the first row says what they wait for
        return tuple(found)
    ways = {stop_words(m) for m in ended}
    if len(ways) == 1 and not going:
        who = "The guest" if len(s.machines) > 1 else title(s.machines[0].core).capitalize()
        found.append(("end", f"{who} has ended: {ways.pop()}."))
    else:
        each = [f"{title(m.core)} {stop_words(m)}" for m in ended]
        found.append(("end", "; ".join(each) + "."))
    return tuple(found)
