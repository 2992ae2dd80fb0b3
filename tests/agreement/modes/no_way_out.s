# console: gGgGgGuUuUgGgGgGgGgGpPeE.
# on kvm, free: gGgGgGuUuGgGgGgGgGgGpPeE.    SYSENTER is the CPU's, and its MSRs hold 0: #GP
# 32-bit code that reaches for 64-bit code, the host's segments and its kernel. The guest's own tables
# have none of these: each attempt is a fault, whose handler writes its letter and goes on behind it.
.macro  attempt letter
        mov     ebp, offset 9f
        mov     al, \letter
        out     0xe9, al
.endm
.macro  gate vector, handler
        mov     eax, offset \handler
        mov     [0x20000 + \vector * 8], ax
        mov     word ptr [0x20000 + \vector * 8 + 2], 0x08
        mov     word ptr [0x20000 + \vector * 8 + 4], 0x8e00
        shr     eax, 16
        mov     [0x20000 + \vector * 8 + 6], ax
.endm

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
        mov     esp, 0x90000
        mov     eax, cr0
        and     eax, 0x7fffffff
        mov     cr0, eax
        mov     ecx, 0xc0000080
        xor     eax, eax
        xor     edx, edx
        wrmsr
        gate    6, undefined
        gate    11, not_present
        gate    13, protection
        lidt    [idtr]

        attempt 'g'                     # a far jump to the host's 64-bit code
        .byte   0xea
        .long   landing
        .word   0x33
9:      attempt 'g'                     # a far return
        push    0x33
        push    offset landing
        retf
9:      attempt 'g'                     # an interrupt return
        pushfd
        push    0x33
        push    offset landing
        iretd
9:      attempt 'u'                     # SYSCALL and SYSENTER
        mov     eax, 39
        syscall
9:      attempt 'u'
        sysenter
9:      attempt 'g'                     # the host's 32-bit system call: no gate
        mov     eax, 20
        int     0x80
9:      attempt 'g'                     # the host's data segment, and its 32-bit code
        mov     eax, 0x2b
        mov     ds, eax
9:      attempt 'g'
        push    0x2b
        pop     es
9:      attempt 'g'                     # the local table that the host fills
        mov     eax, 7
        mov     ds, eax
9:      attempt 'g'
        lgs     eax, [pointer]
9:      attempt 'p'                     # a segment that is not present
        mov     eax, 0x18
        mov     fs, eax
9:      attempt 'e'                     # a far jump through memory to the guest's own code
        jmp     fword ptr [inside]
landing:
        mov     al, '!'
        out     0xe9, al
9:      mov     al, '.'
        out     0xe9, al
        mov     al, 0
        out     0xf4, al

entered:
        mov     al, 'E'
        out     0xe9, al
        jmp     9b

undefined:
        mov     al, 'U'
        jmp     go_on
not_present:
        mov     al, 'P'
        jmp     go_on
protection:
        mov     al, 'G'
go_on:  out     0xe9, al
        mov     esp, 0x90000
        jmp     ebp

.align 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
        .quad 0x00cf13000000ffff        # data that is not present
gdtr:   .word 0x1f
        .quad gdt
idtr:   .word 0x7f
        .long 0x20000
pointer: .long 0
        .word 0x2b
inside: .long entered
        .word 0x08
