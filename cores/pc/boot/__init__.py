"""Boot: boot protocols, and bootable disk images."""
