"""Binary patching for free mode: what would not trap is made to trap.

May import engines/base.py, pc and x86, and nothing else of vmm.
"""
