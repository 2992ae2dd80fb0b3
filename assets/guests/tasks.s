# tasks: two programs at ring 3, each alone as far as it can tell.
#
# Both run the same code at 0x40000000 and keep a secret at 0x40001000: the same virtual address,
# another page. The timer takes the CPU from one and gives it to the other, eight times. Then each
# has the kernel print its secret, by a system call, and ends.
#
# What leaves the guest: all that this kernel does to the machine (descriptor tables, MSRs, CR3,
# ports, IRETQ, SYSRET), each timer interrupt, each SYSCALL. On the trap core both rings of this
# guest run in ring 3 of the real CPU. Only the VMM knows which of them is the kernel, and it keeps
# the kernel's pages out of the tasks' reach.

SWITCHES = 8
SLICE    = 600                          # PIT clocks of 838 ns: half a millisecond
CODE     = 0x40000000                   # each task's world: code, data with the secret, stack
DATA     = 0x40001000
STACK    = 0x40002000
TABLES   = 0x20000                      # seven pages a task: PML4 PDPT PD PT, code, data, stack
TABLE    = 7                            # an entry's low bits: present, writable, user
READABLE = 5                            # present, user

_start: call    set_up_interrupts
        call    set_up_system_calls
        xor     ebx, ebx                # make task 0 and task 1
        call    make_task
        inc     ebx
        call    make_task
        call    start_timer
        mov     rax, TABLES
        mov     cr3, rax
        lea     rsp, [rip + contexts]   # enter task 0 as if it had been interrupted before
        jmp     resume

# A task's address space. The first gigabyte is the kernel's, through the page directory that it
# booted with (no USER bit there: ring 3 faults on it). The second gigabyte is the task's own.
make_task:
        imul    edi, ebx, 0x7000
        add     edi, TABLES             # EDI: PML4; then PDPT, PD, PT, code, data, stack follow
        mov     r8d, edi
        mov     ecx, 0x7000 / 8
        xor     eax, eax
        rep     stosq
        lea     eax, [r8 + 0x1000 + TABLE]
        mov     [r8], rax
        lea     eax, [r8 + 0x2000 + TABLE]
        mov     [r8 + 0x1008], rax      # the second gigabyte
        mov     eax, 0x14003
        mov     [r8 + 0x1000], rax      # the first: the boot page directory
        lea     eax, [r8 + 0x3000 + TABLE]
        mov     [r8 + 0x2000], rax
        lea     eax, [r8 + 0x4000 + READABLE]
        mov     [r8 + 0x3000], rax      # code: read and execute
        add     eax, 0x1002 
        mov     [r8 + 0x3008], rax      # data
        add     eax, 0x1000
        mov     [r8 + 0x3010], rax      # stack

        lea     edi, [r8 + 0x4000]
        lea     rsi, [rip + task]
        mov     ecx, offset task_end - task
        rep     movsb
        lea     edi, [r8 + 0x5000]
        lea     rsi, [rip + secrets]
        mov     eax, ebx
        shl     eax, 4
        add     rsi, rax
        mov     ecx, 16
        rep     movsb

# Its context: fifteen registers, then what IRETQ takes: RIP CS RFLAGS RSP SS.
        imul    edi, ebx, 160
        lea     rax, [rip + contexts]
        add     rdi, rax
        mov     eax, CODE
        mov     [rdi + 120], rax
        mov     qword ptr [rdi + 128], 0x33
        mov     qword ptr [rdi + 136], 0x202    # interrupts on
        mov     eax, STACK + 0x1000
        mov     [rdi + 144], rax
        mov     qword ptr [rdi + 152], 0x2b
        ret

# Interrupt 0x20 is the timer. Its gate changes to the stack that the TSS names: the end of the
# running task's context, so that the CPU itself stores the task's RIP, RFLAGS and RSP there.
# An exception (0 to 31) would be a mistake in this program: it ends with status 1.
set_up_interrupts:
        lea     rdi, [rip + idt]
        mov     ecx, 32
        lea     rbx, [rip + mistake]
gates:  call    make_gate
        loop    gates
        lea     rbx, [rip + timer]
        call    make_gate
        lea     rax, [rip + idt]
        mov     [rip + idtr + 2], rax
        lidt    [rip + idtr]
        lea     rax, [rip + contexts + 160]
        mov     [0x11084], rax          # RSP0 in the TSS
        ret

# An interrupt gate at RDI for the handler at RBX; RDI moves to the next.
make_gate:
        mov     rax, rbx
        mov     [rdi], ax               # bits 0-15 of the address
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        shr     rax, 16
        mov     [rdi + 6], ax           # bits 16-31
        shr     rax, 16
        mov     [rdi + 8], rax          # bits 32-63, and four bytes that must be zero
        add     rdi, 16
        ret

mistake:
        mov     al, 1
        out     0xf4, al
        cli
        hlt

set_up_system_calls:
        mov     ecx, 0xc0000081         # STAR: selectors for SYSCALL and SYSRET
        xor     eax, eax
        mov     edx, 0x00200010
        wrmsr
        inc     ecx                     # LSTAR: where SYSCALL goes
        lea     rax, [rip + system_call]
        xor     edx, edx
        wrmsr
        mov     ecx, 0xc0000084         # FMASK: with interrupts off
        mov     eax, 0x200
        wrmsr
        ret

start_timer:
        lea     rsi, [rip + pic_words]  # the two interrupt controllers: vectors 0x20 and 0x28
        mov     ecx, 10
program_pic:
        movzx   edx, byte ptr [rsi]
        mov     al, [rsi + 1]
        out     dx, al
        add     rsi, 2
        loop    program_pic
        mov     al, 0x34                # counter 0, mode 2: again and again
        out     0x43, al
        mov     al, SLICE & 255
        out     0x40, al
        mov     al, SLICE >> 8
        out     0x40, al
        ret

# The timer: store the running task's registers below what the CPU has pushed, take the other's.
timer:  push    rax
        push    rcx
        push    rdx
        push    rbx
        push    rbp
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        push    r12
        push    r13
        push    r14
        push    r15
        mov     al, 0x20                # end of interrupt
        out     0x20, al
        inc     dword ptr [rip + switches]
        cmp     dword ptr [rip + switches], SWITCHES
        jb      switch
        mov     al, 0xff                # enough: no more interrupts
        out     0x21, al

# Give the CPU to the other task: its address space, its kernel stack, its registers.
switch: mov     eax, [rip + current]
        xor     eax, 1
        mov     [rip + current], eax
        imul    ecx, eax, 0x7000
        add     ecx, TABLES
        mov     cr3, rcx
        imul    eax, eax, 160
        lea     rsp, [rip + contexts]
        add     rsp, rax
        lea     rcx, [rsp + 160]
        mov     [0x11084], rcx
resume: pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rbp
        pop     rbx
        pop     rdx
        pop     rcx
        pop     rax
        iretq

# System calls, by RAX: 0 how many switches, 1 print RSI's RDX bytes, 2 end of this task. SYSCALL
# leaves the stack pointer as it was: the kernel's first care is a stack of its own.
system_call:
        mov     [rip + user_rsp], rsp
        lea     rsp, [rip + kernel_stack]
        push    rcx                     # where the task goes on, and its flags
        push    r11
        cmp     eax, 1
        jb      how_many
        je      print
        inc     dword ptr [rip + ended]
        cmp     dword ptr [rip + ended], 2
        jb      switch                  # the other one has yet to end
        mov     eax, SWITCHES
        sub     eax, [rip + switches]   # status 0 if there were exactly as many as planned
        out     0xf4, al
        cli
        hlt
how_many:
        mov     eax, [rip + switches]
        jmp     back
print:  mov     ecx, edx
        mov     edx, 0xe9
        rep     outsb                   # from the task's memory: this is still its address space
back:   pop     r11
        pop     rcx
        mov     rsp, [rip + user_rsp]
        sysretq

# The task, copied to CODE. It reads its secret over and over, until the kernel has switched often
# enough; anything else than the secret it remembers would show.
task:   mov     rsi, DATA
        mov     rbx, [rsi]              # what it remembers, in a register
round:  mov     ecx, 40
read:   cmp     rbx, [rsi]              # what its memory says
        jne     betrayed
        push    rbx                     # a register and the stack, too, are its own
        pop     rax
        cmp     rax, [rsi]
        jne     betrayed
        loop    read
        xor     eax, eax
        syscall
        cmp     eax, SWITCHES
        jb      round
        mov     edx, 16
        jmp     tell
betrayed:
        mov     edx, 4
tell:   mov     eax, 1
        syscall
        mov     eax, 2
        syscall
task_end:

secrets:
        .ascii  "I am swordfish.\n"
        .ascii  "I am nightjar. \n"
pic_words:                              # port, value: ICW1 to ICW4 of both, then the masks
        .byte   0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
        .byte   0x21, 0xfe, 0xa1, 0xff
idtr:   .short  0x20f
        .quad   0
        .balign 16
idt:    .space  0x210
current:
        .long   0
switches:
        .long   0
ended:  .long   0
        .balign 16
contexts:
        .space  320
user_rsp:
        .quad   0
        .space  256
kernel_stack:
