"""One handler for each sensitive instruction; cores/vmm/emulate/table.py names them."""
