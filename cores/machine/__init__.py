"""A machine: one PC with its program, engine, VMM and devices.

May import vmm, engines, pc, programs and x86.
"""
