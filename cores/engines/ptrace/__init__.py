"""The native trap engine: this CPU executes the guest, in ring 3, held by ptrace.

Read in this order: process.py (the vCPU host process and how it is stripped), vcpu.py (entering the
guest and leaving it), stops.py (what a stop means), engine.py (two of them make an engine), host.py
(whether this host allows it), stub.py (the few bytes that a process begins as).
"""
