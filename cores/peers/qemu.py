"""The peer QEMU, without acceleration: its translator (TCG) is an independent implementation of x86.

Its monitor protocol (QMP, docs/interop/qmp-spec) reports the guest's state, types on the keyboard and
reads the screen. A second debug console at 0xF4 receives the exit status: isa-debug-exit, the usual
device there, ends QEMU within the `out`, before its screen could be read, and passes 7 bits of the
status instead of 8.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
from contextlib import closing
from time import monotonic, sleep

from cores.pc.devices.scancodes import encode, stroke
from cores.pc.stop import Stop

from ..errors import EngineError, UnavailableError
from .base import FIRMWARE, POLL, SCREEN_SIZE, Guest, Outcome, ask, read, read_screen, started
from .pace import Pace

PROGRAM = "qemu-system-x86_64"

FEATURES = (
    "fpu", "tsc", "msr", "pae", "cx8", "apic", "pge", "cmov", "pse", "de", "mmx", "fxsr", "sse", "sse2",
    "pni", "ssse3", "sse4.1", "sse4.2", "popcnt", "cx16", "hypervisor",
    "syscall", "nx", "lm", "pdpe1gb", "lahf-lm", "rdtscp", "smep", "smap",
)  # fmt: skip
"""The features of the platform's CPU, including those that it does not report (DE, SMEP, SMAP), and the
APIC, without which QEMU's CPU has no CR8."""
CPU = (
    "base,vendor=RingscopeCPU,family=6,model=26,stepping=5,level=1,xlevel=0x80000001,"
    + ",".join(f"{feature}=on" for feature in FEATURES)
)  # fmt: skip

NETWORK = (
    "-netdev", "user,id=net,restrict=on",
    "-device", "ne2k_isa,iobase=0x300,irq=10,netdev=net,mac=52:54:00:12:34:56",
)  # fmt: skip
"""A network that leads nowhere but to QEMU's own router, 10.0.2.2."""
MIB = 1 << 20
LEAST_RAM = 4 * MIB
"""The least RAM with which SeaBIOS starts. A guest with 2 MiB gets 4; its memory map lists 2."""

_REGISTER = re.compile(r"\b(EFER|EFL|RFL|HLT|CR3)\s*=\s*([0-9a-f]+)")
_IF, _LMA = 0x200, 0x400
_KEYS_PER_POLL = 2
"""Key events sent at each poll: the controller's queue has 16 places."""
_FIRST_POLL = 10
"""Polls (by ``Pace``) before the first key: a byte that arrives before the guest has set up its
devices may be lost."""


class Qemu:
    """The peer "qemu"."""

    name = "qemu"

    def find(self) -> str:
        if shutil.which(PROGRAM) is None:
            raise UnavailableError(f"{PROGRAM} is not installed (Debian: qemu-system-x86)")
        version = re.search(r"version ([\d.]+)", ask([PROGRAM, "--version"]))
        if version is None:
            raise UnavailableError(f"{PROGRAM} does not start")
        return f"QEMU {version[1]}"

    def run(self, guest: Guest) -> Outcome:
        began = monotonic()
        errors = guest.file("errors")
        with (
            errors.open("wb") as stderr,
            closing(Typist(guest)) as typist,
            started(_command(guest), stdout=subprocess.PIPE, stderr=stderr) as process,
        ):
            monitor = _Monitor(process, guest.seconds + 2 * FIRMWARE)
            try:
                with monitor:
                    stop = _wait(monitor, guest, typist, Pace(process.pid))
                    monitor.ask("stop")
                    seconds = monotonic() - began
                    where = str(guest.file("screen"))
                    monitor.ask("pmemsave", val=0xB8000, size=SCREEN_SIZE, filename=where)
                    monitor.ask("quit")
            except EngineError as error:
                said = read(errors).decode("utf-8", "replace").strip().splitlines()
                return Outcome(Stop.ERROR, reason=said[-1] if said else str(error))
        status = read(guest.file("exit"))
        screen, notes = read_screen(guest.file("screen"))
        return Outcome(
            stop=stop, exit_status=status[0] if stop is Stop.EXIT else None,
            console=read(guest.file("console")) + read(guest.file("serial")),
            screen=screen, notes=notes, seconds=seconds,
        )  # fmt: skip


def _command(guest: Guest) -> list[str]:
    ram = max(guest.ram, LEAST_RAM) // MIB
    card = NETWORK if guest.network else ()
    line, serial = guest.file("line"), guest.file("serial")
    return [
        PROGRAM, "-no-user-config", "-nodefaults", "-machine", "pc", "-accel", "tcg", "-cpu", CPU,
        "-m", str(ram), "-drive", f"if=ide,format=raw,cache=unsafe,file={guest.image}",
        "-vga", "std", "-display", "none", "-rtc", "base=2000-01-01T00:00:00",
        "-chardev", f"file,id=console,path={guest.file('console')}",
        "-device", "isa-debugcon,iobase=0xe9,chardev=console",
        "-chardev", f"file,id=exit,path={guest.file('exit')}",
        "-device", "isa-debugcon,iobase=0xf4,chardev=exit",
        "-chardev", f"socket,id=serial,path={line},logfile={serial}", "-serial", "chardev:serial",
        "-no-reboot", "-no-shutdown",  # a reset or power-off stops the guest, and QEMU stays
        "-qmp", "stdio", *card,
    ]  # fmt: skip


def _wait(monitor: _Monitor, guest: Guest, typist: Typist, pace: Pace) -> Stop:
    """Wait until the guest has ended or its time is over; its input is typed meanwhile."""
    deadline, begun = monotonic() + FIRMWARE, False
    while True:
        registers = monitor.registers()
        in_guest = bool(registers.get("EFER", 0) & _LMA)
        if in_guest and not begun:
            deadline, begun = monotonic() + guest.seconds, True
        halted, interruptible = registers.get("HLT") == 1, bool(registers.get("RFL", 0) & _IF)
        asleep = in_guest and halted and not interruptible
        if asleep:
            monitor.registers()  # a power-off before this HLT may be reported only now
        if monitor.ending is not None or asleep or read(guest.file("exit")):
            return Stop.EXIT if read(guest.file("exit")) else monitor.ending or Stop.HALTED
        if monotonic() > deadline:
            return Stop.BUDGET
        if in_guest and pace.due(halted=halted):
            typist.poll(monitor)
        sleep(POLL)


class Typist:
    """Types the guest's input on the keyboard, and sends it along the serial line."""

    def __init__(self, guest: Guest) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.bind(str(guest.file("line")))
        self._line.listen()
        self._far_end: socket.socket | None = None
        self._keys = [event for byte in guest.input for event in stroke(byte)]
        self._text = guest.input
        self._polls = 0

    def poll(self, monitor: _Monitor) -> None:
        """Called regularly while the guest runs. The first calls type nothing, while it sets up."""
        self._polls += 1
        if self._polls < _FIRST_POLL:
            return
        for event in self._keys[:_KEYS_PER_POLL]:
            (code,) = encode(event._replace(down=True), 1)
            monitor.press(code, event.down)
        del self._keys[:_KEYS_PER_POLL]
        if self._far_end is None:
            self._far_end, _ = self._line.accept()  # QEMU has connected at its start
            self._far_end.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._text = self._text[self._far_end.send(self._text) :] if self._text else b""
            self._far_end.recv(1 << 16)  # discarded: the log file has it, too

    def close(self) -> None:
        for end in (self._far_end, self._line):
            if end is not None:
                end.close()


class _Monitor:
    """A QMP connection. ending: how the guest has stopped the machine, None while it has not.

    While it is open, a timer kills QEMU after ``limit`` seconds, in case it no longer answers. Raises
    EngineError when QEMU has ended."""

    def __init__(self, process: subprocess.Popen[bytes], limit: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._alarm = threading.Timer(limit, process.kill)
        self.ending: Stop | None = None

    def __enter__(self) -> None:
        self._alarm.start()
        self.ask("qmp_capabilities")

    def __exit__(self, *_: object) -> None:
        self._alarm.cancel()

    def ask(self, command: str, **arguments: object) -> object:
        """Send a command and return its answer. A SHUTDOWN event before the answer sets ``ending``."""
        question = {"execute": command, "arguments": arguments}
        try:
            self._in.write(json.dumps(question).encode() + b"\n")
            self._in.flush()
            for line in self._out:
                message = json.loads(line)
                if message.get("event") == "SHUTDOWN":
                    off = message["data"]["reason"] == "guest-shutdown"
                    self.ending = Stop.POWEROFF if off else Stop.SHUTDOWN
                if "error" in message:
                    raise EngineError(f"QEMU refuses {command}: {message['error']['desc']}")
                if "return" in message:
                    return message["return"]
        except (OSError, ValueError) as error:
            raise EngineError(f"QEMU has ended: {error}") from error
        raise EngineError("QEMU has ended before the guest has")

    def registers(self) -> dict[str, int]:
        """The values of EFER, RFLAGS, CR3 and HLT (1 while the CPU is halted), by name."""
        text = self.ask("human-monitor-command", **{"command-line": "info registers"})
        return {name: int(value, 16) for name, value in _REGISTER.findall(str(text))}

    def press(self, code: int, down: bool) -> None:
        """Press or release a key. code: its make code in set 1."""
        key = {"type": "number", "data": code}
        self.ask("input-send-event", events=[{"type": "key", "data": {"down": down, "key": key}}])
