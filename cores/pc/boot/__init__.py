"""How a guest gets control: boot protocols and disks."""
