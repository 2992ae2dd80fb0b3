"""An ATA disk, by PIO: the registers, commands and transfers of one drive of the channel (ata.py).

Source: T13, "AT Attachment with Packet Interface - 5" (ATA/ATAPI-5, 1321D). Commands take no time, so
BSY is set only during a software reset. LBA28 and CHS addresses; no DMA and no LBA48, whose commands
are aborted like unknown ones.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.pc.devices.base import Device
from cores.pc.devices.storage.ata_identity import GEOMETRY, MOST_MULTIPLE, identity
from cores.pc.devices.storage.disk import SECTOR, Disk, DiskError
from cores.plural import counted

DATA, ERROR, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DRIVE, STATUS = range(8)

BUSY, READY, SEEK_DONE, DATA_REQUEST, FAILED = 0x80, 0x40, 0x10, 0x08, 0x01  # status
IDLE = READY | SEEK_DONE
UNCORRECTABLE, ABORTED = 0x40, 0x04  # error
SLAVE, BY_LBA, ALWAYS = 0x10, 0x40, 0xA0  # drive register; two bits read as ones
NO_INTERRUPT, RESET = 0x02, 0x04  # device control

READS = {0x20: False, 0x21: False, 0xC4: True}
WRITES = {0x30: False, 0x31: False, 0xC5: True}
"""Commands that transfer sectors: True if several go in a block (READ and WRITE MULTIPLE)."""

NOTHING_TO_DO = frozenset({0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0xE7, *range(0x10, 0x20), *range(0x70, 0x80)})
"""Power modes, FLUSH CACHE, RECALIBRATE, SEEK."""


class AtaDrive(Device):
    """One drive. number: 0 the master, 1 the slave. changed: called when ``interrupts`` may have
    changed.

    Both drives of a channel take every store to the registers; the one whose number stands in the drive
    register answers, executes commands and has the interrupt line.

    registers: ERROR to DRIVE as the guest reads them. buffer: the block being transferred, of which
    ``at`` bytes are done; a read has it whole, a write gathers it. remaining: sectors of the command
    that have not been transferred. interrupt: INTRQ, cleared by reading the status register.
    """

    name = "ATA disk"
    wiring = frozenset({"_changed", "disk", "number"})
    wide = frozenset({"at", "remaining", "lba"})

    registers: tuple[int, ...]
    geometry: tuple[int, int]
    buffer: bytes

    def __init__(self, disk: Disk, number: int, changed: Callable[[], None]) -> None:
        self.disk = disk
        self.number = number
        self._changed = changed
        self.geometry = GEOMETRY
        self.multiple = 0
        self.control = 0
        self.interrupt = False
        self._sign()

    @property
    def title(self) -> str:
        return f"{self.name}, {'slave' if self.number else 'master'}"

    @property
    def selected(self) -> bool:
        return bool(self.registers[DRIVE] & SLAVE) is bool(self.number)

    @property
    def interrupts(self) -> bool:
        """Whether it drives the channel's interrupt line."""
        return self.interrupt and self.selected and not self.control & NO_INTERRUPT

    def is_lawful(self) -> bool:
        block = min(self.block, self.remaining) * SECTOR
        done, whole = (len(self.buffer), block) if self.writing else (self.at, len(self.buffer))
        moves = not self.status & DATA_REQUEST or 0 <= done < whole
        steady = not self.remaining or (0 < self.remaining <= 256 and 0 < self.block <= MOST_MULTIPLE)
        steady = steady and 0 <= self.lba <= 1 << 28
        registers = len(self.registers) == 8 and all(0 <= value < 256 for value in self.registers)
        return moves and steady and registers and all(self.geometry) and super().is_lawful()

    def facts(self, now: int) -> tuple[tuple[str, str], ...]:
        return (
            ("size", counted(self.disk.sectors, "sector")),
            ("status", f"{self.status:02x}"),
            ("sector", f"{self.lba:,}"),
            (
                "moving",
                f"{counted(self.remaining, 'sector')} to go, byte {self.at} of {len(self.buffer)}",
            ),
            ("interrupt", "raised" if self.interrupt else "low"),
        )

    # Registers.

    def read(self, register: int, size: int) -> int:
        if register == DATA:
            return self._read_data(size) if size > 1 else 0xFF  # the data register is 16 bits
        if register == STATUS:
            if self.selected:
                self._interrupt(False)
            return self.alternate_status()
        return 0 if register == ERROR and not self.selected else self.registers[register]

    def write(self, register: int, size: int, value: int) -> None:
        if register == DATA:
            if size > 1:
                self.write_block(value.to_bytes(size, "little"))
        elif register == STATUS:
            self._command(value)
        elif register == ERROR:
            self.features = value
        else:
            self._set(register, value | ALWAYS if register == DRIVE else value)
            self._changed()

    def read_block(self, wanted: int) -> bytes:
        """``wanted`` bytes of the data register, zeros where there is nothing to read."""
        size, parts = wanted, []
        while wanted and self._reading():
            part = self.buffer[self.at : self.at + wanted]
            self._moved(len(part))
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts).ljust(size, b"\0")

    def alternate_status(self) -> int:
        """The status, without acknowledging the interrupt."""
        if self.control & RESET:
            return BUSY
        return self.status if self.selected else 0

    def _set(self, register: int, value: int) -> None:
        self.registers = (*self.registers[:register], value, *self.registers[register + 1 :])

    def set_control(self, value: int) -> None:
        """The device control register: interrupts off, software reset."""
        if self.control & RESET and not value & RESET:
            self._sign()
        self.control = value
        self._interrupt(self.interrupt and not value & RESET)

    def _sign(self) -> None:
        """Set the registers to the signature after a reset or a diagnosis: "passed, an ATA disk", and
        device 0 is selected (9.1)."""
        self.registers = (0, 0x01, 1, 1, 0, 0, ALWAYS, 0)
        self.status = IDLE
        self.features = 0
        self._stop_transfer()

    def _stop_transfer(self) -> None:
        self.buffer = b""
        self.at = self.remaining = self.block = 0
        self.lba = 0
        self.writing = False

    def _interrupt(self, level: bool) -> None:
        self.interrupt = level
        self._changed()

    # Commands.

    def _command(self, command: int) -> None:
        if self.control & RESET or not (self.selected or command == 0x90):
            return
        self._interrupt(False)
        self._set(ERROR, 0)
        self.status = IDLE
        self._stop_transfer()
        if command in READS or command in WRITES:
            self._start_transfer(command)
        elif command == 0xEC:
            self._identify()
        elif command == 0x90:  # EXECUTE DEVICE DIAGNOSTIC
            self._sign()
            self._interrupt(True)
        elif self._without_data(command):
            self._interrupt(True)
        else:
            self._fail(ABORTED)

    def _without_data(self, command: int) -> bool:
        """Execute a command that transfers no data; whether it succeeded."""
        count, drive = self.registers[COUNT], self.registers[DRIVE]
        if command == 0x91:  # INITIALIZE DEVICE PARAMETERS
            if count:
                self.geometry = (drive & 0xF) + 1, count
            return count > 0
        if command == 0xC6:  # SET MULTIPLE MODE
            known = count <= MOST_MULTIPLE and not count & count - 1
            self.multiple = count if known else 0
            return known
        if command == 0xEF:  # SET FEATURES: PIO modes, write cache, read ahead
            pio = self.features == 0x03 and count >> 3 <= 1
            return pio or self.features in (0x02, 0x82, 0xAA, 0x55)
        if command == 0xE5:  # CHECK POWER MODE
            self._set(COUNT, 0xFF)
            return True
        if command in (0x40, 0x41):  # READ VERIFY
            lba, sectors = self._address(), self.registers[COUNT] or 256
            return lba is not None and lba + sectors <= self.disk.sectors
        return command in NOTHING_TO_DO

    def _identify(self) -> None:
        self.buffer = identity(self.disk.sectors, self.geometry, self.multiple)
        self.status = IDLE | DATA_REQUEST
        self._interrupt(True)

    def _start_transfer(self, command: int) -> None:
        self.writing = command in WRITES
        in_blocks = WRITES[command] if self.writing else READS[command]
        if in_blocks and not self.multiple:
            return self._fail(ABORTED)
        self.block = self.multiple if in_blocks else 1
        self.remaining = self.registers[COUNT] or 256
        lba = self._address()
        if lba is None or lba + self.remaining > self.disk.sectors:
            return self._fail(ABORTED)  # disks report "not found"; QEMU and Bochs report this
        self.lba = lba
        if self.writing:
            self.status = IDLE | DATA_REQUEST  # asks for the first block without interrupting
            return None
        return self._next_block()

    def _address(self) -> int | None:
        """The sector that the registers address, None if it is invalid."""
        _, _, _, low, mid, high, drive, _ = self.registers
        if drive & BY_LBA:
            return (drive & 0xF) << 24 | high << 16 | mid << 8 | low
        heads, sectors = self.geometry
        head = drive & 0xF
        if head >= heads or not 1 <= low <= sectors:
            return None
        return ((high << 8 | mid) * heads + head) * sectors + low - 1

    def _show_address(self, lba: int) -> None:
        drive = self.registers[DRIVE]
        if drive & BY_LBA:
            low, middle, top = lba & 0xFF, lba >> 8, lba >> 24
        else:
            heads, sectors = self.geometry
            low, middle = lba % sectors + 1, lba // sectors // heads
            top = lba // sectors % heads
        values = (low, middle & 0xFF, middle >> 8 & 0xFF, drive & 0xF0 | top & 0xF)
        self.registers = (*self.registers[:LBA_LOW], *values, 0)

    def _fail(self, error: int) -> None:
        self._set(ERROR, error)
        self.status = READY | FAILED
        self._stop_transfer()
        self._interrupt(True)

    # The data register.

    def _reading(self) -> bool:
        return bool(self.status & DATA_REQUEST) and not self.writing and not self._unheard()

    def _unheard(self) -> bool:
        return not self.selected or bool(self.control & RESET)

    def _read_data(self, size: int) -> int:
        if not self._reading():
            return 0
        value = int.from_bytes(self.buffer[self.at : self.at + size], "little")
        self._moved(size)
        return value

    def _moved(self, count: int) -> None:
        """``count`` bytes of a block have been read; at its end the next one is fetched."""
        self.at += count
        if self.at >= len(self.buffer):
            if self.remaining:
                self._next_block()
            else:
                self.status = IDLE

    def _next_block(self) -> None:
        """Fetch the sectors that the guest reads next, and raise the interrupt."""
        count = min(self.block, self.remaining)
        try:
            self.buffer = self.disk.read(self.lba, count)
        except DiskError:
            self._show_address(self.lba)
            return self._fail(UNCORRECTABLE)
        self.at = 0
        self._advance(count)
        self.status = IDLE | DATA_REQUEST
        return self._interrupt(True)

    def _advance(self, count: int) -> None:
        self.lba += count
        self.remaining -= count
        self._set(COUNT, self.remaining & 0xFF)
        self._show_address(self.lba - 1)

    def write_block(self, data: bytes) -> None:
        """Bytes for the block being written; those after the command's last are ignored."""
        at = 0
        while at < len(data) and self.writing and self.status & DATA_REQUEST and not self._unheard():
            count = min(self.block, self.remaining)
            room = count * SECTOR - len(self.buffer)
            self.buffer += data[at : at + room]
            at += room
            if len(self.buffer) == count * SECTOR:
                self._store_block(count)

    def _store_block(self, count: int) -> None:
        try:
            self.disk.write(self.lba, self.buffer)
        except DiskError:
            self._show_address(self.lba)
            return self._fail(ABORTED)
        self.buffer = b""
        self._advance(count)
        self.status = IDLE | (DATA_REQUEST if self.remaining else 0)
        return self._interrupt(True)
