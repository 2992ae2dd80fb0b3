"""Faults that the guest never sees."""
