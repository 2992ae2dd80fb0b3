"""Instruction encoding and decoding."""
