"""The screen of the machines, with a controller for each subject that its keys are about.

    screen.py     the widgets and the drawing
    bindings.py   the keys
    time.py       run, step, go back, breakpoints
    state.py      change a register, type, give a disk, save
    looking.py    a machine, its exits, a line of its code, its inside
    lesson.py     a lesson that is played over the machines
    host.py       the screen, as the controllers need it

A controller changes what it keeps, tells the worker, and asks its host to draw. It knows the widgets
that it is given, and no screen.
"""
