# spaces: two programs at the same address, each with memory of its own, and a kernel neither may touch.
#
# Each address space has its own PML4 and tables for the first GiB's program page; the kernel's pages are
# in both, for ring 0 alone. The kernel gives each program a turn by loading CR3.

_start:
        mov     edi, 0x30000            # the first space: PML4, PDPT, PD, PT at 0x30000
        mov     r8d, 0x40000            # its frame
        call    space
        mov     edi, 0x34000            # the second
        mov     r8d, 0x41000
        call    space

        lea     rsi, [rip + program]    # the same program in both frames
        mov     edi, 0x40000
        mov     ecx, 128
        rep     movsb
        lea     rsi, [rip + program]
        mov     edi, 0x41000
        mov     ecx, 128
        rep     movsb
        mov     al, [rip + given]       # with different secrets
        mov     [0x40800], al
        mov     al, [rip + given + 1]
        mov     [0x41800], al

        lea     rbx, [rip + idt]
        lea     rax, [rip + fault]
        lea     rdi, [rbx + 14 * 16]
        mov     dl, 0x8e
        call    gate
        lea     rax, [rip + call_]
        lea     rdi, [rbx + 0x30 * 16]
        mov     dl, 0xee
        call    gate
        mov     [rip + table + 2], rbx
        lidt    [rip + table]
        lea     rax, [rip + kernel_stack_top]
        mov     ebx, 0x11080
        mov     [rbx + 4], rax

        mov     r12d, 4                 # turns
turn:   mov     eax, 0x30000
        test    r12d, 1
        jz      first
        mov     eax, 0x34000
first:  mov     cr3, rax
        push    0x2b
        mov     eax, 0x40000f80         # its stack, in its page
        push    rax
        push    0x202
        push    0x33
        mov     eax, 0x40000000
        push    rax
        iretq

call_:  out     0xe9, al                # the program's letter: its turn is over
        dec     r12d
        lea     rsp, [rip + kernel_stack_top]
        jnz     turn
        mov     al, 10
        out     0xe9, al
        mov     eax, r15d
        out     0xf4, al
        cli
        hlt

fault:  mov     rax, cr2
        mov     ecx, 0x100000
        sub     rax, rcx                # the kernel's first page
        jnz     other
        pop     rax
        inc     r15d
        add     al, 48                  # 5: present, and from ring 3
        out     0xe9, al
        add     qword ptr [rsp], 3
        iretq
other:  mov     al, 63
        out     0xe9, al
        out     0xf4, al

gate:   mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     byte ptr [rdi + 4], 0
        mov     [rdi + 5], dl
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], eax
        ret

# Makes an address space at RDI: the boot tables' first GiB, and at 1 GiB one user page, frame R8.
space:  lea     rax, [rdi + 0x1007]
        mov     [rdi], rax
        mov     rax, [0x13000]          # the kernel's page directory, for ring 0
        mov     [rdi + 0x1000], rax
        lea     rax, [rdi + 0x2007]
        mov     [rdi + 0x1008], rax
        lea     rax, [rdi + 0x3007]
        mov     [rdi + 0x2000], rax
        lea     rax, [r8 + 7]
        mov     [rdi + 0x3000], rax
        ret

# Copied to each program's page. RBX: the page.
program:
        mov     ebx, 0x40000000
        inc     byte ptr [rbx + 0x801]  # its own count
        mov     esi, 0x100000
        mov     dl, [rsi + 0]           # the kernel's memory: a fault, 2 bytes
        nop                             # and this one is skipped with it
        mov     al, [rbx + 0x800]
        add     al, [rbx + 0x801]
        int     0x30

        .align  16
        .skip   256
kernel_stack_top:
idt:    .skip   0x310
table:  .word   0x30f
        .quad   0
        .align  8
given:  .ascii  "Mine, not yours.\n"
        .skip   47
