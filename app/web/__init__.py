"""Ringscope in browsers: a class that follows its teacher, and an interface for each visitor.

May import app.tui, app.handout, app.text, app.teacher, lessons and cores. What it stands on (aiohttp,
textual-serve, segno) is an extra: ``app.web.extra`` says how it is had.
"""
