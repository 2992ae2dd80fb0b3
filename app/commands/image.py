"""``ringscope image PROGRAM -o FILE``: a bootable raw disk of the same guest."""

from __future__ import annotations

import argparse

from app.main import OK
from app.programs import load
from cores.pc.boot.disk_image import write_image
from cores.pc.devices.storage.disk import SECTOR

from .options import add_ram_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help='a file, a guest\'s name, or "-"')
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the raw disk to write")
    parser.add_argument("--overwrite", action="store_true", help="whatever FILE has been so far")
    parser.add_argument("--disk", metavar="FILE", help="the guest's data disk, to be appended")
    add_ram_option(parser)


def run(arguments: argparse.Namespace) -> int:
    program = load(arguments.program, arguments.ram)
    layout = write_image(
        program, arguments.output, ram=arguments.ram, disk=arguments.disk, overwrite=arguments.overwrite
    )
    size = layout.sectors * SECTOR
    data = f"; its data disk begins at sector {layout.first_lba:,}" if layout.disk_sectors else ""
    print(f"{arguments.output}: {size:,} bytes, for a PC with {arguments.ram >> 20} MiB or more{data}")
    return OK
