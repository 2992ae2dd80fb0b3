"""The cores against QEMU and Bochs, which were developed independently."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_guests import CASES

from assets.disks.build import IMAGE
from cores import peers
from cores.errors import UnavailableError
from cores.lockstep.options import Options
from cores.machine.report import CoreReport
from cores.pc.network.spec import NetSpec
from cores.pc.stop import Stop
from cores.peers import PEERS, base, bochs, bochs_input, differences, pace
from cores.peers.base import UNREAD
from cores.programs.loader import assemble_program, load_program
from cores.programs.program import Program
from cores.programs.shipped import ASSETS
from cores.runs.compare import compare
from tests.sampling import sampled

SECONDS = 300.0
"""Met only by a guest that never ends: a busy computer takes its time."""
BESIDE_PORTS = {
    "driver.s": "it reads by the paravirtual disk, which no PC has",
    "vping.s": "its card is a virtio device in memory, which QEMU's PC and Bochs do not have",
    "dma.s": "its disk is such a device, too",
    "www.s": "the page is Ringscope's network's; test_peer_networks.py gives QEMU one",
    "chat.s": "it talks to another machine; so it does in test_peer_networks.py",
}
"""Guests that are not portable, and why."""

SCREEN = """
        mov     edi, 0xb8000 + 160
        lea     rsi, [rip + text]
next:   lodsb
        mov     ah, 0x1f
        stosw
        cmp     al, '!'
        jne     next
        mov     dx, 0x604
        mov     ax, 0x2000
        out     dx, ax
        cli
        hlt
text:   .ascii  "On the screen!"
"""
KEYBOARD = """
next:   in      al, 0x64
        test    al, 1
        jz      next
        in      al, 0x60
        out     0xe9, al
        cmp     al, 0x9c                # Enter comes up
        jne     next
        mov     al, 200
        out     0xf4, al
        cli
        hlt
"""
REDRAWN = """
        lea     rax, [rip + on_tick]
        mov     edi, 0x20 * 16
        call    set_gate
        lea     rax, [rip + on_key]
        mov     edi, 0x21 * 16
        call    set_gate
        lidt    [rip + idt_register]
        lea     rsi, [rip + pic]
        mov     ecx, 8
next:   lodsw
        movzx   edx, al
        mov     al, ah
        out     dx, al
        loop    next
idle:   sti
        hlt
        jmp     idle
set_gate:
        lea     rdx, [rip + idt]
        add     rdi, rdx
        mov     edx, 0x8e000010
        mov     [rdi], ax
        mov     [rdi + 2], dx
        shr     rax, 16
        shr     edx, 16
        mov     [rdi + 4], dx
        mov     [rdi + 6], rax
        ret
on_tick:
        inc     ebx                     # one more picture: all cells change
        mov     edi, 0xb8000
        mov     ecx, 2000
        mov     ah, 7
        mov     al, bl
        rep     stosw
        mov     al, 0x20
        out     0x20, al
        iretq
on_key: in      al, 0x60
        out     0xe9, al
        mov     dl, al
        mov     al, 0x20
        out     0x20, al
        cmp     dl, 0x9c                # Enter comes up
        je      end
        iretq
end:    mov     al, 200
        out     0xf4, al
        cli
        hlt
pic:    .byte   0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
        .balign 8
idt_register:
        .word   0xfff
        .quad   idt
        .balign 16
idt:    .fill   0x22 * 16
"""
"""Draws the whole screen at each tick. While it waits, Bochs lets its time fly, and sends the viewer
that types some 0.2 MB of pictures at each key."""
SERIAL = """
        mov     dx, 0x3fd
next:   in      al, dx
        test    al, 1
        jz      next
        mov     dl, 0xf8
        in      al, dx
        out     dx, al
        mov     dl, 0xfd
        cmp     al, 13
        jne     next
        out     0xf4, al
        cli
        hlt
"""


def run(
    program: Program, peer: str, disk: bool = False, input: bytes = b"", nets: tuple[NetSpec, ...] = ()
) -> tuple[CoreReport, ...]:
    """The interpreter's report and the peer's; skips where the peer is not installed."""
    try:
        PEERS[peer]().find()
    except UnavailableError as error:
        pytest.skip(f"{peer}: {error}")
    options = Options(
        cores=("interpreter",), free=True, budget=SECONDS, disks=(str(IMAGE),) if disk else (),
        input=input, peers=(peer,), nets=nets,
    )  # fmt: skip
    report = compare(program, options)
    return report.cores[0], report.peers[0]


def source(text: str) -> Program:
    return assemble_program(text.encode(), "guest.s")


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("guest", sampled((guest for guest in CASES if guest not in BESIDE_PORTS), 3))
def test_guest(guest: str, peer: str) -> None:
    """A portable guest has the same console, screen and (where known) end on the peer."""
    case = CASES[guest]
    program, options = load_program(str(ASSETS / "guests" / guest)), case.options
    ours, theirs = run(program, peer, case.disk, case.input, options.nets)
    if theirs.reason and "IRQ 10" in theirs.reason:
        pytest.skip(f"{peer}: {theirs.reason}")
    assert differences(ours, theirs) == {}
    assert (theirs.console, theirs.screen) == (case.console, ours.screen)
    if peer == "qemu":
        assert (theirs.stop, theirs.exit_status) == (case.stop, case.status)
    else:
        assert (theirs.stop, theirs.exit_status) == (Stop.HALTED, None)


@pytest.mark.parametrize("peer", PEERS)
def test_boot_state(peer: str) -> None:
    """The boot disk leaves registers, MSRs, tables, RAM, x87, SSE, PICs and PIT in the platform's boot
    state."""
    program = load_program(str(Path(__file__).with_name("boot_state.s")))
    ours, theirs = run(program, peer)
    assert len(ours.console.splitlines()) == 63
    assert theirs.console.splitlines() == ours.console.splitlines()


@pytest.mark.parametrize("peer", PEERS)
def test_screen(peer: str) -> None:
    """The peer's screen is read after its end, and QEMU's power-off is recognized."""
    ours, theirs = run(source(SCREEN), peer)
    assert theirs.screen == ours.screen == "\nOn the screen!"
    assert theirs.stop is (Stop.POWEROFF if peer == "qemu" else Stop.HALTED)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    ("guest", "keys"), [(KEYBOARD, b"Ab!"), (REDRAWN, b"Ab!" * 20), (SERIAL, b"Ab!")],
    ids=["keyboard", "redrawn", "serial"],
)  # fmt: skip
def test_input(guest: str, keys: bytes, peer: str) -> None:
    """Typed text arrives on the peer by the keyboard and by the serial line, as it does here."""
    if peer == "bochs" and guest is not SERIAL and not bochs.can_type():
        pytest.skip("bochs: no VNC display to type through")
    ours, theirs = run(source(guest), peer, input=keys + b"\r")
    assert theirs.console == ours.console != ""
    if peer == "qemu":
        assert theirs.exit_status == ours.exit_status


def test_typed_while_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is lost while a busy computer does not let Bochs run: it stands for 40 polls after its
    guest has begun, and the keyboard's queue has 16 places."""
    if not bochs.can_type():
        pytest.skip("bochs: no VNC display to type through")
    pids, polls = [], []

    class Watched(pace.Pace):
        def __init__(self, pid: int) -> None:
            super().__init__(pid)
            pids.append(pid)

    def type(typist: bochs_input.Typist, log: bytes) -> None:
        if bochs_input.GUEST_BEGINS in log and not polls:
            os.kill(pids[0], signal.SIGSTOP)
            polls.append(0)
        press(typist, log)

    def poll(seconds: float) -> None:
        if polls:
            polls.append(0)
        if len(polls) == 40:
            os.kill(pids[0], signal.SIGCONT)
        sleep(seconds)

    press, sleep = bochs_input.Typist.type, bochs.sleep
    monkeypatch.setattr(bochs, "Pace", Watched)
    monkeypatch.setattr(bochs, "sleep", poll)
    monkeypatch.setattr(bochs_input.Typist, "type", type)
    ours, theirs = run(source(KEYBOARD), "bochs", input=b"twenty keys and more\r")
    assert len(polls) > 40
    assert theirs.console == ours.console != ""


@pytest.mark.parametrize("peer", PEERS)
def test_triple_fault(peer: str) -> None:
    """A guest without an IDT is shut down on the peer, too, after the same output."""
    ours, theirs = run(source("mov al, '7'\nout 0xe9, al\nud2"), peer)
    assert (ours.stop, theirs.stop) == (Stop.SHUTDOWN, Stop.SHUTDOWN)
    assert theirs.console == ours.console == "7"


@pytest.mark.parametrize("peer", PEERS)
def test_time_limit(peer: str) -> None:
    """A guest that does not end is stopped, and its output up to then is kept."""
    try:
        PEERS[peer]().find()
    except UnavailableError as error:
        pytest.skip(f"{peer}: {error}")
    program = source("mov al, '7'\nout 0xe9, al\nhere: jmp here")
    report = peers.run(PEERS[peer](), program, ram=16 << 20, disk=None, input=b"", seconds=2)
    assert (report.stop, report.console) == (Stop.BUDGET, "7")


@pytest.mark.parametrize("peer", PEERS)
def test_not_installed(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not installed is reported with the package to install; the comparison goes on."""
    monkeypatch.setenv("PATH", "")
    report = compare(source("cli\nhlt"), Options(cores=("interpreter",), peers=(peer,)))
    assert report.cores[0].stop is Stop.HALTED
    assert not report.peers[0].available
    assert "is not installed (Debian: " in (report.peers[0].reason or "")


def test_differences() -> None:
    """Console, screen and end are compared as far as each is known."""
    ours = CoreReport("interpreter", "", True, None, Stop.EXIT, 3, console="abc", screen="s")
    theirs = replace(ours, core="qemu")
    assert differences(ours, theirs) == {}
    assert differences(ours, replace(theirs, exit_status=4))["ending"] == (
        "it ended with exit 4, interpreter with exit 3"
    )
    assert differences(ours, replace(theirs, console="abd"))["console"] == (
        "its console is not interpreter's: from character 2, 'd' for 'c'"
    )
    assert differences(ours, replace(theirs, console="ab", stop=Stop.BUDGET)) == {}
    assert "screen" in differences(ours, replace(theirs, screen=None))
    assert differences(ours, replace(theirs, screen=None, notes=(UNREAD,))) == {}
    halted = replace(theirs, core="bochs", stop=Stop.HALTED, exit_status=None)
    assert differences(ours, halted) == {}
    assert "ending" in differences(replace(ours, stop=Stop.SHUTDOWN, exit_status=None), halted)


def test_killed() -> None:
    """A peer does not outlive a Ringscope that is killed, as a test is at its time limit."""
    if not base.runs(["setpriv", "--pdeathsig", "KILL", "true"]):
        pytest.skip("this host's setpriv has no --pdeathsig")
    code = (
        "import sys; from cores.peers.base import started\n"
        "with started(['sleep', '1000'], stdout=2, stderr=sys.stderr.buffer) as process:\n"
        "    print(process.pid, flush=True); process.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        peer = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert select.select([peer], [], [], 60)[0] == [peer]
    finally:
        os.close(peer)
