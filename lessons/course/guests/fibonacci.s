# fibonacci: prints 24 numbers, each the sum of the two before: the line that genesis.m68k prints, too.
# Another CPU, other registers, other instructions, another console. The same text.

_start: xor     ebx, ebx                # d1 on the 68000
        mov     ebp, 1                  # d2
        mov     r12d, 24                # d7: turns
next:   mov     eax, ebp
        call    decimal
        mov     al, ' '
        out     0xe9, al
        add     ebx, ebp
        xchg    ebx, ebp
        dec     r12d
        jnz     next
        mov     al, 10
        out     0xe9, al
        xor     eax, eax
        out     0xf4, al

# EAX in decimal: the digits come out last first, so each waits for those before it.
decimal:
        mov     ecx, 10
        xor     edx, edx
        div     ecx
        push    rdx
        test    eax, eax
        jz      digit
        call    decimal
digit:  pop     rax
        add     al, '0'
        out     0xe9, al
        ret
