"""Trap-and-emulate on Unicorn."""
