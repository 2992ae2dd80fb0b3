"""The hypervisor: it enters one guest and handles its exits.

May import engines/base.py, pc and x86. Begin with vmm.py.
"""
