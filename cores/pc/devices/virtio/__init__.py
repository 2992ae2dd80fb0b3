"""Virtio devices (OASIS, "Virtual I/O Device (VIRTIO) Version 1.2"): one file a device.

``queue.py`` is how guest and device pass each other buffers, ``device.py`` the registers in front.
"""
