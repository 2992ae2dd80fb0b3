"""The terminal interface: widgets that draw frozen snapshots, and nothing else."""

import os

os.environ.setdefault("TEXTUAL_FPS", "120")
"""Textual reads this when it is imported. What is to be painted waits for the next tick: at its own 60
a key that opens something waited twice 17 ms. Nothing is painted oftener for it: see FRAME."""
