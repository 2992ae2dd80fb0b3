# chatty: greets, one character at a time. It can be done with far fewer exits.

_start: lea     rsi, [rip + text]
        mov     ecx, offset end - text
next:   lodsb
        out     0xe9, al
        loop    next
        xor     eax, eax
        out     0xf4, al
text:   .ascii  "Thirty-six exits for a short line?\n"
end:
