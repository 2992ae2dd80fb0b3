"""Lockstep: several machines compared instruction by instruction.

May import machine, vmm, engines, pc, programs and x86.
"""
