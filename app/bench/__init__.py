"""Measurements, each beside a baseline taken in the same run.

    figures.py     what a figure is, and how pairs of runs become a median and a ratio
    bare.py        the bare mechanisms, in Python and in C: the baselines
    guests.py      the guests that are measured
    execution.py   entering and leaving the guest: direct execution, exits, exact steps
    counting.py    the interpreter's free run, with exact counts and without
    mechanisms.py  exits by kind, shadow fills, sizes, other emulators
    network.py     packets by each kind of card
    sessions.py    lockstep, snapshots, going back, memory
    interface.py   start-up, the screen's frames, a key's way to the screen

A host that is busy changes absolute figures by a factor; the ratio of two runs taken in turn stays.
"""
