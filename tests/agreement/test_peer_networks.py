"""Guests that need more of a network than QEMU's own has, against QEMU: a page, and another machine."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from test_guests import CASES

from cores import peers
from cores.errors import UnavailableError
from cores.lockstep.session import start
from cores.machine.report import CoreReport
from cores.pc.network import services
from cores.pc.stop import Stop
from cores.peers import qemu
from cores.programs.loader import load_program
from cores.programs.shipped import ASSETS

SECONDS = 300.0
"""Met only by a guest that never ends: a busy computer takes its time."""
CARD = qemu.NETWORK[2:]


def on_qemu(
    guest: str, network: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, input: bytes = b""
) -> CoreReport:
    """The report of QEMU, whose card is on that network; skips where QEMU is not installed."""
    peer = qemu.Qemu()
    try:
        peer.find()
    except UnavailableError as error:
        pytest.skip(f"qemu: {error}")
    monkeypatch.setattr(qemu, "NETWORK", (*network, *CARD))
    program = load_program(str(ASSETS / "guests" / guest))
    return peers.run(peer, program, ram=16 << 20, disk=None, input=input, seconds=SECONDS, network=True)


def test_www(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`www` has the same page from QEMU's TCP as from ours. QEMU's router is another address there, so
    that a program of the host's can answer at this one's port 80."""
    question = b"GET / HTTP/1.0\r\n\r\n"
    (tmp_path / "page").write_bytes(services.http(question)[0])
    (tmp_path / "answer").write_text(
        f"while read line && [ ${{#line}} -gt 1 ]; do :; done\ncat {tmp_path}/page\n"
    )
    forward = f"guestfwd=tcp:10.0.2.2:80-cmd:sh {tmp_path}/answer"
    network = ("-netdev", f"user,id=net,restrict=on,host=10.0.2.9,{forward}")
    theirs = on_qemu("www.s", network, monkeypatch)
    if theirs.reason and "guestfwd" in theirs.reason:
        pytest.skip(f"qemu: {theirs.reason}")
    case = CASES["www.s"]
    assert (theirs.console, theirs.stop, theirs.exit_status) == (case.console, case.stop, case.status)


def test_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    """`chat` sends the same frames from QEMU's card as from ours, and prints the same."""
    case = CASES["chat.s"]
    program = load_program(str(ASSETS / "guests" / "chat.s"))
    options = replace(case.options, cores=("interpreter",))
    with closing(start(program, "interpreter", options)) as machine:
        while machine.stop is None:
            machine.step()
        ours = [packet.frame for packet in machine.board.networks[0].packets if packet.sent]
        assert machine.console() == case.console
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as cable,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free,
    ):
        for one in (cable, free):
            one.bind(("127.0.0.1", 0))
        cable.settimeout(SECONDS)
        (_, here), (_, there) = cable.getsockname(), free.getsockname()
        free.close()
        came: list[bytes] = []
        hears = threading.Thread(
            target=lambda: came.extend(cable.recv(2048) for _ in ours), daemon=True
        )
        hears.start()
        ends = f"udp=127.0.0.1:{here},localaddr=127.0.0.1:{there}"
        theirs = on_qemu("chat.s", ("-netdev", f"socket,id=net,{ends}"), monkeypatch, case.input)
        assert (theirs.console, theirs.stop, theirs.exit_status) == (case.console, Stop.EXIT, 0)
        hears.join(SECONDS)
    assert came == ours
