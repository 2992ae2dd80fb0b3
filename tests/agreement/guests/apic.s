# The local APIC and the I/O APIC. Each guest first maps their pages, in a directory of its own.

## apic_registers: loads of every width, CR8 and TPR in step, and what is not there
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov eax, [rdi + 0x20]
    mov rbx, [rdi + 0x30]
    movzx ecx, byte ptr [rdi + 0xf0]
    movups xmm0, [rdi + 0x350]
    movq rdx, xmm0
    mov dword ptr [rdi + 0x80], 0x5c
    mov rsi, cr8
    mov r8d, 9
    mov cr8, r8
    mov ebp, [rdi + 0x80]
    mov byte ptr [rdi + 0x80], 1
    mov r9d, [rdi + 0x80]
    mov r10d, [rdi + 0x3f0]
    mov dword ptr [rdi + 0x280], 0
    mov r11d, [rdi + 0x280]
    xor r8d, r8d
    mov cr8, r8

## apic_timer_once [exact]: HLT ends when the one-shot timer's count does, at 1 GHz by 16
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0x3e0], 3
    mov dword ptr [rdi + 0x320], 0x2a
    mov dword ptr [rdi + 0x380], 5000
    rdtsc
    mov ebx, eax
    mov ecx, [rdi + 0x390]
    sti
    hlt
    cli
    mov ebp, [rdi + 0x110]
    mov dword ptr [rdi + 0xb0], 0
    rdtsc
    sub eax, ebx
    mov esi, [rdi + 0x390]
    mov rbx, [rip + interrupts]

## apic_timer_wakes: the periodic timer wakes the CPU again and again
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0x3e0], 0xb
    mov dword ptr [rdi + 0x320], 0x2002b
    mov dword ptr [rdi + 0x380], 2000000
wait:
    sti
    hlt
    cli
    mov dword ptr [rdi + 0xb0], 0
    cmp qword ptr [rip + interrupts], 3
    jb wait
    mov dword ptr [rdi + 0x320], 0x1002b
    xor eax, eax

## apic_timer_interrupts: it interrupts a guest that computes
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0x3e0], 0xb
    mov dword ptr [rdi + 0x320], 0x2b
    mov dword ptr [rdi + 0x380], 3000000
    sti
wait:
    cmp qword ptr [rip + interrupts], 1
    jb wait
    cli
    mov dword ptr [rdi + 0xb0], 0

## apic_ipi [hardware]: an IPI to itself waits for the task priority, set as TPR or as CR8
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    sti
    mov eax, 2
    mov cr8, rax
    mov dword ptr [rdi + 0x300], 0x40025
    jmp held
held:
    mov rbx, [rip + interrupts]
    mov ecx, [rdi + 0x210]
    xor eax, eax
    mov cr8, rax
    jmp let
let:
    mov rdx, [rip + interrupts]
    mov esi, [rdi + 0xa0]
    mov dword ptr [rdi + 0xb0], 0
    mov dword ptr [rdi + 0x80], 0x20
    mov dword ptr [rdi + 0x310], 0
    mov dword ptr [rdi + 0x300], 0x26
    jmp held_again
held_again:
    mov rbp, [rip + interrupts]
    mov dword ptr [rdi + 0x80], 0
    jmp let_again
let_again:
    mov r8, [rip + interrupts]
    mov dword ptr [rdi + 0xb0], 0
    cli

## apic_nmi [exact]: an NMI to itself comes whatever IF and the priority say
%faults #NMI #NMI
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0x80], 0xff
    lea r13, [rip + once]
    mov dword ptr [rdi + 0x300], 0x40400
    hlt
once:
    lea r13, [rip + twice]
    mov dword ptr [rdi + 0x300], 0x40400
    hlt
twice:
    mov dword ptr [rdi + 0x80], 0

## apic_base [hardware]: it can be disabled and enabled, and not be moved
%faults #GP #GP
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov ecx, 0x1b
    rdmsr
    mov ebx, eax
    mov eax, 0xfee00100
    wrmsr
    mov esi, [rdi + 0xf0]
    mov eax, 1
    cpuid
    and edx, 0x200
    mov ebp, edx
    mov ecx, 0x1b
    xor edx, edx
    mov eax, 0xfee00900
    wrmsr
    mov r8d, [rdi + 0xf0]
    mov r9d, [rdi + 0x350]
    mov eax, 0xfee01900
! wrmsr
    mov eax, 0xfee00d00
! wrmsr
    rdmsr
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov ebx, edx

## io_apic_edge [input=k]: the keyboard through the I/O APIC, the PICs masked
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb0], 0xfec00083
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov esi, 0xfec00000
    mov dword ptr [rsi], 1
    mov eax, [rsi + 0x10]
    mov dword ptr [rsi], 0x12
    mov dword ptr [rsi + 0x10], 0x21
    mov ebx, [rsi + 0x10]
    in al, 0x60
    mov ecx, eax
    sti
    hlt
    cli
    mov dword ptr [rdi + 0xb0], 0
    in al, 0x60
    mov edx, eax
    mov rbp, [rip + interrupts]

## io_apic_timer [exact]: the PIT is input 2; its level stays until the next tick
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb0], 0xfec00083
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
    mov esi, 0xfec00000
    mov dword ptr [rsi], 0x14
    mov dword ptr [rsi + 0x10], 0x2c
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 4
    out 0x40, al
wait:
    sti
    hlt
    cli
    mov dword ptr [rdi + 0xb0], 0
    cmp qword ptr [rip + interrupts], 3
    jb wait
    rdtsc
