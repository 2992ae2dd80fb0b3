"""GDB's packets answered by real machines: state, breakpoints, both directions, hostile bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machine_lab import needs_assembler, program, require

from app.gdb.registers import LEGACY, LONG
from cores.programs.loader import load_program
from tests.app.gdb.gdb_lab import Client, connected

pytestmark = needs_assembler

SOURCE = """
    mov ecx, 3
again:
    add dword ptr [0x50000], ecx
    mov eax, [0x50000]
    dec ecx
    jnz again
    mov al, 65
    out 0xe9, al
    mov al, 7
    out 0xf4, al
"""
AGAIN = 0x100005
RAX, RCX, RIP, EFLAGS = 0, 2, 16, 17
LETTERS = (b"m", b"M", b"X", b"P", b"p", b"H", b"Z", b"z", b"vCont;", b"q", b"G")
TRAP, AT_BREAKPOINT = "T05thread:1;", "T05swbreak:;thread:1;"


@pytest.fixture
def gdb() -> Iterator[Client]:
    """A client of the interpreter and the portable trap core, whose guest is ``SOURCE``."""
    require("interpreter")
    with connected(program(SOURCE), ("interpreter", "trap:portable")) as client:
        yield client


def test_the_state(gdb: Client) -> None:
    """Registers by number and all at once, memory by linear address, and what GDB has to know."""
    assert gdb.ask("?") == TRAP
    assert gdb.register(RIP) == 0x100000
    assert len(gdb.ask("g")) == 2 * sum(register.size for register in LONG.registers)
    assert gdb.ask("m100000,5") == "b903000000"
    assert gdb.ask("mfff0,20") == "E0e", "the first pages are not mapped"
    assert len(gdb.ask("m1ffff0,20")) == 2 * 16, "as far as the page tables go"
    assert gdb.ask("qfThreadInfo") == "m1,2"
    assert bytes.fromhex(gdb.ask("qThreadExtraInfo,2")) == b"trap:portable, 0 exits"
    assert gdb.ask("qUnknown") == ""


def test_the_target_description(gdb: Client) -> None:
    """The description can be read in pieces, and is that of the guest's mode."""
    text, at = "", 0
    while True:
        part = gdb.ask(f"qXfer:features:read:target.xml:{at:x},400")
        text, at = text + part[1:], at + len(part) - 1
        if part[0] == "l":
            break
    assert text == LONG.xml
    assert "i386:x86-64" in text
    assert re.findall(r'<reg name="(\w+)"', LEGACY.xml)[:9] == [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip",
    ]  # fmt: skip


def test_breakpoints_and_steps(gdb: Client) -> None:
    """A breakpoint is met at each pass; a step is one instruction on every core."""
    assert gdb.ask(f"Z0,{AGAIN:x},1") == "OK"
    for left in (3, 2, 1):
        assert gdb.ask("vCont;c") == AT_BREAKPOINT
        assert gdb.register(RCX) == left
    assert gdb.ask("vCont;s:2;c") == "T05thread:2;"
    assert gdb.ask("Hg2") == "OK"
    assert gdb.register(RIP) == AGAIN + 7
    assert gdb.ask(f"z0,{AGAIN:x},1") == "OK"


def test_backwards(gdb: Client) -> None:
    """Back to breakpoints and exits, and at last to the beginning, on every core."""
    gdb.ask("vCont;c")
    assert "exit status 7" in gdb.console
    assert gdb.ask("bc") == TRAP
    assert gdb.register(RAX) == 7
    assert gdb.ask("bc") == TRAP
    gdb.ask(f"Z0,{AGAIN:x},1")
    for left in (1, 2, 3):
        assert gdb.ask("bc") == AT_BREAKPOINT
        assert gdb.register(RCX) == left
    assert gdb.ask("bc") == "T05replaylog:begin;thread:1;"
    assert gdb.ask("bs") == "T05replaylog:begin;thread:1;"
    gdb.ask("vCont;s:1")
    gdb.ask("bs")
    assert gdb.register(RIP) == 0x100000


def test_watchpoints(gdb: Client) -> None:
    """A write is seen where memory has changed, a read where the instruction reads it."""
    assert gdb.ask("Z2,50000,4") == "OK"
    assert gdb.ask("vCont;c") == "T05watch:50000;thread:1;"
    assert gdb.register(RIP) == AGAIN + 7
    assert gdb.ask("z2,50000,4") == "OK"
    assert gdb.ask("Z3,50000,4") == "OK"
    assert gdb.ask("vCont;c") == "T05rwatch:50000;thread:1;"
    assert gdb.register(RIP) == AGAIN + 16


def test_writing(gdb: Client) -> None:
    """Registers and memory of all cores are set; what only the guest may set is refused."""
    assert gdb.ask("P0=4142000000000000") == "OK"
    assert gdb.ask("M50000,2:1122") == "OK"
    assert gdb.ask("m50000,2") == "1122"
    assert gdb.ask(b"X50000,2:#$") == "OK"
    assert gdb.ask("m50000,2") == "2324", "bytes that the framing escapes"
    assert gdb.ask("P12=1000") == "E0e", "a segment register"
    assert gdb.ask("Hg2") == "OK"
    assert gdb.register(RAX) == 0x4241
    assert gdb.monitor("divergence") == "There is no divergence.\n"


def test_one_core_alone(gdb: Client) -> None:
    """A core that is given another value diverges, and all stop there with the reason."""
    gdb.ask("Hg2")
    assert gdb.monitor("alone on") == "alone is on.\n"
    assert gdb.ask("M50000,1:09") == "OK"
    gdb.ask("vCont;c")
    assert "The cores diverge" in gdb.console
    assert "rax" in gdb.monitor("divergence") or "mem:" in gdb.monitor("divergence")


def test_monitor(gdb: Client) -> None:
    """The commands for what GDB has no word for."""
    assert gdb.monitor("why") == "interpreter has not left the guest.\n"
    gdb.ask("vCont;c")
    assert gdb.monitor("exits").splitlines()[1] == "trap:portable: 2 (io 2)"
    gdb.ask("Hg2")
    assert gdb.monitor("why").startswith("out 0xf4, al at ")
    assert gdb.monitor("console") == "A\n"
    assert "trap:portable" in gdb.monitor("where")
    assert gdb.monitor("nonsense").startswith("There is no command 'nonsense'.")


def test_ctrl_c() -> None:
    """A guest that spins is stopped, and can be looked at."""
    with connected(program("here: jmp here"), ("interpreter",)) as gdb:
        gdb.send("vCont;c")
        gdb.raw(b"\x03")
        assert gdb.answer() == "T02thread:1;"
        assert gdb.register(RIP) == 0x100000


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=24),
            st.tuples(
                st.sampled_from(LETTERS),
                st.binary(max_size=16),
            ).map(b"".join),
            st.text("0123456789abcdef,:;=-", max_size=12).map(lambda t: b"q" + t.encode()),
        ),
        min_size=4, max_size=24,
    )
)  # fmt: skip
def test_no_packet_crashes_it(payloads: list[bytes]) -> None:
    """Whatever is sent, the server answers the next sensible question."""
    with connected(program("here: jmp here"), ("interpreter",)) as gdb:
        for payload in payloads:
            if payload[:1] not in (b"k", b"D") and not payload.startswith((b"vKill", b"QStartNoAck")):
                gdb.send(payload)
        gdb.raw(b"\x03")
        gdb.send("qAttached")
        while gdb.answer() != "1":
            pass


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_debians_gdb(tmp_path: Path) -> None:
    """The real debugger breaks, steps, goes back, and shows each core as a thread."""
    source = tmp_path / "guest.s"
    source.write_text(SOURCE)
    server = subprocess.Popen(
        [sys.executable, "-m", "app.main", "gdb", str(source), "--listen", "127.0.0.1:0",
         "--cores", "interpreter,trap:portable"], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        server.stdout.readline()
        place = re.search(r"target remote (\S+)'", server.stdout.readline())
        assert place is not None
        commands = [
            "set pagination off", "set confirm off", f"target remote {place[1]}", "info threads",
            f"break *{AGAIN:#x}", "continue", "continue", "p $ecx", "reverse-continue", "p $ecx",
            "delete", "continue", "monitor exits", "kill",
        ]  # fmt: skip
        words = [word for command in commands for word in ("-ex", command)]
        done = subprocess.run(
            ["gdb", "-nx", "-batch", *words], capture_output=True, text=True, timeout=120, check=False
        )
        output = done.stdout + done.stderr
        assert '"trap:portable, 0 exits"' in output, output
        assert [int(n) for n in re.findall(r"\$\d = (\d)", output)] == [2, 3], output
        assert "exit status 7" in output
        assert "trap:portable: 2 (io 2)" in output
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.stdout.close()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_32_bit_code(tmp_path: Path) -> None:
    """Of a 32-bit kernel GDB sees the i386's registers."""
    source, kernel = tmp_path / "kernel.S", tmp_path / "kernel"
    source.write_text(
        ".long 0x1BADB002, 0, -0x1BADB002\n.globl _start\n_start: mov $0x12345678, %eax\n1: jmp 1b\n"
    )
    command = [
        "gcc",
        "-m32",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,-Ttext=0x200000",
        "-Wl,--build-id=none",
    ]
    done = subprocess.run([*command, str(source), "-o", str(kernel)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("gcc cannot link 32-bit programs here")
    with connected(load_program(str(kernel), 16 << 20), ("interpreter", "trap:portable")) as gdb:
        assert gdb.ask("qXfer:features:read:target.xml:0,4000")[1:] == LEGACY.xml
        gdb.ask("vCont;s:1")
        assert gdb.register(0) == 0x12345678
        assert len(gdb.ask("p0")) == 8
