# escape: tries to get out, in seven ways, and prints what became of each: the vector of the exception
# that it earned, in hexadecimal, or a dash if nothing happened.
#
# All its exceptions come to the handlers below. That is the point: whatever this program does, the
# answer comes from its own machine.

_start: lea     rdi, [rip + idt]        # all 32 exceptions, each with a stub of 16 bytes below
        lea     rbx, [rip + stubs]
        mov     ecx, 32
gate:   mov     [rdi], bx
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        mov     rax, rbx
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], rax
        add     rdi, 16
        add     rbx, 16
        loop    gate
        lidt    [rip + idtr]
        mov     rbp, rsp

system_call:                            # 1: Linux, write(1, text, 5), please
        lea     r12, [rip + interrupt]
        mov     eax, 1
        mov     edi, 1
        lea     rsi, [rip + text]
        mov     edx, 5
        syscall                         # goes to where *this* kernel has said: LSTAR, still 0
        call    survived
interrupt:                              # 2: the same, by the old door
        call    report
        lea     r12, [rip + pointer]
        mov     eax, 4
        mov     ebx, 1
        int     0x80
        call    survived
pointer:                                # 3: read the memory of the process that holds us
        call    report
        lea     r12, [rip + kernel]
        mov     rax, 0x7ffff7dd0000     # where Linux puts libraries and stacks
        mov     rax, [rax]
        call    survived
kernel:                                 # 4: read the host's kernel
        call    report
        lea     r12, [rip + jump]
        mov     rax, 0xffffffff81000000
        mov     rax, [rax]
        call    survived
jump:                                   # 5: jump into the host's kernel
        call    report
        lea     r12, [rip + vsyscall]
        mov     rax, 0xffffffff81000000
        jmp     rax
vsyscall:                               # 6: jump to a page that every Linux process has
        call    report
        lea     r12, [rip + trap_flag]
        mov     rax, 0xffffffffff600000
        jmp     rax
trap_flag:                              # 7: speak to the debugger: a breakpoint
        call    report
        lea     r12, [rip + finish]
        int3
        call    survived
finish: call    report
        mov     al, 10
        out     0xe9, al
        xor     eax, eax
        out     0xf4, al

survived:
        mov     ebx, '-' - '0'
        jmp     r12

report: cmp     ebx, 9                  # EBX: the vector, as one hexadecimal digit
        jbe     digit
        add     ebx, 'a' - '9' - 1
digit:  lea     eax, [rbx + '0']
        out     0xe9, al
        ret

vector: mov     rsp, rbp                # leave the exception's frame behind, and go on
        jmp     r12

        .balign 16
stubs:  mov     ebx, 0
        jmp     vector
        .balign 16
        mov     ebx, 1
        jmp     vector
        .balign 16
        mov     ebx, 2
        jmp     vector
        .balign 16
        mov     ebx, 3
        jmp     vector
        .balign 16
        mov     ebx, 4
        jmp     vector
        .balign 16
        mov     ebx, 5
        jmp     vector
        .balign 16
        mov     ebx, 6
        jmp     vector
        .balign 16
        mov     ebx, 7
        jmp     vector
        .balign 16
        mov     ebx, 8
        jmp     vector
        .balign 16
        mov     ebx, 9
        jmp     vector
        .balign 16
        mov     ebx, 10
        jmp     vector
        .balign 16
        mov     ebx, 11
        jmp     vector
        .balign 16
        mov     ebx, 12
        jmp     vector
        .balign 16
        mov     ebx, 13
        jmp     vector
        .balign 16
        mov     ebx, 14
        jmp     vector
        .balign 16
        mov     ebx, 15
        jmp     vector
        .balign 16
        .space  256                     # 16 to 31 never come here

text:   .ascii  "free!"
idtr:   .short  511
idt_at: .quad   idt
        .balign 16
idt:    .space  512
