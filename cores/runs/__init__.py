"""Entry points for app and lessons: compare, trace, open.

May import everything in cores; only here is decided which platform a program is for.
"""
