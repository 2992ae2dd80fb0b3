"""The foreign machine: a Motorola 68000, which only an emulator can run on this CPU.

registers.py   what the CPU remembers
bus.py         24 address lines: RAM, a console and a power switch
decode.py      from words to instructions; Capstone knows their names
exceptions.py  the vector table, and the frames on the supervisor's stack
branches.py    where a jump leads
engine.py      Unicorn executes one instruction
monitor.py     what to do when it could not; begin to read at ``step``
machine.py     all of these together, as ``cores.machine.machine.Machine`` looks from outside
picture.py     a moment of it, for the screen
session.py     what the commands and the interface do with it

The rules are those of the M68000 Family Programmer's Reference Manual (M68000PM/AD) and of the
M68000 User's Manual (M68000UM/AD); comments name the section.
"""
