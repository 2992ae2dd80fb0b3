"""The port bus: dispatches IN and OUT to devices; ports without a device read all ones.

Intel SDM vol. 1, 19.3: 64 Ki ports of a byte; an access of 2 or 4 bytes is to that many consecutive
ports. Like the ISA bus, this one splits an access into halves if the device does not accept its width.
"""

from __future__ import annotations

from itertools import groupby

from cores.pc.devices.base import Device
from cores.plural import counted

MOST_NOTES = 16


class PortBus:
    """Maps port numbers to devices.

    whole: port << 3 | size -> the device that takes that access in one. owners: port -> the device that
    answers it. strangers: accessed ports that have no device.
    """

    def __init__(self) -> None:
        self.whole: dict[int, Device] = {}
        self.owners: dict[int, Device] = {}
        self.strangers: set[int] = set()

    def attach(self, device: Device) -> None:
        for port in device.ports:
            self.owners[port] = device
            for size in device.widths(port):
                self.whole[port << 3 | size] = device

    def read(self, port: int, size: int) -> int:
        """IN of 1, 2 or 4 bytes; all ones if no device answers."""
        device = self.whole.get(port << 3 | size)
        if device is not None:
            return device.read(port, size)
        if size == 1 or self._unclaimed(port, size):
            self._note(port)
            return (1 << 8 * size) - 1
        half = size >> 1
        low = self.read(port, half)
        return self.read(port + half & 0xFFFF, half) << 8 * half | low

    def write(self, port: int, size: int, value: int) -> None:
        """OUT of 1, 2 or 4 bytes; ignored if no device answers."""
        device = self.whole.get(port << 3 | size)
        if device is not None:
            device.write(port, size, value)
        elif size == 1 or self._unclaimed(port, size):
            self._note(port)
        else:
            half = size >> 1
            self.write(port, half, value & (1 << 8 * half) - 1)
            self.write(port + half & 0xFFFF, half, value >> 8 * half)

    def read_string(self, port: int, size: int, count: int) -> bytes:
        device = self.whole.get(port << 3 | size)
        if device is not None:
            return device.read_string(port, size, count)
        return b"".join(self.read(port, size).to_bytes(size, "little") for _ in range(count))

    def write_string(self, port: int, size: int, data: bytes) -> None:
        device = self.whole.get(port << 3 | size)
        if device is not None:
            device.write_string(port, size, data)
            return
        for at in range(0, len(data), size):
            self.write(port, size, int.from_bytes(data[at : at + size], "little"))

    def notes(self) -> list[str]:
        """A sentence for each run of ports without a device, the first few of them."""
        runs = []
        numbered = enumerate(sorted(self.strangers))
        for _, run in groupby(numbered, key=lambda pair: pair[1] - pair[0]):
            ports = [port for _, port in run]
            if len(ports) == 1:
                which = f"port {ports[0]:#x} has"
            else:
                which = f"ports {ports[0]:#x} to {ports[-1]:#x} have"
            runs.append(f"{which} no device: reads give all ones, writes are lost")
        if len(runs) > MOST_NOTES:
            more = f"and {counted(len(runs) - MOST_NOTES, 'more range')} of ports without a device"
            runs = [*runs[:MOST_NOTES], more]
        return runs

    def _unclaimed(self, port: int, size: int) -> bool:
        return not any(port + i & 0xFFFF in self.owners for i in range(size))

    def _note(self, port: int) -> None:
        # A port whose device rejects only the width is not without a device.
        if port not in self.owners:
            self.strangers.add(port)
