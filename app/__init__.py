"""The command line and the terminal interface.

May import lessons and cores; of cores, the entry points in cores/runs and frozen values.
"""
