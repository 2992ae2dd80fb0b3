"""The hypervisor lab: a student's VMM runs a guest on the portable trap engine, held against ours.

May import machine, runs' neighbours below it, and everything under them. docs/lab.md is its manual.
"""
