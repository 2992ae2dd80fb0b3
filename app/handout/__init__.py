"""A lesson as one HTML file: text, machines under a scrubber, questions with their answers hidden.

May import app.text, lessons and cores.
"""
