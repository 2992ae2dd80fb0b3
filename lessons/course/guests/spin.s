# spin: the worst that a kernel can do to its machine. No interrupt will ever be taken again, and the
# CPU goes round in a circle for ever.

_start: cli
spin:   jmp     spin
