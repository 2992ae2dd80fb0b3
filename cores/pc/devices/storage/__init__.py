"""Disks and their controller."""
