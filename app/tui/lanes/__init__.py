"""The session screen as rows: pure functions from a snapshot to text, one column for each machine.

    scene.py      all that is shown: the snapshot, and what the user has chosen to see of it
    sizes.py      how wide a lane is
    layout.py     how many rows each part has; ``lanes`` makes a row of them
    header.py     the program and its three properties; what goes on
    facts.py      who executes, where the registers live, the ring, how often the guest was left
    track.py      who had the CPU
    source.py     the program's lines, and which addresses belong to each
    program.py    the program, with the lane of each machine beside it
    ways.py       this instruction, three ways; the same as a conversation
    reasons.py    why the guest was left; the latest exits
    registers.py  the registers once, with what the guest believes and the CPU has; each machine's own
    full.py       one instruction in full, on every machine
    output.py     what the guest prints
    timeline.py   the way come so far
    projector.py  large digits
    compose.py    all of these, as the regions of the screen

A row is a tuple of (text, role); the last widget to touch it paints it (widgets/line_view.py).
"""
