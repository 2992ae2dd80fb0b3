"""Recording lessons and the interface as asciinema casts."""
