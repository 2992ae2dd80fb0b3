"""The terminal interface: widgets that draw frozen snapshots, and nothing else."""
