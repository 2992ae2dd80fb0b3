"""Free running on the real CPU, up to a trap, an interruption or a kill."""

from __future__ import annotations

import os
import signal
import threading

from ptrace_lab import CODE, DATA, STACK, Guest

from cores.engines.base import INTERRUPTED, STEPPED, SYSTEM_CALL, USER_SPACE, Failed, Fault
from cores.x86.registers import Flag, Vector


def test_runs_to_the_first_trap(guest: Guest) -> None:
    """A loop of a million rounds runs without an exit, up to its HLT."""
    exit = guest.run("31c0 ffc0 ffc9 75fa f4", rcx=1_000_000)
    assert exit == Fault(Vector.GP, 0)
    assert guest.cpu.gpr[0] == 1_000_000
    assert guest.cpu.rip == CODE + 8
    assert guest.engine.executed is None


def test_a_spinning_guest_is_interrupted(guest: Guest) -> None:
    """interrupt() from another thread ends an endless run each time, wherever it arrives."""
    guest.code("48ffc0 ebfb")
    for _ in range(200):
        caller = threading.Thread(target=guest.engine.interrupt)
        caller.start()
        assert guest.engine.run(guest.cpu) == INTERRUPTED
        caller.join()
    guest.code("f4")
    while guest.engine.run(guest.cpu) == INTERRUPTED:
        pass
    assert guest.cpu.rip == CODE


def test_registers_of_a_run_that_did_not_begin(guest: Guest) -> None:
    """An interruption before the entry leaves nothing behind of the registers prepared for it."""
    guest.run("f4 48ffc3 f4", rbx=1)
    guest.cpu.gpr[3] = 7
    guest.engine.interrupt()
    assert guest.engine.run(guest.cpu) == INTERRUPTED
    guest.cpu.gpr[3], guest.cpu.rip = 1, CODE + 1
    while guest.engine.run(guest.cpu) == INTERRUPTED:
        pass
    assert guest.cpu.gpr[3] == 2


def test_interrupts_are_lost_on_no_step(guest: Guest) -> None:
    """Interrupts during steps lose no instruction, and end the next run."""
    guest.code("48ffc0 ebfb", rax=0)
    caller = threading.Thread(target=lambda: [guest.engine.interrupt() for _ in range(300)])
    caller.start()
    for _ in range(600):
        assert guest.engine.step(guest.cpu) == STEPPED
    caller.join()
    assert guest.cpu.gpr[0] == 300
    guest.engine.interrupt()
    assert guest.engine.run(guest.cpu) == INTERRUPTED


def test_signals_from_outside_do_not_reach_the_guest(guest: Guest) -> None:
    """SIGSEGV, SIGTRAP, SIGSTOP and SIGTERM from outside are not taken for the guest's exceptions."""
    guest.code("48ffc0 ebfb", rax=0)
    pid = int(guest.engine.where().split()[1].rstrip(","))
    for number in (signal.SIGSEGV, signal.SIGTRAP, signal.SIGSTOP, signal.SIGTERM, signal.SIGCHLD):
        os.kill(pid, number)
        for _ in range(2):
            assert guest.engine.step(guest.cpu) == STEPPED
        os.kill(pid, number)
        assert guest.engine.run(guest.cpu) == INTERRUPTED
        guest.cpu.rip = CODE


def test_a_killed_process_is_said_in_words(guest: Guest) -> None:
    """A process killed from outside, spinning or stopped, gives Failed, and no hang."""
    guest.code("ebfe")
    assert guest.engine.step(guest.cpu) == STEPPED
    os.kill(int(guest.engine.where().split()[1].rstrip(",")), signal.SIGKILL)
    words = Failed("the vCPU process was killed (signal 9)")
    assert guest.engine.run(guest.cpu) == words
    assert guest.engine.step(guest.cpu) == words
    other = Guest()
    other.code("ebfe")
    pid = int(other.engine.where().split()[1].rstrip(","))
    killer = threading.Thread(target=os.kill, args=(pid, signal.SIGKILL))
    killer.start()
    assert other.engine.run(other.cpu) == words
    killer.join()
    other.close()


def test_system_calls_at_full_speed(guest: Guest) -> None:
    """SYSCALL and INT 0x80 stop at the instruction with RAX unchanged; SYSCALL has overwritten RCX and
    R11."""
    guest.code("48ffc3 0f05", rax=0x1_0000_0027, rbx=1)
    guest.cpu.rflags = 2 | Flag.CF
    assert guest.engine.run(guest.cpu) == SYSTEM_CALL
    assert (guest.cpu.rip, guest.cpu.gpr[0], guest.cpu.gpr[3]) == (CODE + 3, 0x1_0000_0027, 2)
    assert guest.cpu.gpr[1] == CODE + 5
    guest.code("cd80", rax=39, rcx=5)
    before = guest.cpu.copy()
    assert guest.engine.run(guest.cpu) == SYSTEM_CALL
    assert guest.cpu == before


def test_leaving_64_bit_mode_ends_the_machine(guest: Guest) -> None:
    """A far return to the host's 32-bit selector ends the machine at the next stop."""
    guest.ram.view[STACK : STACK + 16] = CODE.to_bytes(8, "little") + (0x23).to_bytes(8, "little")
    exit = guest.run("48cb f4", rsp=STACK)
    assert isinstance(exit, Failed)
    assert "64-bit mode" in exit.reason
    assert guest.run("90") == exit


def test_spaces_alternate_at_full_speed(guest: Guest) -> None:
    """SSE state follows the guest between its two processes."""
    guest.map_all(USER_SPACE)
    guest.cpu.gpr[7] = DATA
    for n in range(20):
        guest.engine.space = n & 1
        # paddq xmm0, xmm1 with xmm1 = 1 in its low half; movq [rdi], xmm0
        code = "660fd4c1 660fd607 f4" if n else "0f57c0 b801000000 66480f6ec8 660fd4c1 660fd607 f4"
        assert isinstance(guest.run(code), Fault)
        assert int.from_bytes(guest.ram.view[DATA : DATA + 8], "little") == n + 1
