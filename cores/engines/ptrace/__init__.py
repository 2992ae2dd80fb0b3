"""The native trap engine: this CPU executes the guest in ring 3, under ptrace.

Read in this order: process.py (the vCPU host process and how it is stripped), vcpu.py (entry and exit),
stops.py (decodes a stop), engine.py (two vCPUs make an engine), textbook.py (steps of ``--pure``),
audit.py (checks a process's isolation), host_support.py (whether this host allows it), cpu_affinity.py
(placement on CPUs), stub.py (the program that a process starts as), linux.py (system calls).
"""
