"""The guest's PC: memory, devices, and the state it boots in."""
