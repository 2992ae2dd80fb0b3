# console: LCP3RsI
# From 64-bit mode to compatibility mode, to protected mode without and with paging, to real mode.
_start:
        lgdt    [rip + gdtr]
        mov     al, 'L'
        out     0xe9, al
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
        mov     esp, 0x90000
        mov     al, 'C'
        out     0xe9, al
        call    show
        mov     eax, cr0
        and     eax, 0x7fffffff         # paging off: long mode is left
        mov     cr0, eax
        mov     al, 'P'
        out     0xe9, al
        mov     ecx, 0xc0000080
        xor     eax, eax
        xor     edx, edx
        wrmsr
        mov     eax, cr4
        and     eax, 0xffffffdf         # PAE off
        or      eax, 0x10               # PSE
        mov     cr4, eax
        mov     edi, 0x20000            # page directory: 4 MiB pages, identical
        mov     eax, 0x83
        mov     ecx, 4
1:      stosd
        add     eax, 0x400000
        loop    1b
        mov     eax, 0x20000
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     al, '3'
        out     0xe9, al
        pushfd
        pop     eax
        pusha
        popa
        mov     eax, [0x20000]
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
        mov     ax, 0x20
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        jmp     0x0800:(in_real - real_code)
in_real:
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7000
        mov     al, 'R'
        out     0xe9, al
        call    sub
        push    cs
        pop     ax
        pusha
        popa
        lidt    cs:[idtr - real_code]
        mov     word ptr [0x40*4], (handler - real_code)
        mov     word ptr [0x40*4+2], 0x0800
        int     0x40
        mov     al, 0
        out     0xf4, al
        cli
        hlt
handler:
        mov     al, 'I'
        out     0xe9, al
        iret
sub:    mov     al, 's'
        out     0xe9, al
        ret
idtr:   .word 0x3ff
        .long 0
real_end:
.code32
show:   ret
.align 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        # 08 32-bit code
        .quad 0x00cf93000000ffff        # 10 data
        .quad 0x00009b000000ffff        # 18 16-bit code
        .quad 0x000093000000ffff        # 20 16-bit data
gdtr:   .word   0x27
        .quad   gdt
