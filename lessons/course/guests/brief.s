# brief: the same greeting as chatty.s, and far fewer exits: one instruction that repeats itself.

_start: lea     rsi, [rip + text]
        mov     ecx, offset end - text
        mov     edx, 0xe9
        rep     outsb
        xor     eax, eax
        out     0xf4, al
text:   .ascii  "Thirty-six exits for a short line?\n"
end:
