"""Trap-and-emulate on Unicorn: the stand-in where the host has no ptrace.

May import engines/unicorn and what every engine may.
"""
