"""One handler for each sensitive instruction; cores/emulator.py calls them."""
