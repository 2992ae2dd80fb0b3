"""The foreign machine: a Motorola 68000, which only an emulator can run on this CPU.

registers.py    the CPU's registers
bus.py          24 address lines: RAM, a console and a power switch
decode.py       decodes words to instructions, with Capstone
exceptions.py   the exceptions and their vectors
delivery.py     the vector table, and the frames on the supervisor's stack
branches.py     jumps, calls and returns
engine.py       executes one instruction in Unicorn
monitor.py      completes the others and delivers exceptions; begin to read at ``step``
machine.py      the whole machine, with the interface of ``cores.machine.machine.Machine``
disassembly.py  the code around PC, for the screen
session.py      the operations of the commands and of the interface

The rules are those of the M68000 Family Programmer's Reference Manual (M68000PM/AD) and of the
M68000 User's Manual (M68000UM/AD); comments name the section.
"""
