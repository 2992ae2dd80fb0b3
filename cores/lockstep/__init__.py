"""Lockstep: several machines compared instruction by instruction."""
