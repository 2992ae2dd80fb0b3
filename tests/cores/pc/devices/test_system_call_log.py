"""The guest kernel's log: what it reports becomes notes."""

from __future__ import annotations

from cores.pc.devices.system_call_log import MISSING_CALL, SIGNAL, SystemCallLog


def test_reports_become_notes() -> None:
    """Each missing call is named once, and the signal that ended the program."""
    log = SystemCallLog()
    assert log.notes() == []
    for number in (41, 500, 41):
        log.write(MISSING_CALL, 4, number)
    log.write(SIGNAL, 4, 11)
    assert log.notes() == [
        "the guest kernel does not have the system call socket (41): it returned ENOSYS",
        "the guest kernel does not have system call 500: it returned ENOSYS",
        "the program was ended by signal 11 (SIGSEGV)",
    ]
    assert log.is_lawful()


def test_threads_are_named() -> None:
    """A program that wants a thread, as Go's do, is told what it asked for."""
    log = SystemCallLog()
    log.write(MISSING_CALL, 4, 56)
    assert log.notes() == [
        "the guest kernel runs one thread, and the program asked for another thread or process by the"
        " system call clone (56): it returned ENOSYS"
    ]


def test_it_keeps_few() -> None:
    """A program that tries every number does not fill the notes."""
    log = SystemCallLog()
    for number in range(1000):
        log.write(MISSING_CALL, 4, number)
    assert len(log.notes()) == 16
