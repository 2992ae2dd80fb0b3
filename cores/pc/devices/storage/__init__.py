"""Disks and the ATA controller.

May import what every device may: pc/devices/base.py, the bus and physical memory.
"""
