"""The native trap engine: this CPU executes the guest, in ring 3, held by ptrace.

Read in this order: process.py (the vCPU host process and how it is stripped), engine.py (entering
and leaving), stops.py (what a stop means), stub.py (the few bytes that it starts from).
"""
