# Prints the state in which it was entered, a hexadecimal number on each line: what contract.md says of
# it, as far as a guest can see it.

_start:
        mov     [rip + saved], rax
        mov     [rip + saved + 8], rcx
        mov     [rip + saved + 16], rdx
        mov     [rip + saved + 24], rbx
        mov     [rip + saved + 32], rsp
        mov     [rip + saved + 40], rbp
        mov     [rip + saved + 48], rsi
        mov     [rip + saved + 56], rdi
        mov     [rip + saved + 64], r8
        mov     [rip + saved + 72], r9
        mov     [rip + saved + 80], r10
        mov     [rip + saved + 88], r11
        mov     [rip + saved + 96], r12
        mov     [rip + saved + 104], r13
        mov     [rip + saved + 112], r14
        mov     [rip + saved + 120], r15
        fxsave  [rip + fpu]
        pushfq
        pop     qword ptr [rip + saved + 128]
        mov     rax, [rsp]              # "as if called, with 0 there"
        mov     [rip + saved + 136], rax
        lea     rsi, [rip + saved]
        mov     ebp, 18
        call    numbers

        .irp    register, cr0, cr2, cr3, cr4, cr8, dr0, dr3, dr6, dr7
        mov     rax, \register
        call    number
        .endr
        .irp    register, cs, ss, ds, es, fs, gs
        mov     eax, \register
        call    number
        .endr
        str     eax
        call    number
        sldt    eax
        call    number

        .irp    msr, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084
        mov     ecx, \msr
        call    model_specific
        .endr
        .irp    msr, 0xc0000100, 0xc0000101, 0xc0000102
        mov     ecx, \msr
        call    model_specific
        .endr

        sgdt    [rip + table]
        call    descriptor_table
        sidt    [rip + table]
        call    descriptor_table

        movzx   eax, word ptr [rip + fpu]       # FCW
        call    number
        movzx   eax, word ptr [rip + fpu + 2]   # FSW
        call    number
        movzx   eax, byte ptr [rip + fpu + 4]   # FTW, abridged
        call    number
        mov     eax, [rip + fpu + 24]           # MXCSR
        call    number
        lea     rsi, [rip + fpu + 160]          # XMM0-XMM15
        mov     ecx, 256
        call    sum

        mov     esi, 0x10000            # boot information: RAM, program; not its disk; flags
        mov     ebp, 3
        call    numbers
        mov     eax, [0x10028]
        call    number
        mov     esi, 0x11000            # GDT and TSS, then the page tables
        mov     ecx, 0x1000
        call    sum
        mov     esi, 0x12000
        mov     ecx, 0x4000
        call    sum
        mov     edi, 0x16000            # free RAM: how much of it is not zero
        mov     ecx, 0xa0000 - 0x16000
        call    zeros
        mov     edi, [0x10010]          # from the program's end to this stack
        lea     rcx, [rsp - 64]
        sub     rcx, rdi
        call    zeros

        in      al, 0x21                # the interrupt masks
        movzx   eax, al
        call    number
        in      al, 0xa1
        movzx   eax, al
        call    number
        mov     al, 0xe2                # read back: the status of counter 0
        out     0x43, al
        in      al, 0x40
        and     eax, 0x3f
        call    number
        xor     eax, eax
        out     0xf4, al
        cli
        hlt

numbers:                                # EBP numbers from RSI
        lodsq
        call    number
        dec     ebp
        jnz     numbers
        ret

model_specific:                         # the MSR in ECX
        rdmsr
        mov     eax, eax
        shl     rdx, 32
        or      rax, rdx
        jmp     number

descriptor_table:
        movzx   eax, word ptr [rip + table]
        call    number
        mov     rax, [rip + table + 2]
        jmp     number

zeros:                                  # 0 if RCX bytes from RDI are, else how much is left
        shr     rcx, 3
        xor     eax, eax
        repe    scasq
        setne   al
        add     rax, rcx
        jmp     number

sum:                                    # of RCX bytes from RSI, each weighed by its place
        xor     ebx, ebx
each:   movzx   eax, byte ptr [rsi]
        imul    rbx, rbx, 31
        add     rbx, rax
        inc     rsi
        dec     rcx
        jnz     each
        mov     rax, rbx

number:                                 # RAX; uses RCX, RDX
        mov     ecx, 16
        mov     rdx, rax
digit:  rol     rdx, 4
        mov     al, dl
        and     al, 15
        cmp     al, 10
        jb      decimal
        add     al, 'a' - '0' - 10
decimal:
        add     al, '0'
        out     0xe9, al
        dec     ecx
        jnz     digit
        mov     al, 10
        out     0xe9, al
        ret

        .balign 16
fpu:    .space  512
saved:  .space  144
table:  .space  10
