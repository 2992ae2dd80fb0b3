"""GDB's remote protocol: a debugger of the learner's own looks into all machines of a session.

    packets.py     the framing of the protocol
    registers.py   the registers as GDB knows them, and target.xml
    target.py      what GDB asks, answered by a live session: memory, breakpoints, motion both ways
    monitor.py     the commands behind ``monitor``
    server.py      the socket, and the packets by name

The protocol is described in GDB's manual, appendix E ("GDB Remote Serial Protocol").
"""
