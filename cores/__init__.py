"""The machines: guest programs, the PC that they see, and the engines that execute them.

Imports nothing of app or lessons. README.md gives an order in which to read the source.
"""
