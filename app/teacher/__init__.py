"""The second terminal of a lesson, which follows the first, and the reader that plays by itself.

May import lessons and cores, and nothing else of app.
"""
