"""Interactive sessions: stepping, breakpoints, edits, saving.

May import inspection, time_travel, lockstep and all below them.
"""
