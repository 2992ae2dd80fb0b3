"""The guest's PC: memory, devices, and the state in which it boots.

May import programs and x86.
"""
