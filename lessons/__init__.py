"""The course: the lesson format, its player and its checker; course/ holds the lessons.

May import cores.
"""
