"""Engines, which execute a guest's instructions: in software, on this CPU at ring 3, or with KVM.

May import pc (RAM and physical memory, no device), programs and x86; never the VMM.
"""
