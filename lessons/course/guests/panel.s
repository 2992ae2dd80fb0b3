# panel: paints a panel of three lines on the screen, one store for each of its 150 characters.
#
# The screen is memory at 0xb8000, a character and a colour in two bytes. A guest whose screen is a device
# leaves at each of these stores; one that has been given the screen leaves at none of them.

SCREEN = 0xb8000
ROW    = 160                            # 80 columns
COLOUR = 0x1f                           # white on blue

_start: lea     rsi, [rip + text]
        mov     edi, SCREEN + ROW + 30
        mov     edx, 3
line:   mov     ecx, 50
paint:  mov     al, [rsi]
        mov     ah, COLOUR
        mov     [rdi], ax               # a character on the screen
        inc     rsi
        add     rdi, 2
        dec     ecx
        jnz     paint
        add     rdi, ROW - 100
        dec     edx
        jnz     line
painted:
        xor     eax, eax
        out     0xf4, al
        cli
        hlt

text:   .ascii  "                                                  "
        .ascii  "   This screen is a device, or it is my memory.   "
        .ascii  "                                                  "
