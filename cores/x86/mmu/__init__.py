"""Page tables: the walk that translates the guest's virtual addresses.

May import the rest of x86.
"""
