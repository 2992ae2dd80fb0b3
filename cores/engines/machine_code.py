"""Machine code of our own: a page that this process can execute.

For the few functions that are called so often that Python's own calls would be most of their cost
(cores/engines/unicorn/block_counter.py, cores/engines/ptrace/compound_call.py). They are written as
bytes, so that neither compiler nor assembler is needed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform


def executable(code: bytes) -> mmap.mmap | None:
    """A page with ``code`` for x86-64; None on other computers, and where the host allows no memory
    that is writable and executable."""
    if os.name != "posix" or platform.machine() != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    page.write(code)
    return page


def address(page: mmap.mmap) -> int:
    """Where ``page`` lies; the caller keeps the page for as long as the address is used."""
    return ctypes.addressof(ctypes.c_char.from_buffer(page))
