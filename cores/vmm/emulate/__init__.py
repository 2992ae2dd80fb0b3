"""One handler for each sensitive instruction; cores/vmm/emulate/emulator.py calls them."""
