"""System instructions and structures: descriptors, interrupts, control registers, the FPU.

May import the rest of x86.
"""
