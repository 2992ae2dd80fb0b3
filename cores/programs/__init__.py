"""Guest programs: assembly, ELF, flat images."""
