# triple: makes a mistake whose gate the IDT's limit cuts off, and there is none for the double fault
# that follows.
#
# The machine shuts down. What was printed before stays.

_start:
        lea     rsi, [rip + given]
next:   mov     al, [rsi]
        test    al, al
        jz      done
        out     0xe9, al
        inc     rsi
        jmp     next
done:   mov     rax, cr3
        mov     rbx, cr0
        lea     rdx, [rip + idt]
        mov     [rip + table + 2], rdx
        lea     rax, [rip + never]      # a gate for #UD
        mov     [rdx + 6 * 16], ax
        mov     dword ptr [rdx + 6 * 16 + 2], 0x10
        mov     byte ptr [rdx + 6 * 16 + 5], 0x8e
        shr     rax, 16
        mov     [rdx + 6 * 16 + 6], ax
        lidt    [rip + table]           # of which the IDT's limit leaves out the last byte
        ud2
never:  mov     al, 33
        out     0xe9, al
        out     0xf4, al

        .align  16
idt:    .skip   7 * 16
table:  .word   7 * 16 - 2
        .quad   0
        .align  8
given:  .ascii  "Nobody is listening.\n"
        .skip   43
