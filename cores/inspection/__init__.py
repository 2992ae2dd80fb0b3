"""Snapshots and views of a machine, as frozen values for the interface.

May import time_travel, lockstep, machine, vmm, engines, pc, programs and x86.
"""
