"""Page faults of deprivileged engines that the guest does not cause.

May import vmm/completion.py, vmm/world_switch.py and what they stand on; vmm.py imports it.
"""
