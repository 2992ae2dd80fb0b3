# tour: one of every privileged instruction, as kernels use them.
# Each believes that it rules the computer. On the trap core each faults in ring 3, and the VMM
# does to a virtual CPU what was meant for the real one. A dot is printed after each group.

_start: cli                             # no interrupts, please: the virtual IF
        sgdt    [rip + old_gdt]         # copy the platform's descriptor table, so that it is ours
        mov     rsi, [rip + old_gdt + 2]
        lea     rdi, [rip + gdt]
        mov     ecx, 80
        rep     movsb
        mov     byte ptr [rip + gdt + 0x45], 0x89   # the TSS: available again, not busy
        lea     rax, [rip + gdt]
        mov     [rip + new_gdt + 2], rax
        lgdt    [rip + new_gdt]
        lidt    [rip + new_idt]
        xor     eax, eax
        lldt    ax                      # no local table
        mov     ax, 0x40
        ltr     ax                      # the task register, from our own table
        mov     ax, 0x18
        mov     ds, ax                  # segment loads with a ring-0 selector
        mov     ss, ax
        mov     al, '.'
        out     0xe9, al                # port output, the port in the instruction

        mov     rax, cr0
        or      rax, 8                  # CR0.TS: "tell me of the next use of the FPU"
        mov     cr0, rax
        clts                            # ... never mind
        smsw    ax                      # the oldest way to read CR0; it does not trap by itself
        lmsw    ax
        mov     rax, 0x123000
        mov     cr2, rax
        mov     rbx, cr2
        mov     rax, cr4
        mov     cr4, rax
        mov     eax, 5
        mov     cr8, rax                # the task priority
        mov     rbx, cr8
        mov     rax, cr3
        mov     cr3, rax                # forget all translations
        invlpg  [rip + gdt]             # ... or only one
        wbinvd
        mov     al, '.'
        mov     dx, 0xe9
        out     dx, al                  # port output, the port in DX

        mov     ecx, 0xc0000102         # KERNEL_GS_BASE
        mov     eax, 0x5000
        xor     edx, edx
        wrmsr
        swapgs                          # now GS base is 0x5000
        mov     ecx, 0xc0000101         # GS_BASE
        rdmsr
        swapgs
        rdtsc                           # virtual time
        xor     eax, eax
        cpuid                           # "RingscopeCPU", whatever CPU this really is
        lea     rdi, [rip + vendor]
        mov     [rdi], ebx
        mov     [rdi + 4], edx
        mov     [rdi + 8], ecx
        mov     rsi, rdi
        mov     ecx, 13
        mov     edx, 0xe9
        rep     outsb                   # string output: thirteen bytes, and one exit
        in      al, 0xe9                # port input: the console answers with its own number
        mov     ecx, 4
        rep     insb
        sti
        cli
        hlt                             # nothing can wake it now: the end

old_gdt: .space 10
new_gdt: .short 79
        .quad   0
new_idt: .short 0
        .quad   0
vendor: .ascii  "............\n"
gdt:    .space  80
