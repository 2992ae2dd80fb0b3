"""Assembling source with Keystone."""
