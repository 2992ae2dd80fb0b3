"""The hypervisor: what each exit means."""
