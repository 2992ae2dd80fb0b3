# A guest to begin from: it prints two letters and ends.
#
# Intel syntax; `#` begins a comment. It starts in ring 0, in 64-bit mode. Port 0xe9 is the console,
# and a byte written to port 0xf4 ends the machine.

_start: mov     al, 'H'
        out     0xe9, al                # leaves the guest
        mov     al, 'i'
        out     0xe9, al
done:   xor     eax, eax
        out     0xf4, al
