# The ways into the guest kernel, and the ways out of it to the program in ring 3.
#
# The machine begins in long mode with the platform's GDT and TSS (cores/pc/boot/long_mode.py). There is
# one kernel stack: the kernel serves one program, with interrupts off.
        .intel_syntax noprefix
        .equ    TSS_STACK, 0x11080 + 4  # where RSP of ring 0 stands (SDM vol. 3, figure 8-11)
        .globl  begin, enter_program, vectors

        .macro  each instruction, registers:vararg
        .irp    register, \registers
        \instruction \register
        .endr
        .endm

# From the loader: RDI is the boot information, RSI what is to be run (struct start).
begin:  lea     rsp, [rip + kernel_stack]
        mov     [TSS_STACK], rsp
        mov     ecx, 0xc0000081         # STAR: SYSCALL loads CS = 0x10, SYSRET CS = 0x33
        xor     eax, eax
        mov     edx, 0x200010
        wrmsr
        inc     ecx                     # LSTAR
        lea     rax, [rip + system_call]
        xor     edx, edx
        wrmsr
        add     ecx, 2                  # FMASK: SYSCALL clears TF, IF, DF and AC
        mov     eax, 0x40700
        wrmsr
        call    main                                            # which ends in enter_program

# enter_program(entry: RDI, stack: RSI): to ring 3, all other registers 0.
enter_program:
        mov     rcx, rdi
        mov     rsp, rsi
        mov     r11d, 2
        .irp    register, eax, ebx, edx, esi, edi, ebp, r8d, r9d, r10d, r12d, r13d, r14d, r15d
        xor     \register, \register
        .endr
        sysretq

# SYSCALL: RAX the number, RDI RSI RDX R10 R8 R9 the arguments, RCX the return address, R11 RFLAGS. The
# program gets back all registers but RAX, RCX and R11, as from Linux.
system_call:
        mov     [rip + program_stack], rsp
        lea     rsp, [rip + kernel_stack]
        each    push, rcx, r11, rdi, rsi, rdx, r10, r8, r9
        mov     rcx, r10                # C has its fourth argument there
        cmp     rax, [rip + number_of_calls]
        jae     missing
        lea     r11, [rip + calls]
        mov     r11, [r11 + rax * 8]
        test    r11, r11
        jz      missing
        call    r11
        jmp     leave
missing:
        mov     rdi, rax
        call    missing_call
leave:  each    pop, r9, r8, r10, rdx, rsi, rdi, r11, rcx
        mov     rsp, [rip + program_stack]
        sysretq

# Exceptions, 16 bytes each; the timer's interrupt is 8. Those without an error code push 0 in its place.
        .set    number, 0
        .align  16
vectors:
        .rept   32
        .align  16
        .if     ((1 << number) & 0x60227c00) == 0               # 10-14, 17, 21, 29 and 30 have one
        push    0
        .endif
        push    number
        jmp     exception
        .set    number, number + 1
        .endr
exception:
        each    push, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
        cld
        mov     rdi, rsp                # struct frame
        call    handle_exception
        each    pop, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
        add     rsp, 16
        iretq

        .bss
        .align  16
program_stack:                          # the program's RSP, during a system call
        .skip   16384 + 16
kernel_stack:
        .section .note.GNU-stack, "", @progbits
