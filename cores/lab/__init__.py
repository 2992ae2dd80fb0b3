"""The hypervisor lab: a student's VMM runs a guest on the trap engines, and is held against ours.

May import machine and everything below it. docs/lab.md is its manual.
"""
