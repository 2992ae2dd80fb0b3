"""Guest programs: assembly, ELF and flat images, and the refusal of everything else by its name.

May import x86 and the file modules of cores.
"""
