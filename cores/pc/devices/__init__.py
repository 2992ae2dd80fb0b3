"""The PC's devices, one in a file; board.py wires them together."""
