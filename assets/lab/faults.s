# faults: makes mistakes on purpose, and handles them itself.
#
# #DE, #UD, #BP, #GP and #PF reach the guest's own handlers through its IDT, and so does INT 0x30, by
# which it prints. A handler says who it is, and goes on behind the mistake: IRETQ.

_start:
        lea     rbx, [rip + idt]
        lea     rsi, [rip + gates]
gate:   movzx   ecx, byte ptr [rsi]     # the vector
        cmp     ecx, 0xff
        je      filled
        movsxd  rdx, dword ptr [rsi + 1] # its handler, from `gates`
        lea     rax, [rip + gates]
        add     rax, rdx
        shl     ecx, 4
        lea     rdi, [rbx + rcx]
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     byte ptr [rdi + 4], 0
        mov     dl, [rsi + 5]           # interrupt or trap gate
        mov     [rdi + 5], dl
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], eax
        add     rsi, 6
        jmp     gate
filled: mov     [rip + table + 2], rbx
        lidt    [rip + table]
        pushfq
        or      qword ptr [rsp], 0x4000 # NT, which is off in a handler
        popfq
        sti

        xor     ecx, ecx
        xor     r13d, r13d
        div     ecx                     # #DE: a fault, RIP at it
        ud2                             # #UD
        nop
        int3                            # #BP: a trap, RIP behind it
        movabs  rax, 0x1234567890abcdef # not canonical
        movzx   r14d, byte ptr [rip + given]
        or      r14, rax
        mov     al, [r14]               # #GP(0), and no privileged instruction
        mov     r14d, 0x800             # below 0x10000 nothing is mapped
        add     r14b, [rip + given]
        mov     [r14], eax              # #PF, not present, a store: error code 2

        mov     r13d, 73                # I: INT n pushes no error code, whatever n is
        int     13

        mov     al, 84                  # T
        pushfq
        or      qword ptr [rsp], 0x100  # TF: INT n clears it, and is no single step
        popfq
        int     0x30

        push    rsp                     # a stack that is not aligned comes back as it was
        mov     rax, rsp
        sub     rax, [rsp]
        call    flag
        lea     rsi, [rip + given]
next:   mov     al, [rsi]
        test    al, al
        jz      done
        int     0x30
        inc     rsi
        jmp     next
done:   mov     al, [rip + given]
        and     al, 0x7f
        out     0xf4, al
        cli
        hlt

# Who comes here prints a letter, and whether interrupts are on.
divide: mov     al, 68                  # D
        add     qword ptr [rsp], 2
        jmp     tell
opcode: mov     al, 85                  # U
        add     qword ptr [rsp], 2
        jmp     tell
break:  mov     al, 66                  # B
        jmp     tell
protect:
        mov     eax, r13d
        test    r13d, r13d
        jnz     tell
        mov     al, 71                  # G
        add     al, [rsp]               # the error code is 0
        add     rsp, 8
        add     qword ptr [rsp], 3
        jmp     tell
page:   mov     rax, cr2
        cmp     rax, r14
        mov     al, 63                  # '?'
        jne     odd
        mov     al, 80                  # P
odd:    out     0xe9, al
        pop     rax                     # the error code
        add     al, 48
        add     qword ptr [rsp], 3
tell:   out     0xe9, al
        call    flag
        iretq
write:  out     0xe9, al                # by an interrupt gate: interrupts are off
        and     qword ptr [rsp + 16], -0x101
        pushfq
        pop     rax
        and     eax, 0x200
        or      r12, rax
        iretq

flag:   pushfq
        pop     rax
        shr     eax, 9
        and     eax, 1
        add     al, 48
        out     0xe9, al
        ret

gates:  .byte   0                       # the vector, the handler, the kind
        .long   divide - gates
        .byte   0x8e, 6
        .long   opcode - gates
        .byte   0x8e, 3
        .long   break - gates
        .byte   0x8f, 13
        .long   protect - gates
        .byte   0x8f, 14
        .long   page - gates
        .byte   0x8e, 0x30
        .long   write - gates
        .byte   0x8e, 0xff

        .align  16
idt:    .skip   0x310
table:  .word   0x30f
        .quad   0
        .align  8
given:  .ascii  "To err is human.\n"
        .skip   47
