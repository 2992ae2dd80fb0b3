"""The guest kernel for static Linux programs: its source, and ``kernel.elf``, built from it."""
