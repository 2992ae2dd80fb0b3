"""The peer Bochs, an interpreter of x86.

A configuration file (bochsrc(5)) describes its machine. It has no exit port: a portable guest ends with
HLT while interrupts are off, which Bochs writes to its log. Debian's Bochs is built with the debugger;
stopped by SIGINT, it writes the screen's memory to a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from cores.pc.stop import Stop

from ..errors import UnavailableError
from .base import FIRMWARE, POLL, SCREEN_SIZE, Guest, Outcome, ask, read, read_screen, runs, started
from .bochs_input import GUEST_BEGINS, Typist
from .pace import Pace

PROGRAM = "bochs"
VNC = "rfb"
DISPLAYS = ("nogui", "sdl2", "sdl", VNC)
"""Display libraries that need no window, best first. SDL has a driver that draws nothing
(``NO_WINDOW``); rfb listens for a viewer (VNC) at a network port, and is isolated from the network
where the host allows it. Only rfb accepts typed keys."""
NO_WINDOW = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}

FIRMWARES = (
    # Bochs' own, and SeaBIOS, whose VGA BIOS needs the display adapter on the PCI bus.
    ("/usr/share/bochs/BIOS-bochs-latest", "/usr/share/vgabios/vgabios.bin", ""),
    ("/usr/share/bochs/BIOS-bochs-latest", "/usr/share/bochs/VGABIOS-lgpl-latest", ""),
    ("/usr/share/bochs/BIOS-bochs-latest", "/usr/share/seabios/vgabios-stdvga.bin", ", slot1=pcivga"),
    ("/usr/share/seabios/bios.bin", "/usr/share/seabios/vgabios-stdvga.bin", ", slot1=pcivga"),
)

CONFIGURATION = """\
display_library: {display}
romimage: file={bios}
vgaromimage: file={vgabios}
pci: enabled=1, chipset=i440fx{slots}
memory: guest={ram}, host={ram}
cpu: model=bx_generic, ips=1000000, reset_on_triple_fault=0
cpuid: level=6, family=6, model=26, stepping=5, vendor_string="RingscopeCPU", apic=xapic, sep=1
cpuid: mmx=1, simd=sse4_2, sse4a=0, misaligned_sse=0, aes=0, sha=0, movbe=0, adx=0, xsave=0
cpuid: xsaveopt=0, x86_64=1, 1g_pages=1, pcid=0, fsgsbase=0, smep=1, smap=1, mwait=0
clock: sync=none, time0=946684800
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path="{image}", cylinders={cylinders}, heads=16, spt=63
sound: waveoutdrv=dummy
speaker: enabled=0
port_e9_hack: enabled=1
com1: enabled=1, mode={line}
{card}log: {log}
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""
"""One instruction takes one tick of 1 MHz, as in exact mode; the clock starts on 2000-01-01."""

CARD = """\
ne2k: ioaddr=0x300, irq=10, mac=52:54:00:12:34:56, ethmod=vnet, ethdev="{folder}"
"""
"""A network of Bochs' own, with the router 192.168.10.1; the folder is that of its TFTP server."""
NO_CARD = (
    "SeaBIOS gives IRQ 10, on which the network card is, to the PCI bus, and Bochs then stops; with "
    "Bochs' own BIOS the card works (Debian: bochsbios)"
)
_HALTED = b"HLT instruction with IF=0"
_TRIPLE_FAULT = b"exception with no resolution"
_STARTED = re.compile(rb"={72}\n(Next at t=0\n[^\n]*\n)?(?!.*={72}\n)", re.DOTALL)
_STOPPED = re.compile(rb"Next at t=\d+\n\(0\) \[0x|\(0\)\.\[\d+\] \[0x")
MIB = 1 << 20
LEAST_RAM = 4 * MIB


class Bochs:
    """The peer "bochs"."""

    name = "bochs"

    def find(self) -> str:
        if shutil.which(PROGRAM) is None:
            raise UnavailableError("bochs is not installed (Debian: bochs, and bochs-sdl)")
        version = re.search(r"Bochs x86 Emulator ([\d.]+)", _help())
        if version is None:
            raise UnavailableError("bochs does not start")
        if _firmware() is None:
            raise UnavailableError("bochs has no BIOS here (Debian: bochsbios and vgabios, or seabios)")
        if _display(typing=False) is None:
            raise UnavailableError("bochs can only run in a window here (Debian: install bochs-sdl)")
        return f"Bochs {version[1]}"

    def run(self, guest: Guest) -> Outcome:
        firmware = _firmware()
        if guest.network and firmware is not None and "seabios" in firmware[0]:
            return Outcome(Stop.ERROR, reason=NO_CARD)
        typist = Typist(guest.input) if guest.input else None
        try:
            return self._run(guest, typist)
        finally:
            if typist is not None:
                typist.close()

    def _run(self, guest: Guest, typist: Typist | None) -> Outcome:
        began = monotonic()
        config, log, errors = guest.file("bochsrc"), guest.file("bochs.log"), guest.file("errors")
        display = _display(typist is not None)
        config.write_text(_configuration(guest, display, typist, log))
        guest.file("start").write_text("c\n")
        command = [*(_isolation() if display == VNC and typist is None else ()), PROGRAM]
        command += ["-q", "-f", str(config)]
        if _has_debugger():
            command += ["-rc", str(guest.file("start"))]
        output = guest.file("output")
        with (
            output.open("wb") as stdout,
            errors.open("wb") as stderr,
            started(command, stdout=stdout, stderr=stderr, env=os.environ | NO_WINDOW) as process,
        ):
            _use_one_cpu(process.pid)
            stop = _wait(process, log, typist, guest.seconds)
            seconds = monotonic() - began
            if stop is Stop.ERROR:
                said = re.findall(r">>PANIC<< (.*)", read(errors).decode("utf-8", "replace"))
                return Outcome(
                    stop, reason=said[-1] if said else "Bochs has ended before the guest has"
                )
            if _has_debugger() and stop is not Stop.SHUTDOWN:
                _save_screen(process, guest.file("screen"))
        if typist is not None:
            typist.listen()
        serial = read(guest.file("serial")) if typist is None else typist.sent
        screen, notes = read_screen(guest.file("screen"))
        if typist is not None and display != VNC:
            notes += ("its keyboard cannot be reached: this Bochs has no VNC display (rfb)",)
        elif display == VNC and (typist is not None or not _isolation()):
            notes += ("while it ran, its display stood open at a network port (VNC)",)
        return Outcome(
            stop=stop, console=_console(read(output)) + serial, screen=screen, notes=notes,
            seconds=seconds,
        )  # fmt: skip


def _use_one_cpu(pid: int) -> None:
    """Run a process that has just been started on one CPU only. The threads of Bochs' display and of
    its guest hand over keys by a plain variable as a lock, and lose one at times when they run at once:
    2 of 36 runs with 90 key events."""
    if sys.platform == "linux":
        cpus = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):  # it has ended already
            os.sched_setaffinity(pid, {cpus[pid % len(cpus)]})


@cache
def _help() -> str:
    return ask([PROGRAM, "--help"])


def _has_debugger() -> bool:
    return "-rc " in _help()


@cache
def _firmware() -> tuple[str, str, str] | None:
    for bios, vgabios, slots in FIRMWARES:
        if os.path.exists(bios) and os.path.exists(vgabios):
            return bios, vgabios, slots
    return None


@cache
def _has_display(library: str) -> bool:
    """Is a display library installed? Without a BIOS, Bochs ends soon after loading it."""
    said = ask([PROGRAM, "-q", "-n", f"display_library: {library}", "romimage: file=/nonexistent"])
    return bool(said) and "not available" not in said


def can_type() -> bool:
    """Can keys be sent to this Bochs?"""
    return _has_display(VNC)


def _display(typing: bool) -> str | None:
    """The display library to use, if any."""
    wanted = sorted(DISPLAYS, key=lambda library: library != VNC) if typing else DISPLAYS
    return next(filter(_has_display, wanted), None)


@cache
def _isolation() -> tuple[str, ...]:
    """The command prefix that gives Bochs a network namespace of its own (unshare(1)), since it opens a
    port; () where this host does not allow it."""
    command = ("unshare", "--map-root-user", "--net")
    return command if runs([*command, "true"]) else ()


def _configuration(guest: Guest, display: str | None, typist: Typist | None, log: Path) -> str:
    firmware = _firmware()
    assert firmware is not None
    assert display is not None
    bios, vgabios, slots = firmware
    options = ', options="timeout=0"' if display == VNC else ""
    line = f"term, dev={typist.line}" if typist is not None else f"file, dev={guest.file('serial')}"
    return CONFIGURATION.format(
        display=display + options, bios=bios, vgabios=vgabios, slots=slots,
        ram=max(guest.ram, LEAST_RAM) // MIB, image=guest.image, cylinders=guest.cylinders,
        line=line, log=log, card=CARD.format(folder=guest.image.parent) if guest.network else "",
    )  # fmt: skip


def _wait(process: subprocess.Popen[bytes], log: Path, typist: Typist | None, seconds: float) -> Stop:
    """Wait until the log shows the guest's end, or its time is over; its input is typed meanwhile."""
    pace = Pace(process.pid)
    deadline, begun = monotonic() + FIRMWARE, False
    while True:
        alive = process.poll() is None
        written = read(log)
        if GUEST_BEGINS in written and not begun:
            deadline, begun = monotonic() + seconds, True
        if _TRIPLE_FAULT in written:
            return Stop.SHUTDOWN
        if _HALTED in written:
            return Stop.HALTED
        if not alive:
            return Stop.ERROR
        if monotonic() > deadline:
            return Stop.BUDGET
        if typist is not None:
            typist.listen()
            if pace.due():
                typist.type(written)
        sleep(POLL)


def _save_screen(process: subprocess.Popen[bytes], file: Path) -> None:
    """Stop the guest, write the memory at 0xB8000 to ``file``, and quit. The debugger translates
    addresses as the guest does; where it has unmapped them there is no screen to see."""
    assert process.stdin is not None
    commands = f'writemem "{file}" 0xb8000 {SCREEN_SIZE}\nquit\n'
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGINT)
        process.stdin.write(commands.encode())
        process.stdin.close()
        process.wait(FIRMWARE)


def _console(output: bytes) -> bytes:
    """The bytes written to port 0xE9: Bochs prints them on standard output, between the first and the
    last messages of its debugger."""
    start = _STARTED.search(output)
    text = output[start.end() :] if start else b""
    end = _STOPPED.search(text)
    return text[: end.start()] if end else text
