"""The x86-64 architecture as pure functions, independent of engines, devices and the host.

Imports nothing else of cores.
"""
