# console: ABC
# Real mode writes through CS, as boot sectors do; no protected-mode descriptor of code can be written.
_start:
        lgdt    [rip + gdtr]
        push    0x08
        lea     rax, [rip + compat]
        push    rax
        retfq

.code32
compat:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x7000
        mov     eax, cr0
        and     eax, 0x7fffffff
        mov     cr0, eax
        mov     esi, offset real_code
        mov     edi, 0x8000
        mov     ecx, offset real_end
        sub     ecx, esi
        rep movsb
        jmp     0x18:0x8000

.code16
real_code:
        mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        jmp     0x0800:(in_real - real_code)
in_real:
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     fs, ax
        mov     al, 'A'
        mov     cs:[letter - real_code], al
        inc     byte ptr cs:[letter - real_code + 1]
        mov     bx, (letter - real_code)
        add     dword ptr cs:[bx + 2], 1
        mov     cx, 3
1:      mov     al, cs:[bx]
        out     0xe9, al
        inc     bx
        loop    1b
        mov     ax, fs
        out     0xf4, al
letter: .byte   0, 'A', 'B', 0, 0, 0
real_end:
.align 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        # 08 32-bit code
        .quad 0x00cf93000000ffff        # 10 data
        .quad 0x00009b000000ffff        # 18 16-bit code
gdtr:   .word   0x1f
        .quad   gdt
