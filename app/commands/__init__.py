"""The commands, one a file: ``add_arguments(parser)`` and ``run(arguments) -> exit code``.

A file here is imported when its command is given; the table is in app/main.py.
"""
