"""Instruction encoding and decoding, and what is known of an instruction before it runs.

May import the rest of x86.
"""
