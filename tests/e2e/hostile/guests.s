## syscall-every-number: every system call number, i386's and x32's too, by SYSCALL from ring 0
    mov ecx, 0xc0000082
    lea rax, [rip + caught]
    xor edx, edx
    wrmsr
    xor ebx, ebx
    lea r15, [rip + next]
try:
    mov eax, ebx
    mov edi, 1
    mov esi, 0x100000
    mov edx, 16
    mov r10d, 0x22
    mov r8, -1
    xor r9d, r9d
    syscall
next:
    inc ebx
    cmp ebx, 470
    jb try
    bts ebx, 30
    cmp ebx, 0x40000000 + 560
    jb try

## user-syscall-every-number [budget=20000]: the same from ring 3, where the host's own programs stand
    lea r14, [rip + user]
    jmp to_user
user:
    xor ebx, ebx
    lea r15, [rip + next]
    jmp try
next:
    inc ebx
    cmp ebx, 470
    jae finish
    lea r14, [rip + try]
    jmp to_user
try:
    mov eax, ebx
    mov edi, 1
    mov esi, 0x100000
    mov edx, 16
    mov r10d, 0x22
    syscall
    jmp next

## int80-every-number: the 32-bit way into Linux
    xor ebp, ebp
    lea r15, [rip + next]
try:
    mov eax, ebp
    mov ebx, 1
    mov ecx, 0x100000
    mov edx, 16
    int 0x80
next:
    inc ebp
    cmp ebp, 470
    jb try

## sysenter-every-number: and the third
    xor ebx, ebx
    lea r15, [rip + next]
try:
    mov eax, ebx
    mov ebp, 0x100000
    sysenter
next:
    inc ebx
    cmp ebx, 470
    jb try

## every-interrupt [seconds=3]: INT of all 256 vectors, from ring 3, through gates that allow it
    lea r14, [rip + user]
    jmp to_user
user:
    lea r15, [rip + next]
    xor ebp, ebp
    jmp at
next:
    inc ebp
    cmp ebp, 256
    jae finish
    lea r14, [rip + at]
    jmp to_user
at:
    lea rax, [rip + ints]
    lea rax, [rax + rbp * 4]
    jmp rax
%more
ints:
{ints}

## jumps [ends=error]: into the stub, the vsyscall page, kernel space, nowhere; by JMP, CALL, RET and IRETQ
    lea r12, [rip + places]
    lea r15, [rip + called]
each:
    mov rbx, [r12]
    jmp rbx
called:
    lea r15, [rip + returned]
    call rbx
returned:
    lea r15, [rip + interrupted]
    push rbx
    ret
interrupted:
    lea r15, [rip + next]
    push 0x18
    push STACK
    push 2
    push 0x10
    push rbx
    iretq
next:
    lea r15, [rip + called]
    add r12, 8
    lea rax, [rip + places_end]
    cmp r12, rax
    jb each
%more
{places}

## touches: reads, writes, stack and string accesses at the same places
    lea r12, [rip + places]
each:
    mov rbx, [r12]
    lea r15, [rip + w]
    mov rax, [rbx]
w:  lea r15, [rip + s]
    mov [rbx], rax
s:  lea r15, [rip + m]
    mov rsp, rbx
    push rax
m:  lea r15, [rip + f]
    mov rsp, STACK
    mov rsi, rbx
    mov rdi, rbx
    mov ecx, 64
    rep movsq
f:  lea r15, [rip + next]
    fxsave [rbx]
next:
    add r12, 8
    lea rax, [rip + places_end]
    cmp r12, rax
    jb each
%more
{places}

## stub-mapped: the guest's own tables map the host's stub, and reach at most for that
    mov rbx, TABLES
    mov rdi, rbx
    xor eax, eax
    mov ecx, 512 * 4
    rep stosq
    mov rax, [0x12000]
    mov [rbx], rax
    lea rax, [rbx + 0x1003]
    mov rcx, {stub}
    shr rcx, 39
    mov [rbx + rcx * 8], rax
    lea rdi, [rbx + 0x1000]
    mov eax, 0x83                   # 1 GiB pages, all at 0
    mov ecx, 512
    rep stosq
    mov cr3, rbx
    mov rbx, {stub}
    mov rax, [rbx]
    mov [rbx], rax
    call rbx

## flags: every flag there is by POPFQ, alone and together; then by IRETQ
    lea r12, [rip + table]
    lea r15, [rip + next]
each:
    push [r12]
    popfq
    nop
    mov rax, [rsp + 1]
    pushfq
next:
    lea r15, [rip + after]
    push 0x18
    push STACK
    push [r12]
    push 0x10
    lea rax, [rip + after]
    push rax
    iretq
after:
    mov rsp, STACK
    push 2
    popfq
    lea r15, [rip + next]
    add r12, 8
    lea rax, [rip + table_end]
    cmp r12, rax
    jb each
%more
table: .quad 0x100, 0x40000, 0x4000, 0x44100, 0x3000, 0x20000, 0x200000, 0x180000, 0x10000, 0x254dd5
       .quad -1, 0xffffffff, 0x8000, 0x2a, 0x700
table_end:

## user-flags: the same flags set from ring 3
    lea r12, [rip + table]
each:
    lea r15, [rip + next]
    lea r14, [rip + user]
    jmp to_user
user:
    push [r12]
    popfq
    nop
    mov rax, [rsp + 1]
    pushfq
    ud2
next:
    add r12, 8
    lea rax, [rip + table_end]
    cmp r12, rax
    jb each
%more
table: .quad 0x100, 0x40000, 0x4000, 0x44100, 0x3000, 0x20000, 0x200000, 0x180000, 0x10000, 0x254dd5
       .quad -1, 0xffffffff, 0x8000, 0x2a, 0x700
table_end:

## debug-registers: breakpoints on everything, then general detect
    lea r15, [rip + a]
    lea rax, [rip + finish]
    mov dr0, rax
    mov rax, {stub}
    mov dr1, rax
    mov rax, 0xffffffffff600000
    mov dr2, rax
    mov dr3, rsp
a:  lea r15, [rip + b]
    mov eax, 0xffff07ff
    mov dr7, rax
    push rax
    pop rcx
    nop
b:  lea r15, [rip + c]
    mov rax, -1
    mov dr6, rax
    mov dr7, rax
    mov rax, cr4
    or eax, 8
    mov cr4, rax
    mov rax, dr4
c:  lea r15, [rip + d]
    mov eax, 0x2400
    mov dr7, rax
    mov rax, dr0
d:  lea r15, [rip + e]
    xor eax, eax
    mov dr7, rax
e:

## int3-storm [ends=budget]: INT3, INT1, INTO's byte, UD2 and HLT's neighbours without end
    lea r15, [rip + a]
a:  lea r15, [rip + b]
    int3
b:  lea r15, [rip + c]
    .byte 0xf1
c:  lea r15, [rip + d]
    .byte 0xce
d:  lea r15, [rip + a]
    ud2

## faults-without-end [ends=budget]: the handler returns to what faults
    lea r15, [rip + again]
again:
    xor eax, eax
    mov [rax], al

## divide-without-end [ends=budget]: the same of ring 3
    lea r15, [rip + again]
again:
    lea r14, [rip + user]
    jmp to_user
user:
    xor eax, eax
    div eax

## no-handlers [ends=shutdown]: a fault where there is no IDT
    lidt [rip + nowhere]
    ud2
%more
nowhere: .short 0
 .quad 0

## stack-nowhere [ends=shutdown]: a fault with RSP in a hole
    mov qword ptr [TSS + 0x24], 8
    ud2

## stack-noncanonical [ends=shutdown]: and with one that is no address
    mov rax, 0x800000000000
    mov [TSS + 0x24], rax
    ud2

## stack-kernel [ends=shutdown]: and in the host kernel's half
    mov qword ptr [TSS + 0x24], -0x7f000000
    mov rsp, [TSS + 0x24]
    push rax

## idt-in-device [ends=shutdown]: the IDT on the VGA screen
    lidt [rip + there]
    ud2
%more
there: .short 4095
 .quad 0xb8000

## idt-in-hole [ends=shutdown]: and where nothing answers
    lidt [rip + there]
    int 0x20
%more
there: .short 4095
 .quad 0xa0000

## gdt-in-device [ends=shutdown,exit]: descriptors from the screen
    lgdt [rip + there]
    mov ax, 0x18
    mov ss, ax
    push 0x10
    lea rax, [rip + finish]
    push rax
    retfq
%more
there: .short 0xffff
 .quad 0xb8000

## tss-in-device [ends=shutdown,exit]: the ring 0 stack comes from the screen
    mov rax, 0x00008b0b80000067
    mov [TABLES + 0x40], rax
    mov qword ptr [TABLES + 0x48], 0
    btr dword ptr [TABLES + 0x44], 9
    mov rsi, 0x11000
    mov edi, TABLES
    mov ecx, 8
    rep movsq
    lgdt [rip + there]
    mov ax, 0x40
    ltr ax
    lea r14, [rip + user]
    mov qword ptr [TSS + 0x24], 0
    jmp to_user
user:
    ud2
%more
there: .short 0x4f
 .quad TABLES

## tables-recursive [ends=exit,error,shutdown]: every entry of the PML4 is the PML4
    mov rbx, TABLES
    mov rdi, rbx
    lea rax, [rbx + 7]
    mov ecx, 512
    rep stosq
    mov rax, [0x12000]
    mov [rbx], rax
    mov cr3, rbx
{walk_places}

## tables-cycle [ends=exit,error,shutdown]: four tables, each entry the next one, the last the first
    mov rdi, TABLES
    mov edx, 4
level:
    lea rax, [rdi + 0x1007]
    cmp edx, 1
    jne fill
    mov eax, TABLES + 7
fill:
    mov ecx, 512
    rep stosq
    dec edx
    jnz level
    mov rax, [0x12000]
    mov [TABLES], rax
    mov eax, TABLES
    mov cr3, rax
{walk_places}

## tables-map-everything [seconds=2 ends=exit,budget]: every canonical page is one of 2 MiB of RAM
    call everything
    mov rbx, [rip + stride]
    lea r15, [rip + next]
each:
    mov rax, [rbx]
    mov [rbx + 8], rax
next:
    add rbx, [rip + stride]
    cmp rbx, [rip + most]
    jb each
%more
stride: .quad 0x1000000000
most:   .quad 0x7e0000000000
{everything}

## tables-many-pages [ends=exit,budget seconds=6]: more pages than the host has mappings for
    call everything
    mov rbx, 0x8000000000
    mov ebp, 34000
each:
    mov al, [rbx]
    mov [rbx], al
    add rbx, 0x3000
    dec ebp
    jnz each
%more
{everything}

## tables-executable-everywhere [seconds=3 ends=exit,error,budget]: runs at a thousand addresses
    call everything
    mov dword ptr [0x180000], 0xc3
    mov rbx, 0x8000180000
    mov ebp, 1000
each:
    call rbx
    mov rax, 0x1040200000
    add rbx, rax
    dec ebp
    jnz each
%more
{everything}

## cr3-in-hole [ends=shutdown]: page tables on the VGA screen
    mov eax, 0xb8000
    mov cr3, rax
    nop

## cr3-beyond-ram [ends=shutdown]: page tables where nothing answers
    mov rax, 0xfffffff000
    mov cr3, rax
    nop

## cr3-reserved [ends=exit,shutdown]: physical addresses that no CPU has
    lea r15, [rip + finish]
    mov rax, 0x7ffffffffffff000
    mov cr3, rax
    nop

## physical-nowhere: pages of device memory, beyond RAM, and with reserved bits
    mov rbx, 0x14000
    lea r12, [rip + frames]
each:
    mov rax, [r12]
    mov [rbx + 0x800], rax          # 0x20000000
    invlpg [0x20000000]
    lea r15, [rip + b]
    mov rax, [0x20000000]
    mov [0x20000008], rax
b:  lea r15, [rip + c]
    mov al, 0xcc
    mov ecx, 40
    mov edi, 0x20000000
    rep stosb
c:  lea r15, [rip + next]
    mov eax, 0x20000000
    call rax
next:
    add r12, 8
    lea rax, [rip + frames_end]
    cmp r12, rax
    jb each
%more
frames: .quad 0x83, 0xfffe00083, 0xffffe00083, 0x7ffffffe00083, 0x1fe083, 0x40000083, 0xffffffffffe00083
frames_end:

## far-to-32-bit [ends=exit,error]: RETFQ to a 32-bit code segment of the guest's own
    mov rax, 0x00cffa000000ffff
    mov [0x11020], rax
    push 0x23
    lea rax, [rip + there]
    push rax
    retfq
there:
    mov eax, 20
    int 0x80

## far-to-linux-32 [ends=exit,error]: to 0x23, which the host's own GDT has, without having one
    push 0x23
    lea rax, [rip + finish]
    push rax
    lea r15, [rip + b]
    retfq
b:  lea r15, [rip + c]
    ljmp [rip + far]
c:  lea r15, [rip + d]
    lcall [rip + far]
d:  push 0x2b
    push USER_STACK
    push 2
    push 0x23
    push rax
    lea r15, [rip + finish]
    iretq
%more
far: .long 0x100000
 .short 0x23

## user-far-to-linux-32 [ends=exit,error]: the same from ring 3
    lea r15, [rip + b]
    lea r14, [rip + u1]
    jmp to_user
u1: push 0x23
    lea rax, [rip + u1]
    push rax
    retfq
b:  lea r15, [rip + c]
    lea r14, [rip + u2]
    jmp to_user
u2: ljmp [rip + far]
c:  lea r15, [rip + d]
    lea r14, [rip + u3]
    jmp to_user
u3: lcall [rip + far]
d:  lea r15, [rip + finish]
    lea r14, [rip + u4]
    jmp to_user
u4: push 0x2b
    push USER_STACK
    push 2
    push 0x23
    push rax
    iretq
%more
far: .long 0x100000
 .short 0x23

## user-to-32-bit [ends=exit,error]: ring 3 goes to a 32-bit segment that the guest does have
    mov rax, 0x00cffa000000ffff
    mov [0x11020], rax
    lea r15, [rip + finish]
    lea r14, [rip + u]
    jmp to_user
u:  push 0x23
    lea rax, [rip + there]
    push rax
    retfq
there:
    mov eax, 20
    int 0x80
    jmp there

## selectors: every selector into every segment register, from ring 0
    xor ebx, ebx
each:
    lea r15, [rip + b]
    mov ds, bx
    mov es, bx
b:  lea r15, [rip + c]
    mov fs, bx
    mov gs, bx
c:  lea r15, [rip + d]
    mov ss, bx
d:  lea r15, [rip + next]
    lldt bx
    lar eax, ebx
next:
    add ebx, 7
    cmp ebx, 0x200
    jb each

## fs-gs-bases: bases at the stub, the kernel and nowhere
    lea r12, [rip + places]
each:
    mov rax, [r12]
    mov rdx, rax
    shr rdx, 32
    lea r15, [rip + b]
    mov ecx, 0xc0000100
    wrmsr
    inc ecx
    wrmsr
    mov rax, fs:[0]
b:  lea r15, [rip + c]
    mov gs:[8], rax
c:  lea r15, [rip + next]
    rep movsb
next:
    add r12, 8
    lea rax, [rip + places_end]
    cmp r12, rax
    jb each
%more
{places}

## spin [ends=budget]: it never stops
here: jmp here

## spin-interrupts-off [ends=budget]: nor can anybody ask it to
    cli
here: pause
    jmp here

## fill-ram [ends=shutdown]: overwrites all of RAM, itself and its page tables included
    lea rsi, [rip + body]
    mov edi, 0x3f0000
    mov ecx, 32
    rep movsb
    mov eax, 0x3f0000
    jmp rax
body:
    mov rdi, 0x10000
    mov rax, -1
    mov ecx, 0x3e0000 / 8
    rep stosq
    jmp body

## fill-ram-backwards [ends=shutdown]: the same, from its own code down
    mov edi, 0x3fff00
    mov eax, 0xcccccccc
    std
    mov rcx, -1
    rep stosd

## paravirtual: descriptors with absurd lengths, addresses and operations
    lea r12, [rip + table]
each:
    mov rsi, r12
    mov edi, TABLES
    mov ecx, 4
    rep movsq
    mov edx, 0x5e4
    mov eax, TABLES
    out dx, eax
    add r12, 32
    lea rax, [rip + table_end]
    cmp r12, rax
    jb each
    lea r12, [rip + edges]
edge:
    mov eax, [r12]
    out dx, eax
    add r12, 4
    lea rax, [rip + edges_end]
    cmp r12, rax
    jb edge
%more
table:
 .quad 1, 0, -1, 0
 .quad 1, 0x100000, -1, 0
 .quad 1, 0x100000, 0x8000000000000000, 0
 .quad 1, -1, 1, 0
 .quad 1, 0xa0000, 0x20000, 0
 .quad 1, 0x9ffff, 2, 0
 .quad 2, 0x100000, -1, 0
 .quad 2, 0x100000, 0x80000000000000, -1
 .quad 2, 0x100000, 1, -1
 .quad 3, 0, 0xffffffff, 0
 .quad 3, 0x100000, -1, 1
 .quad 4, -1, -1, -1
 .quad 0, 0, 0, 0
 .quad -1, -1, -1, -1
 .quad 0xffffffff, 0x100000, 1, 1
 .quad 1, TABLES, 64, 0
 .quad 2, TABLES, 1, 0
table_end:
edges: .long 0, 1, -1, 0x9fff1, 0xa0000, 0xb8000, 0xbffff, 0x3fffe1, 0x3ffff0, 0x400000, 0x7fffffff
edges_end:

## ports [budget=30000 seconds=4]: ports of all kinds, read and written with ones in each width
    xor edx, edx
each:
    lea ecx, [rdx - 0xf1]           # not the exit port
    cmp ecx, 3
    jbe next
    lea ecx, [rdx - 0x601]          # nor the power button
    cmp ecx, 3
    jbe next
    in al, dx
    mov al, -1
    out dx, al
    in ax, dx
    in eax, dx
    mov eax, 0xffffdfff
    out dx, eax
next:
    add edx, 3
    cmp edx, 0x610
    jb each
    add edx, 0x7f
    cmp edx, 0x10000
    jb each

## ata-storm [budget=30000 seconds=4]: random commands and counts to a disk that may not be there
    mov ebx, 12345
    mov ebp, 300
each:
    imul ebx, ebx, 1103515245
    add ebx, 12345
    mov eax, ebx
    shr eax, 16
    mov edx, eax
    shr edx, 8
    and edx, 7
    or edx, 0x1f0
    out dx, al
    in al, dx
    mov edx, 0x1f0
    mov edi, 0x200000
    mov ecx, 300
    rep insw
    mov esi, 0x200000
    mov ecx, 77
    rep outsd
    dec ebp
    jnz each

## timer-storm [ends=budget]: PIT at its highest rate, CMOS at 8 kHz, every line open
    mov al, 0x11                    # PICs at 0x20 and 0x28
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    xor eax, eax
    out 0x21, al
    out 0xa1, al
    mov al, 0x34
    out 0x43, al
    mov al, 2
    out 0x40, al
    xor eax, eax
    out 0x40, al
    mov al, 0x0b
    out 0x70, al
    mov al, 0x72
    out 0x71, al
    mov al, 0x0a
    out 0x70, al
    mov al, 0x23
    out 0x71, al
    sti
here:
    inc rax
    jmp here

## timer-unacknowledged [ends=budget]: and the lines never acknowledged, with HLT between
    mov al, 0x30
    out 0x43, al
    mov al, 1
    out 0x40, al
    xor eax, eax
    out 0x40, al
    lea r15, [rip + here]
    mov al, 0x34
    out 0x43, al
    mov al, 1
    out 0x40, al
    xor eax, eax
    out 0x40, al
    out 0x21, al
here:
    sti
    mov al, 0x20
    out 0x20, al
    hlt
    jmp here

## uart-storm [seconds=3]: loopback and interrupts, fast
    mov edx, 0x3f9
    mov al, 0xf
    out dx, al
    mov edx, 0x3fc
    mov al, 0x1b
    out dx, al
    mov ebp, 2000
    mov edx, 0x3f8
each:
    out dx, al
    in al, dx
    dec ebp
    jnz each

## control-registers: every bit of CR0, CR4, CR8 and EFER, one at a time and all together
    xor ebx, ebx
each:
    mov ecx, ebx
    mov eax, 1
    shl rax, cl
    mov r8, rax
    lea r15, [rip + b]
    mov rax, cr0
    mov r9, rax
    xor rax, r8
    test r8d, 0x80000001
    jnz b
    mov cr0, rax
b:  mov cr0, r9
    lea r15, [rip + c]
    mov rax, cr4
    mov r9, rax
    xor rax, r8
    mov cr4, rax
c:  mov cr4, r9
    lea r15, [rip + d]
    mov cr8, r8
d:  lea r15, [rip + next]
    mov ecx, 0xc0000080
    rdmsr
    xor eax, r8d
    wrmsr
    xor eax, r8d
    wrmsr
next:
    xor eax, eax
    mov cr8, rax
    inc ebx
    cmp ebx, 64
    jb each

## msrs: reads and writes MSRs of the host's, SYSENTER's and the debug ones
    lea r12, [rip + table]
each:
    lea r15, [rip + b]
    mov ecx, [r12]
    rdmsr
b:  lea r15, [rip + next]
    mov ecx, [r12]
    mov eax, -1
    mov edx, -1
    wrmsr
next:
    add r12, 4
    lea rax, [rip + table_end]
    cmp r12, rax
    jb each
%more
table: .long 0x10, 0x1b, 0x3a, 0x8b, 0x174, 0x175, 0x176, 0x1d9, 0x277, 0x6e0, 0x830, 0xda0
       .long 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102
       .long 0xc0000103, 0x4b564d00, 0xffffffff
table_end:

## patch-race [ends=exit,budget,shutdown]: writes SYSCALL and others over code that runs next
    lea r12, [rip + bytes]
    mov ebp, 200
    lea r15, [rip + next]
each:
    mov eax, [r12]
    mov dword ptr [rip + slot], eax
    mov eax, 20
slot:
    nop
    nop
    nop
    nop
    nop
next:
    mov dword ptr [rip + slot], 0x90909090
    add r12, 4
    lea rax, [rip + bytes_end]
    cmp r12, rax
    jb again
    lea r12, [rip + bytes]
again:
    dec ebp
    jnz each
%more
{bytes}

## patch-race-pages [ends=exit,budget,shutdown]: the same across a page boundary
    mov ebp, 200
    lea r12, [rip + bytes]
each:
    lea r15, [rip + next]
    mov edi, 0x200ffe
    mov eax, [r12]
    mov dword ptr [rdi], eax
    mov byte ptr [rdi + 4], 0xc3
    mov eax, 20
    call rdi
next:
    mov rsp, STACK
    add r12, 4
    lea rax, [rip + bytes_end]
    cmp r12, rax
    jb again
    lea r12, [rip + bytes]
again:
    dec ebp
    jnz each
%more
{bytes}

## patch-race-alias [ends=exit,budget,shutdown]: code written through another address of the same page
    mov qword ptr [0x14010], 0x200083
    mov qword ptr [0x14018], 0x200083    # 0x400000 and 0x600000 are 0x200000
    mov rax, cr3
    mov cr3, rax
    mov ebp, 300
    lea r12, [rip + bytes]
each:
    lea r15, [rip + next]
    mov edi, 0x600000
    mov esi, 0x400000
    mov byte ptr [rdi + 8], 0xc3
    mov dword ptr [rdi + 4], 0x90909090
    mov dword ptr [rdi], 0x90909090
    mov eax, 20
    call rsi
    mov eax, [r12]
    mov dword ptr [rdi], eax
    mov eax, 20
    call rsi
next:
    mov rsp, STACK
    add r12, 4
    lea rax, [rip + bytes_end]
    cmp r12, rax
    jb again
    lea r12, [rip + bytes]
again:
    dec ebp
    jnz each
%more
{bytes}

## user-patch-race [ends=exit,budget,shutdown]: in ring 3, in a loop that is hot before it changes
    lea r12, [rip + bytes]
each:
    lea r15, [rip + next]
    lea r14, [rip + user]
    jmp to_user
user:
    mov ecx, 200
hot:
    nop
    nop
    nop
    nop
    dec ecx
    jz next
    cmp ecx, 100
    jne hot
    mov eax, [r12]
    mov dword ptr [rip + hot], eax
    mov eax, 20
    jmp hot
next:
    lea r15, [rip + onward]
    ud2
onward:
    mov dword ptr [rip + hot], 0x90909090
    add r12, 4
    lea rax, [rip + bytes_end]
    cmp r12, rax
    jb each
%more
{bytes}

## ret-into-the-middle [ends=exit,budget,shutdown]: a SYSCALL that stands inside another instruction
    mov ecx, 0xc0000082
    lea rax, [rip + caught]
    xor edx, edx
    wrmsr
    mov ebp, 50
each:
    lea r15, [rip + next]
    call outer
    lea rax, [rip + outer + 1]
    push rax
    mov eax, 20
    ret
outer:
    mov eax, 0x909c050f
    ret
next:
    mov rsp, STACK
    dec ebp
    jnz each

## rep-ram [ends=error,budget]: REP with RCX = 2**63, over RAM that the tables repeat for ever
    call endless
    mov rdi, 0x8000000000
    mov rcx, 0x8000000000000000
    mov al, 0xcc
    rep stosb
%more
{endless}

## rep-one-page [ends=error,budget]: LODSB and SCASB that find nothing in the same page over and over
    call endless
    mov rsi, 0x8000000000
    mov rcx, 0x8000000000000000
    rep lodsq
%more
{endless}

## rep-faults: REP with RCX = 2**63 over all RAM, both ways, until it faults
    lea r15, [rip + a]
    mov rcx, 0x8000000000000000
    mov edi, 0x200000
    rep stosb
a:  lea r15, [rip + b]
    std
    mov rcx, -1
    mov edi, 0x2ffff8
    mov esi, 0x3ffff8
    rep lodsq
b:  lea r15, [rip + c]
    mov rcx, -1
    mov esi, 0x200000
    mov edi, 0x200000
    repe cmpsb
c:  lea r15, [rip + d]
    mov rcx, 0x8000000000000001
    mov esi, 0x300000
    mov edi, 0x200000
    rep movsq
d:  lea r15, [rip + e]
    mov rcx, 0x4000000000000000
    mov edi, 0x200000
    mov eax, 0x55
    repne scasd
e:

## rep-mmio [seconds=3]: the same over the VGA hole, that other addresses lead to as well
    mov rdi, TABLES
    mov rax, 0xa0007
fill:
    stosq
    add eax, 0x1000
    cmp eax, 0xc0007
    jne fill
    mov qword ptr [0x14800], TABLES + 7    # 0x20000000: 32 pages, and no more
    lea r15, [rip + a]
    mov rcx, 0x8000000000000000
    mov edi, 0x20000000
    rep stosb
a:  lea r15, [rip + b]
    mov rcx, -1
    mov esi, 0x20000000
    rep lodsd
b:  lea r15, [rip + c]
    mov rcx, -1
    mov esi, 0x20000000
    mov edi, 0x20000ff9
    rep movsq
c:  lea r15, [rip + d]
    std
    mov rcx, 0x8000000000000000
    mov edi, 0x2001ffff
    mov esi, 0x2001ffff
    repe cmpsb
d:  lea r15, [rip + e]
    mov rcx, 0x8000000000000000
    mov esi, 0x20000001
    mov edi, 0x380000
    rep movsq
e:

## rep-ports [seconds=10]: REP INS and OUTS with RCX = 2**63 at ports with and without a device
    lea r12, [rip + table]
each:
    movzx edx, word ptr [r12]
    cld
    lea r15, [rip + b]
    mov rcx, 0x8000000000000000
    mov edi, 0x3f8000
    rep insb
b:  lea r15, [rip + c]
    mov rcx, 0x8000000000000000
    mov esi, 0x3f8000
    rep outsb
c:  lea r15, [rip + d]
    std
    mov rcx, 0x2000
    mov edi, 0x302000
    rep insd
d:  lea r15, [rip + next]
    std
    mov rcx, 0x2000
    mov esi, 0x302000
    rep outsd
next:
    add r12, 2
    lea rax, [rip + table_end]
    cmp r12, rax
    jb each
%more
table: .short 0xe9, 0x3f8, 0x60, 0x40, 0x71, 0x1f0, 0x5e0, 0x5e4, 0x80, 0x20, 0xffff
table_end:

## rep-ports-for-ever [ends=error]: and over RAM without end
    call endless
    mov rdi, 0x8000000000
    mov rcx, 0x8000000000000000
    mov edx, 0x80
    rep insb
%more
{endless}

## console-flood [ends=error]: REP OUTS to the console, without end
    call endless
    mov rsi, 0x8000000000
    mov rcx, 0x8000000000000000
    mov edx, 0xe9
    rep outsb
%more
{endless}
