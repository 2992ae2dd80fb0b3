"""Emulation handlers, one for each sensitive instruction; cores/vmm/emulate/table.py lists them."""
