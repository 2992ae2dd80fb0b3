# holes: what instructions that should trap, and do not, tell.
#
# An instruction is sensitive if it shows or changes the machine itself: its tables, its flags, its
# ring. Trap-and-emulate needs all of them to fault outside ring 0. On x86 these do not. A guest
# kernel that really runs in ring 3 hears from them about the host, and never notices.
#
# This kernel has made its own tables, with selectors that no host uses, and then prints a line for
# each instruction: its answer in hexadecimal, or #vector if it was refused. Compare the columns
# with --pure, which leaves the holes open: what differs there is a lie that the CPU tells.

_start: cli
        lgdt    [rip + gdtr]            # no segment here is ring 3's: 0x2b and 0x33 must be refused
        lea     rdi, [rip + refusals]   # interrupt gates for the vectors 6, 7, 13, 17 and 32
        lea     rsi, [rip + idt]
gates:  mov     rbx, [rdi]              # vector * 16
        mov     rax, [rdi + 8]          # handler
        add     rbx, rsi
        mov     [rbx], ax
        mov     word ptr [rbx + 2], 0x10
        mov     word ptr [rbx + 4], 0x8e00
        shr     rax, 16
        mov     [rbx + 6], ax
        add     rdi, 16
        cmp     qword ptr [rdi], 0
        jne     gates
        lidt    [rip + idtr]
        mov     ax, 0x50
        lldt    ax
        mov     ax, 0x60
        ltr     ax
        mov     rbp, rsp
        lea     rdi, [rip + answers]    # each test leaves its answer in RAX; STOSQ puts it down

# The tables: where they are, and which selectors are loaded. This is how guests found out VMMs.
        sgdt    [rip + memory]
        mov     rax, [rip + memory + 2]
        stosq
        sidt    [rip + memory]
        mov     rax, [rip + memory + 2]
        stosq
        xor     eax, eax
        sldt    ax
        stosq
        xor     eax, eax
        str     ax
        stosq

# CR0's low half. Task-switched (bit 3) is set here, and the host's is not.
        mov     rax, cr0
        or      eax, 8
        mov     cr0, rax
        smsw    ax
        movzx   eax, ax
        stosq
        lea     r12, [rip + after_sse]  # where a refused test goes on
        xor     eax, eax
        movaps  xmm0, xmm1              # with TS set a kernel expects #NM (7)
after_sse:
        stosq
        clts

# What a descriptor says, by the table in force and for the ring in force.
        mov     ecx, 0x10
        xor     eax, eax
        lar     eax, ecx                # access rights; nothing if it may not know
        and     eax, 0xf0ff00
        stosq
        mov     ecx, 0x18
        xor     eax, eax
        lsl     eax, ecx                # limit
        stosq
        xor     eax, eax
        verr    cx                      # may it be read?
        sete    al
        stosq
        verw    cx                      # ... and written?
        sete    al
        stosq

# The segment registers, read: the ring is in the low two bits of CS.
        xor     eax, eax
        mov     ax, cs
        stosq
        mov     ax, ds
        stosq
        push    fs
        pop     rax
        stosq

# The segment registers, loaded with 0x2b and 0x33, which are user segments on Linux. This GDT has
# nothing at 0x28, and ring 0's code at 0x30: all of these must be refused with #GP (13).
        xor     eax, eax
        lea     r12, [rip + after_mov]
        mov     ecx, 0x2b
        mov     es, cx
after_mov:
        stosq
        xor     eax, eax
        lea     r12, [rip + after_pop]
        push    0x2b
        pop     fs
after_pop:
        stosq
        xor     eax, eax
        lea     r12, [rip + after_lgs]
        lgs     ecx, [rip + far_data]
after_lgs:
        stosq
        xor     eax, eax
        lea     r12, [rip + after_jmp]
        jmp     far ptr [rip + far_jmp]
after_jmp:
        stosq
        mov     rsp, rbp
        xor     eax, eax
        lea     r12, [rip + after_call]
        call    far ptr [rip + far_call]
after_call:
        stosq
        mov     rsp, rbp
        xor     eax, eax
        lea     r12, [rip + after_ret]
        push    0x33
        push    r12
        retfq
after_ret:
        stosq
        mov     rsp, rbp
        xor     eax, eax
        lea     r12, [rip + after_iret]
        push    0x2b
        push    rbp
        push    2
        push    0x33
        push    r12
        iretq
after_iret:
        stosq
        mov     rsp, rbp

# The flags. Interrupts are off: IF (0x200) must be read as 0 ...
        pushfq
        pop     rax
        and     eax, 0x200
        stosq

# ... and POPF must turn them on, for the timer that is waiting.
        lea     rsi, [rip + pic_words]
        mov     ecx, 14
program:
        movzx   edx, byte ptr [rsi]     # port, value
        mov     al, [rsi + 1]
        out     dx, al
        add     rsi, 2
        loop    program
waiting:
        in      al, 0x20                # the interrupts requested
        test    al, 1
        jz      waiting
        push    0x202
        popfq
        mov     ecx, 2000               # it comes at once, or never
came:   cmp     byte ptr [rip + ticks], 0
        loope   came
        cli
        mov     al, 0xff
        out     0x21, al
        movzx   eax, byte ptr [rip + ticks]
        stosq

# AC asks for alignment checks, but only in ring 3: here it must have no effect (else #AC, 17).
        xor     eax, eax
        lea     r12, [rip + after_ac]
        push    0x40002
        popfq
        mov     rcx, [rip + memory + 1]
after_ac:
        push    2
        popfq
        stosq

# Identity and time.
        xor     eax, eax
        cpuid                           # half a name
        mov     rax, rdx
        shl     rax, 32
        or      rax, rbx
        stosq
        rdtsc                           # the one that can be made to trap: later is more
        mov     ebx, eax
        mov     ecx, edx
        rdtsc
        sub     eax, ebx
        sbb     edx, ecx
        sar     edx, 31
        lea     eax, [rdx + 1]
        stosq

# What this platform's CPU does not have is #UD (6), whatever the host's CPU has.
        xor     ecx, ecx
        lea     r12, [rip + after_xgetbv]
        xgetbv
        xor     eax, eax
after_xgetbv:
        stosq
        lea     r12, [rip + after_vector]
        vzeroupper
        xor     eax, eax
after_vector:
        stosq

# The answers, each behind its name.
        lea     rsi, [rip + names]
        lea     rbx, [rip + answers]
line:   mov     ecx, 20
        mov     edx, 0xe9
        rep     outsb
        mov     rax, [rbx]
        add     rbx, 8
        call    print
        mov     al, 10
        out     0xe9, al
        cmp     byte ptr [rsi], 0
        jne     line
        xor     eax, eax
        out     0xf4, al
        cli
        hlt

# Prints RAX: -32 to -1 as a refusal.
print:  test    rax, rax
        jns     number
        cmp     rax, -32
        jl      number
        mov     ecx, eax
        neg     ecx
        mov     al, '#'
        out     0xe9, al
        mov     eax, ecx
number: mov     ecx, 60                 # the shift for the first digit; leading zeros are left out
        mov     rdx, rax
leading:
        mov     rax, rdx
        shr     rax, cl
        jnz     digits
        sub     ecx, 4
        jnz     leading
digits: mov     rax, rdx
        shr     rax, cl
        and     eax, 15
        add     al, '0'
        cmp     al, '9'
        jbe     digit
        add     al, 'a' - '9' - 1
digit:  out     0xe9, al
        sub     ecx, 4
        jns     digits
        ret

# Exceptions: the answer is minus the vector. Interrupts stay off, so no IRETQ is needed.
invalid_opcode:
        mov     rax, -6
        jmp     refused
no_device:
        mov     rax, -7
        jmp     refused
protection:
        mov     rax, -13
        jmp     refused
alignment:
        mov     rax, -17
refused:
        mov     rsp, rbp
        jmp     r12
timer:  push    rax
        inc     byte ptr [rip + ticks]
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq

names:  .ascii  "sgdt                "
        .ascii  "sidt                "
        .ascii  "sldt                "
        .ascii  "str                 "
        .ascii  "smsw                "
        .ascii  "sse with CR0.TS     "
        .ascii  "lar                 "
        .ascii  "lsl                 "
        .ascii  "verr                "
        .ascii  "verw                "
        .ascii  "mov from cs         "
        .ascii  "mov from ds         "
        .ascii  "push fs             "
        .ascii  "mov to es           "
        .ascii  "pop fs              "
        .ascii  "lgs                 "
        .ascii  "far jmp             "
        .ascii  "far call            "
        .ascii  "far ret             "
        .ascii  "iret                "
        .ascii  "pushf               "
        .ascii  "popf                "
        .ascii  "popf with AC        "
        .ascii  "cpuid               "
        .ascii  "rdtsc               "
        .ascii  "xgetbv              "
        .ascii  "vzeroupper          "
        .byte   0

pic_words:                              # controllers: ICW1-4, masks; timer: mode 0, 100 clocks
        .byte   0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
        .byte   0x21, 0xfe, 0xa1, 0xff, 0x43, 0x30, 0x40, 100, 0x40, 0, 0xa1, 0xff
ticks:  .byte   0

        .balign 16
refusals:
        .quad   6*16, invalid_opcode
        .quad   7*16, no_device
        .quad   13*16, protection
        .quad   17*16, alignment
        .quad   32*16, timer
        .quad   0
far_data:
        .long   0
        .short  0x2b
far_jmp:
        .long   after_jmp
        .short  0x33
far_call:
        .long   after_call
        .short  0x33

gdtr:   .short  0x6f
        .quad   gdt
idtr:   .short  0x20f
        .quad   idt
        .balign 16
gdt:    .quad   0, 0
        .quad   0x00af9b000000ffff      # 0x10 kernel code
        .quad   0x00cf93000000ffff      # 0x18 kernel data
        .quad   0, 0
        .quad   0x00af9b000000ffff      # 0x30 ring 0's code, once more
        .quad   0, 0, 0
        .quad   0x0000820110000007, 0   # 0x50 a local table: eight bytes at 0x11000
        .quad   0x0000890110800067, 0   # 0x60 the TSS at 0x11080, not yet busy
idt:    .space  0x210
memory: .space  16
answers:
        .space  256
