"""The PC's devices, one per file; board.py connects them."""
