"""``ringscope image PROGRAM -o FILE``: a bootable raw disk of the same guest."""

from __future__ import annotations

import argparse

from app.main import OK, printable
from app.programs import load
from cores.errors import InputError
from cores.pc.boot.disk_image import write_image
from cores.pc.devices.storage.disk import SECTOR
from cores.pc.platform import DEFAULT_RAM

from .options import add_ram_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the raw disk to write")
    parser.add_argument("--overwrite", action="store_true", help="whatever FILE has been so far")
    parser.add_argument("--disk", metavar="FILE", help="the guest's data disk, to be appended")
    add_ram_option(parser)


def run(arguments: argparse.Namespace) -> int:
    for option, file in (("--output", arguments.output), ("--disk", arguments.disk)):
        if file is not None and not file.strip():
            raise InputError(f"{option}: no file is named")
    ram = arguments.ram or DEFAULT_RAM
    program = load(arguments.program, ram)
    layout = write_image(
        program, arguments.output, ram=ram, disk=arguments.disk, overwrite=arguments.overwrite
    )
    size = layout.sectors * SECTOR
    data = f"; its data disk begins at sector {layout.first_lba:,}" if layout.disk_sectors else ""
    name = printable(arguments.output)
    print(f"{name}: {size:,} bytes, for a PC with {ram >> 20} MiB or more{data}")
    return OK
