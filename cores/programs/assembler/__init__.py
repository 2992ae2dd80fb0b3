"""The assembler front end: it reads each statement, has Keystone assemble it, and checks the result.

May import x86 and the file modules of cores.
"""
