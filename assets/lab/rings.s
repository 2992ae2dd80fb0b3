# rings: a kernel that enters a program in ring 3, which then tries what only a kernel may do.
#
# The program asks for a letter to be printed by INT 0x30. Whatever else it tries is a general protection
# fault of its own, and the kernel's to handle: a VMM must not do for ring 3 what it does for ring 0.

_start:
        mov     ebx, 0x12000            # user pages: bit 2 in all four of the boot tables
        mov     ecx, 4 * 512
user:   test    byte ptr [rbx], 1
        jz      absent
        or      byte ptr [rbx], 4
absent: add     rbx, 8
        dec     ecx
        jnz     user
        mov     rax, cr3
        mov     cr3, rax

        lea     rbx, [rip + idt]
        lea     rax, [rip + protect]
        lea     rdi, [rbx + 13 * 16]
        mov     dl, 0x8e
        call    gate
        lea     rax, [rip + letter]
        lea     rdi, [rbx + 0x30 * 16]
        mov     dl, 0xee                # ring 3 may use it
        call    gate
        lea     rax, [rip + letter]
        lea     rdi, [rbx + 0x31 * 16]
        mov     dl, 0x8e                # and this one not
        call    gate
        mov     [rip + table + 2], rbx
        lidt    [rip + table]
        lea     rax, [rip + kernel_stack_top]
        mov     ebx, 0x11080            # the TSS: RSP0
        mov     [rbx + 4], rax

        lea     rcx, [rip + user_stack_top]
        push    0x2b                    # SS, RSP, RFLAGS, CS, RIP of the program
        push    rcx
        push    0x202
        push    0x33
        lea     rax, [rip + program]
        push    rax
        iretq

gate:   mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     byte ptr [rdi + 4], 0
        mov     [rdi + 5], dl
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], eax
        ret

# In the kernel. A letter; 0 ends.
letter: test    al, al
        jz      leave
        out     0xe9, al
        push    rax
        lea     rax, [rip + kernel_stack_top]
        sub     rax, rsp
        cmp     rax, 48                 # the frame and RAX: the stack was RSP0
        je      right
        mov     al, 33
        out     0xe9, al
right:  pop     rax
        iretq
leave:  mov     eax, r12d
        out     0xf4, al
        cli
        hlt

# #GP: prints the error code's low digits, and goes on R13 bytes behind.
protect:
        pop     r14
        mov     al, 71                  # G
        out     0xe9, al
        mov     rax, r14
        shr     eax, 4
        and     al, 15
        call    digit
        mov     rax, r14
        and     al, 15
        call    digit
        mov     al, 32
        out     0xe9, al
        inc     r12d
        add     [rsp], r13
        iretq
digit:  add     al, 48
        cmp     al, 58
        jb      out
        add     al, 39
out:    out     0xe9, al
        ret

# In ring 3.
program:
        lea     rsi, [rip + given]
        xor     r12d, r12d
next:   mov     al, [rsi]
        test    al, al
        jz      tries
        int     0x30
        inc     rsi
        jmp     next
tries:  mov     r13d, 1
        cli
        hlt
        mov     r13d, 2
        mov     al, 33
        out     0xe9, al
        int     0x31                    # error code 0x18a
        mov     r13d, 3
        mov     rax, cr0
        lidt    [rbx]
        pushfq                          # interrupts are on, and POPF cannot change that
        pop     rax
        mov     rbx, rax
        and     rbx, -0x201
        push    rbx
        popfq
        pushfq
        pop     rbx
        and     eax, ebx
        shr     eax, 9
        and     eax, 1
        add     al, 48
        int     0x30
        mov     eax, cs
        add     al, 32                  # 0x33 + 0x20: 'S'
        int     0x30
        mov     rax, rsp                # its own stack, as it was
        lea     rbx, [rip + user_stack_top]
        sub     rax, rbx
        add     al, 48
        int     0x30
        xor     eax, eax
        int     0x30

        .align  16
        .skip   256
kernel_stack_top:
        .skip   256
user_stack_top:
idt:    .skip   0x320
table:  .word   0x31f
        .quad   0
        .align  8
given:  .ascii  "I may not, so I ask.\n"
        .skip   43
