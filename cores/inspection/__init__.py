"""Snapshots and views of a machine."""
