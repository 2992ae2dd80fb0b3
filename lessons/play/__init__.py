"""Playing a lesson: a script, a stage with machines on it, and what the player says.

May import lessons/format and cores.
"""
