"""Boot protocols, which put a program and the CPU into their first state, and bootable disk images.

May import the rest of pc, programs and x86.
"""
