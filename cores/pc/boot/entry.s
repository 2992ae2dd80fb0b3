# The loader's second half, in long mode and on the platform's own page tables: it sets the rest of
# the boot state.

.equ RUNS, 0x10100                      # {u32 address, u32 sectors, u32 LBA, u32 0} ..., sectors 0
.equ FPU, 0x10500                       # FXSAVE64 image
.equ STACK, 0x10800
.equ BOOT_RIP, 0x10fc0                  # parameters, u64 each
.equ BOOT_RSP, 0x10fc8
.equ RAM_END, 0x10fd0

_start:
        mov     eax, 0x18
        mov     ss, ax
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     esp, STACK
        fxrstor64 [FPU]
        xor     eax, eax
        lldt    ax
        mov     cr8, rax
        mov     cr2, rax
        mov     dr0, rax
        mov     dr1, rax
        mov     dr2, rax
        mov     dr3, rax
        mov     eax, 0x400
        mov     dr7, rax
        mov     eax, 0xffff0ff0
        mov     dr6, rax
        mov     eax, 0x40
        ltr     ax

# Zero all RAM outside the program: the BIOS has left data in it.
        xor     eax, eax
        mov     edi, 0x16000
        mov     ecx, (0xa0000 - 0x16000) / 8
        rep     stosq
        mov     ebx, RUNS
        mov     edi, 0x100000
gap:    mov     ecx, [rbx]
        cmp     dword ptr [rbx + 4], 0
        jne     bounded
        mov     ecx, [RAM_END]
bounded:
        sub     ecx, edi                # whole pages
        shr     ecx, 3
        rep     stosq
        mov     ecx, [rbx + 4]
        shl     ecx, 9
        add     edi, ecx
        add     ebx, 16
        test    ecx, ecx
        jnz     gap

        lea     rsi, [rip + registers]
        mov     edi, 6
        xor     edx, edx
register:
        lodsd
        mov     ecx, eax
        xor     eax, eax
        wrmsr
        dec     edi
        jnz     register
        jmp     last

registers:                              # KERNEL_GS_BASE STAR LSTAR CSTAR FMASK, and the clock
        .long   0xc0000102, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0x10

# The flags first: nothing after this changes them. Then the loader erases itself, up to here.
last:   push    2
        popfq
        mov     edi, RUNS
        mov     ecx, last - RUNS
        mov     eax, 0
        rep     stosb
        mov     edi, 0x10000
        mov     edx, 0
        mov     ebx, 0
        mov     ebp, 0
        mov     esi, 0
        mov     r8d, 0
        mov     r9d, 0
        mov     r10d, 0
        mov     r11d, 0
        mov     r12d, 0
        mov     r13d, 0
        mov     r14d, 0
        mov     r15d, 0
        mov     esp, [BOOT_RSP]
        jmp     qword ptr [BOOT_RIP]
