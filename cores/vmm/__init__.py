"""The hypervisor: it handles the exits of one guest."""
