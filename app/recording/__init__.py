"""Recording lessons and the interface as asciinema casts.

May import app/teacher, app/main.py, lessons and cores.
"""
