"""Checkpoints of a machine, and deterministic re-execution from them.

May import lockstep, machine, vmm, engines, pc, programs and x86.
"""
