# flags: switches interrupts off, and asks the CPU whether they are off.
#
# CLI is privileged: outside ring 0 the CPU refuses it. PUSHF and POPF are not. They show and change
# the same flag, and in ring 3 the CPU simply does something else than a kernel expects.

_start: cli                             # interrupts off: IF = 0
ask:    pushfq                          # the flags, as the CPU shows them
read:   pop     rax
        and     eax, 0x200              # IF
        lea     rsi, [rip + off]
        mov     ecx, offset on - off
        jz      tell
        lea     rsi, [rip + on]
        mov     ecx, offset end - on
tell:   mov     edx, 0xe9
        rep     outsb
        xor     eax, eax
        out     0xf4, al

off:    .ascii  "Interrupts are off.\n"
on:     .ascii  "I switched interrupts off, and they are on.\n"
end:
