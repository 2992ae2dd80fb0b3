# hello: prints a line, byte by byte, and ends with status 0.
#
# Everything here runs on the CPU itself, but for two kinds of instruction that reach out of the
# guest: `out 0xe9, al`, which puts a character on the console, and the `out` that ends the machine.
# On the trap core each of them is refused by the CPU (a general protection fault in ring 3), and
# the VMM does what the guest wanted. On the emulator nothing ever leaves.

_start:
        lea     rsi, [rip + message]    # RIP-relative: works wherever the program is loaded

next:
        mov     al, [rsi]               # an ordinary load: direct execution
        test    al, al
        jz      done
        out     0xe9, al                # the call home: port 0xe9 is the debug console
        inc     rsi
        jmp     next

done:
        xor     eax, eax
        out     0xf4, al                # the exit port: status 0
        cli                             # on a PC without that port, stop here
        hlt

message:
        .asciz  "Hello from ring 0, or so I believe.\n"
