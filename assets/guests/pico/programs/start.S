# Where a program begins, and its system calls: the number in EAX, arguments in EBX, ECX, EDX. INT 0x40 is the
# only way from ring 3 into the kernel that a program can choose.

        .globl  _start
_start: call    main                    # with argc and argv, as exec.c has put them on the stack
        mov     %eax, %ebx
        mov     $2, %eax                # exit
        int     $0x40

        .macro  call_ name, number
        .globl  \name
\name:  mov     $\number, %eax
        jmp     kernel
        .endm

        call_   fork, 1
        call_   exit, 2
        call_   wait, 3
        call_   exec, 4
        call_   open, 5
        call_   close, 6
        call_   read, 7
        call_   write, 8
        call_   pipe, 9
        call_   dup, 10
        call_   getpid, 11
        call_   kill, 12
        call_   ps, 13
        call_   slices, 14
        call_   power_off, 15

kernel: push    %ebx                    # C wants it back
        mov     8(%esp), %ebx
        mov     12(%esp), %ecx
        mov     16(%esp), %edx
        int     $0x40
        pop     %ebx
        ret
