"""The interpreter engine: Unicorn executes every instruction in software.

May import what every engine may (cores/engines/base.py).
"""
