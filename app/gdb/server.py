"""The server: one GDB at a time, its packets by name, and motion that Ctrl-C can end.

The session has an owner, the one thread that may touch it. ``ringscope gdb`` is that thread itself, and
its ``ask`` calls at once; the interface would pass what is asked to its worker.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from concurrent.futures import CancelledError

from app.gdb import monitor
from app.gdb.packets import LARGEST, Break, Damaged, Item, Lost, Packet, Reader, framed
from app.gdb.target import INTERRUPT, Motion, Stopped, Target, Watchpoint
from cores.errors import InputError, RingscopeError

Ask = Callable[[Callable[[], bytes | None]], bytes | None]
"""Has the owner of the session do something, and gives the answer."""

OK, BAD, REFUSED, UNKNOWN = b"OK", b"E01", b"E0e", b""
"""E0e: EFAULT, nothing is mapped there, or it cannot be written."""

FEATURES = (
    "PacketSize={size:x};QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;vContSupported+"
    ";swbreak+;hwbreak+;ReverseStep+;ReverseContinue+"
)  # fmt: skip
LONGEST_READ = LARGEST // 8
MOST_POINTS = 4096


class Gone(Exception):
    """The other side has closed the connection."""


class Connection:
    """One GDB. over: it has ended the session, or let the guest go."""

    def __init__(self, channel: socket.socket, target: Target, ask: Ask) -> None:
        self._channel, self._target, self._ask = channel, target, ask
        self._reader = Reader()
        self._items: list[Item] = []
        self._acknowledge = True
        self._last = b""
        self._motion: Motion | None = None
        self.over = False

    def serve(self) -> None:
        """Answer until the other side leaves."""
        try:
            while True:
                self._receive(None if self._motion is None else 0.0)
                while self._items:
                    self._take(self._items.pop(0))
                if self._motion is not None and (reply := self._ask(self._go_on)) is not None:
                    self._motion = None
                    self._send(reply)
                    self.over |= reply[:1] == b"W"
        except (Gone, OSError, CancelledError):
            return

    # Bytes

    def _receive(self, patience: float | None) -> None:
        try:
            ready, _, _ = select.select([self._channel], [], [], patience)
        except ValueError:  # the listener has closed it meanwhile
            raise Gone from None
        if ready:
            data = self._channel.recv(LARGEST)
            if not data:
                raise Gone
            self._items += self._reader.feed(data)

    def _send(self, payload: bytes) -> None:
        self._last = framed(payload)
        self._channel.sendall(self._last)

    def _take(self, item: Item) -> None:
        match item:
            case Break():
                if self._motion is not None:
                    self._motion = None
                    self._send(self._ask(self._interrupted) or BAD)
            case Lost():
                if self._acknowledge and self._last:
                    self._channel.sendall(self._last)
            case Damaged():
                if self._acknowledge:
                    self._channel.sendall(b"-")
            case Packet(payload):
                if self._acknowledge:
                    self._channel.sendall(b"+")
                self._obey(payload)

    def _obey(self, payload: bytes) -> None:
        if payload == b"QStartNoAckMode":
            self._send(OK)
            self._acknowledge = False
        elif payload[:1] == b"k" or payload.startswith(b"vKill"):
            self.over = True
            if payload[:1] != b"k":
                self._send(OK)
            raise Gone
        elif payload[:1] == b"D":
            self._send(OK)
            raise Gone
        elif self._motion is None:
            answer = self._ask(lambda: self._answer(payload))
            if answer is not None:
                self._send(answer)

    # What the owner of the session does

    def _go_on(self) -> bytes | None:
        assert self._motion is not None
        try:
            stopped = self._motion()
        except RingscopeError as error:
            stopped = Stopped(words=f"{error}\n")
        if stopped is None:
            return None
        if stopped.words:
            self._send(b"O" + stopped.words.encode().hex().encode())
        return self._reply(stopped)

    def _interrupted(self) -> bytes:
        self._target.session.settle()
        return self._reply(Stopped(signal=INTERRUPT))

    def _reply(self, stopped: Stopped) -> bytes:
        if stopped.over is not None:
            return b"W%02x" % (stopped.over & 0xFF)
        reason = stopped.reason.encode()
        return b"T%02x%bthread:%x;" % (stopped.signal, reason, self._target.moved)

    def _answer(self, payload: bytes) -> bytes | None:
        """The answer to a packet; None: a motion has begun, and will answer."""
        try:
            name = payload[:1].decode("latin-1")
            handler = _BY_LETTER.get(name)
            return UNKNOWN if handler is None else handler(self, payload)
        except InputError:
            return REFUSED
        except (ValueError, IndexError, OverflowError):
            return BAD

    def _begin(self, motion: Motion) -> None:
        self._motion = motion

    # Packets by their first letter

    def _why(self, _: bytes) -> bytes:
        return self._reply(Stopped())

    def _read_all(self, _: bytes) -> bytes:
        return b"".join(self._target.registers()).hex().encode()

    def _write_all(self, payload: bytes) -> bytes:
        data, values, at = bytes.fromhex(payload[1:].decode()), {}, 0
        for number, register in enumerate(self._target.layout.registers):
            if at + register.size <= len(data):
                values[number] = data[at : at + register.size]
            at += register.size
        self._target.write_registers(values)
        return OK

    def _read_one(self, payload: bytes) -> bytes:
        return self._target.registers()[_natural(payload[1:])].hex().encode()

    def _write_one(self, payload: bytes) -> bytes:
        number, _, value = payload[1:].partition(b"=")
        self._target.write_registers({_natural(number): bytes.fromhex(value.decode())})
        return OK

    def _read_memory(self, payload: bytes) -> bytes:
        address, length = _range(payload[1:])
        return self._target.read(address, min(length, LONGEST_READ)).hex().encode()

    def _write_memory(self, payload: bytes) -> bytes:
        place, _, data = payload[1:].partition(b":")
        address, length = _range(place)
        raw = data if payload[:1] == b"X" else bytes.fromhex(data.decode())
        if len(raw) != length:
            return BAD
        self._target.write(address, raw)
        return OK

    def _choose_thread(self, payload: bytes) -> bytes:
        thread = self._thread(payload[2:])
        if thread is None:
            return BAD
        if thread > 0:
            self._target.thread = thread
        return OK

    def _is_alive(self, payload: bytes) -> bytes:
        return BAD if self._thread(payload[1:]) is None else OK

    def _thread(self, text: bytes) -> int | None:
        """A thread's number; 0 or -1: any of them. None: there is no such thread."""
        number = int(text, 16)
        return number if -1 <= number <= len(self._target.session.machines) else None

    def _continue(self, payload: bytes) -> bytes | None:
        address = payload[1:] if payload[:1] in (b"c", b"s") else payload.partition(b";")[2]
        if address:  # GDB sets the register instead
            return BAD
        step = payload[:1] in (b"s", b"S")
        self._begin(self._target.step() if step else self._target.go_on())
        return None

    def _back(self, payload: bytes) -> bytes | None:
        if payload not in (b"bs", b"bc"):
            return UNKNOWN
        self._begin(self._target.step_back() if payload == b"bs" else self._target.go_back())
        return None

    def _insert(self, payload: bytes) -> bytes:
        kind, address, length = _point(payload)
        target = self._target
        if kind > 4:
            return UNKNOWN
        if len(target.breakpoints) + len(target.hardware) + len(target.watchpoints) >= MOST_POINTS:
            return BAD
        if kind == 0:
            target.breakpoints.add(address)
        elif kind == 1:
            target.hardware.add(address)
        elif not 0 < length <= 4096:
            return BAD
        else:
            target.watchpoints.append(Watchpoint(kind, address, length))
        return OK

    def _remove(self, payload: bytes) -> bytes:
        kind, address, length = _point(payload)
        target = self._target
        if kind > 4:
            return UNKNOWN
        target.watchpoints = [
            w for w in target.watchpoints if (w.kind, w.address, w.length) != (kind, address, length)
        ]
        if kind == 0:
            target.breakpoints.discard(address)
        elif kind == 1:
            target.hardware.discard(address)
        return OK

    def _verbose(self, payload: bytes) -> bytes | None:
        if payload == b"vCont?":
            return b"vCont;c;C;s;S"
        if not payload.startswith(b"vCont;"):
            return UNKNOWN
        actions = payload.split(b";")[1:]
        if any(action[:1] not in (b"c", b"C", b"s", b"S") for action in actions):
            return BAD
        for action in actions:  # all cores move together, whichever thread is meant
            _, _, thread = action.partition(b":")
            number = self._thread(thread) if thread else 0
            if number is None:
                return BAD
            if number > 0 and action[:1] in (b"s", b"S"):
                self._target.moved = number
        step = any(action[:1] in (b"s", b"S") for action in actions)
        self._begin(self._target.step() if step else self._target.go_on())
        return None

    def _query(self, payload: bytes) -> bytes:
        name, _, rest = payload.partition(b":")
        if name == b"qSupported":
            return FEATURES.format(size=LARGEST // 4).encode()
        if name == b"qAttached":
            return b"1"
        if name == b"qC":
            return b"QC%x" % self._target.moved
        if name == b"qfThreadInfo":
            return b"m" + b",".join(b"%x" % n for n in self._threads)
        if name == b"qsThreadInfo":
            return b"l"
        if payload.startswith(b"qThreadExtraInfo,"):
            thread = self._thread(payload.partition(b",")[2])
            if thread is None or thread < 1:
                return BAD
            return self._target.name(thread).encode().hex().encode()
        if payload.startswith(b"qRcmd,"):
            line = bytes.fromhex(payload[6:].decode()).decode("utf-8", "replace")
            return monitor.answer(self._target, line).encode().hex().encode() or OK
        if name == b"qSymbol":
            return OK
        if payload.startswith(b"qXfer:features:read:target.xml:"):
            return _part(self._target.layout.xml.encode(), rest.rpartition(b":")[2])
        if payload.startswith(b"qXfer:threads:read::"):
            return _part(self._thread_list(), rest.rpartition(b":")[2])
        return UNKNOWN

    @property
    def _threads(self) -> range:
        return range(1, len(self._target.session.machines) + 1)

    def _thread_list(self) -> bytes:
        lines = [
            f'<thread id="{n:x}" core="{n - 1}" name="{self._target.name(n)}"></thread>'
            for n in self._threads
        ]
        return f'<?xml version="1.0"?>\n<threads>\n{chr(10).join(lines)}\n</threads>\n'.encode()


_BY_LETTER: dict[str, Callable[[Connection, bytes], bytes | None]] = {
    "?": Connection._why, "g": Connection._read_all, "G": Connection._write_all,
    "p": Connection._read_one, "P": Connection._write_one, "m": Connection._read_memory,
    "M": Connection._write_memory, "X": Connection._write_memory, "H": Connection._choose_thread,
    "T": Connection._is_alive, "c": Connection._continue, "C": Connection._continue,
    "s": Connection._continue, "S": Connection._continue, "b": Connection._back,
    "Z": Connection._insert, "z": Connection._remove, "v": Connection._verbose,
    "q": Connection._query,
}  # fmt: skip


def _natural(text: bytes) -> int:
    """A hexadecimal number without a sign, of at most 64 bits. Raises ValueError."""
    value = int(text, 16)
    if not 0 <= value < 1 << 64:
        raise ValueError(text)
    return value


def _range(text: bytes) -> tuple[int, int]:
    """ "address,length" """
    address, length = text.split(b",")
    return _natural(address), _natural(length)


def _point(payload: bytes) -> tuple[int, int, int]:
    """ "Zkind,address,length;conditions": conditions are GDB's to check."""
    kind, address, length = payload[1:].partition(b";")[0].split(b",")
    return _natural(kind), _natural(address), _natural(length)


def _part(whole: bytes, window: bytes) -> bytes:
    """A part of an object that is read in pieces: "m" and more will come, "l" and this was the last."""
    offset, length = _range(window)
    part = whole[offset : offset + min(length, LARGEST // 8)]
    return (b"l" if offset + len(part) >= len(whole) else b"m") + part
