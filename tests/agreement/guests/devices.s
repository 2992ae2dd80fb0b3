# Ports, MMIO, interrupts and time

## port_sizes: IN and OUT in every form; unknown ports read all ones
    in al, 0x80
    out 0x80, al
    in ax, 0x80
    out 0x80, ax
    in eax, 0x80
    out 0x80, eax
    mov edx, 0x1234
    in eax, dx
    out dx, ax
    mov ebx, eax
    in al, 0xe9
    mov edx, 0x3fd
    in al, dx

## uart_output: the serial line is the console too
    mov edx, 0x3f8
    mov al, 'H'
    out dx, al
    mov al, 'i'
    out dx, al
    mov edx, 0x3fd
    in al, dx

## string_output: OUTS with and without REP, both directions, with a segment override
    mov edx, 0xe9
    lea rsi, [rip + words]
    outsb
    mov ecx, 4
    rep outsb
    xor ecx, ecx
    rep outsb
    std
    mov ecx, 3
    rep outsb
    cld
    mov rbx, rsi
%more
words: .ascii "abcdefgh"

## string_input [hardware]: INS stores where RDI points, page by page
%faults #PF(2)
    mov edx, 0x80
    mov edi, 0x50000
    insb
    mov ecx, 5
    rep insw
    mov rbx, rdi
    mov edi, 0x51000 - 6
    mov ecx, 4
    rep insd
    mov rsi, [0x51000]
    mov edi, 0x400000 - 4
    mov ecx, 3
! rep insd

## power_off: 0x2000 to 0x604
%ends poweroff
    mov edx, 0x604
    mov eax, 0x2000
    out dx, ax
    hlt

## exit_status: the byte written to 0xF4 is the exit status
    mov eax, 0x2a
    out 0xf4, al
    hlt

## halt_for_ever: HLT with IF clear
%ends halted
    cli
    hlt

## halt_without_events: HLT with IF set, but nothing that could wake it
%ends halted
    sti
    hlt

## screen: the VGA text screen under every kind of access
    mov edi, 0xb8000
    mov ax, 0x0741
    mov [rdi], ax
    mov eax, [rdi]
    add word ptr [rdi], 1
    lea rdi, [rdi + 160]
    mov ax, 0x0742
    mov ecx, 100
    rep stosw
    mov dword ptr [0xb8010], 0x07440743
    or byte ptr [0xb8010], 4
    xchg [0xb8012], bx
    movzx ecx, byte ptr [0xb8010]
    push [0xb8010]
    pop qword ptr [0xb8018]
    cmp byte ptr [0xb8010], 0x47
    sete dl
    inc byte ptr [0xb8010]
    bts dword ptr [0xb8020], 3
    lock xadd [0xb8012], bx

## screen_by_sse: XMM registers from and to the screen
    mov rax, 0x0744074307420741
    mov [0xb8000], rax
    movups xmm0, [0xb8000]
    paddb xmm0, xmm0
    movups [0xb8010], xmm0
    fld qword ptr [0xb8000]
    fstp qword ptr [0xb8020]

## screen_strings: REP MOVS to, from and within the screen, down and up
    mov esi, 0x100000
    mov edi, 0xb8000
    mov ecx, 100
    rep movsd
    mov esi, 0xb8000
    mov edi, 0x50000
    mov ecx, 50
    rep movsq
    mov esi, 0xb8050
    mov edi, 0xb8000
    mov ecx, 40
    rep movsw
    std
    mov edi, 0xb8000 + 100
    mov ecx, 10
    mov al, 0x20
    rep stosb
    cld
    mov edi, 0xb8000
    mov al, 0x20
    mov ecx, 200
    repne scasb
    mov rbx, rcx

## hole: the rest of 0xA0000-0xBFFFF reads all ones and forgets
    mov esi, 0xa0000
    mov rax, [rsi]
    mov [rsi], rbx
    mov rbx, [rsi]
    mov rcx, [0xbfff8]
    mov rdx, [0xa0000 - 4]
    mov rdi, [0xc0000 - 4]
    mov dword ptr [0xb8000 - 2], 0x41424344
    mov ebp, [0xb8000 - 2]

## sti_shadow [exact]: an interrupt waits for the instruction after STI
    mov ebx, 1
    mov ecx, 100
    call start_timer
    mov ecx, 300
wait:
    dec ecx
    jnz wait
    sti
    cli
    mov rax, [rip + interrupts]
    sti
    nop
    cli
    mov rbx, [rip + interrupts]

## mov_ss_shadow [exact]: the same after MOV SS and POP SS
    mov ecx, 100
    call start_timer
    mov ecx, 300
wait:
    dec ecx
    jnz wait
    mov eax, 0x18
    sti
    mov ss, eax
    cli
    mov rbx, [rip + interrupts]

## timer: interrupts arrive while the guest computes
    mov ecx, 1500
    call start_timer
    xor eax, eax
    sti
wait:
    cmp qword ptr [rip + interrupts], 2
    jb wait
    cli
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx

## timer_wakes: HLT sleeps until the next tick
    mov ecx, 1500
    call start_timer
    sti
wait:
    hlt
    cmp qword ptr [rip + interrupts], 2
    jb wait
    cli
    xor ebx, ebx

## timer_in_user [hardware]: an interrupt leaves ring 3 and comes back to it
    mov ecx, 1500
    call start_timer
    or byte ptr [0x15000 + 8 * 0x50], 4
    jmp enter_user
%user
    mov ecx, 900
turn:
    dec ecx
    jnz turn

## string_not_interrupted [exact]: a device waits for the end of a REP
    mov ecx, 50
    call start_timer
    sti
    mov edi, 0x50000
    mov ecx, 5000
    rep stosb
    cli
    mov rbx, [rip + interrupts]

## masked_line: a masked line does not interrupt, a specific EOI clears its bit
    mov ecx, 100
    call start_timer
    mov al, 0xff
    out 0x21, al
    mov ecx, 200
wait:
    dec ecx
    jnz wait
    sti
    nop
    cli
    mov rbx, [rip + interrupts]
    xor eax, eax

## spurious [exact]: a request that is gone at acknowledgement becomes IRQ 7
    mov ebx, 0x10
    call start_pic
    mov edx, 0x3fc
    mov al, 8
    out dx, al
    mov edx, 0x3f9
    mov al, 2
    out dx, al
    xor eax, eax
    out dx, al
    sti
    nop
    cli
    mov rbx, [rip + interrupts]

## uart_interrupt: the transmitter's empty register interrupts by IRQ 4
    mov ebx, 0x10
    call start_pic
    mov edx, 0x3fc
    mov al, 8
    out dx, al
    mov edx, 0x3f9
    mov al, 2
    out dx, al
    sti
wait:
    cmp qword ptr [rip + interrupts], 0
    je wait
    cli
    mov edx, 0x3fa
    in al, dx
    mov rbx, [rip + interrupts]

## uart_receives [input=ab]: bytes typed come in one by one
    mov edx, 0x3fd
first:
    in al, dx
    test al, 1
    jz first
    mov edx, 0x3f8
    in al, dx
    mov ebx, eax
    mov edx, 0x3fd
second:
    in al, dx
    test al, 1
    jz second
    mov edx, 0x3f8
    in al, dx

## keyboard [input=aB]: make and break codes through port 0x60
    xor ebx, ebx
    mov ecx, 6
again:
    in al, 0x64
    test al, 1
    jz again
    in al, 0x60
    shl rbx, 8
    mov bl, al
    loop again
    xor eax, eax

## keyboard_interrupt [input=a]: IRQ 1 wakes a halted CPU
    mov ebx, 2
    call start_pic
    sti
wait:
    hlt
    in al, 0x60
    cmp qword ptr [rip + interrupts], 2
    jb wait
    cli

## virtual_time [exact]: RDTSC counts 1000 a tick; writing the TSC shifts it
    rdtsc
    mov ebx, eax
    rdtscp
    sub eax, ebx
    mov esi, eax
    mov ecx, 0x10
    rdmsr
    mov eax, 5
    xor edx, edx
    wrmsr
    rdtsc

## cpuid [hardware]: the platform's own CPU, on every core
    mov eax, 0
    cpuid
    mov r8, rbx
    mov r9, rcx
    mov r10, rdx
    mov eax, 1
    cpuid
    mov r11, rdx
    mov rsi, rcx
    mov eax, 0x80000001
    xor ecx, ecx
    cpuid
    mov rdi, rdx
    mov eax, 0x40000000
    cpuid

## cpuid_other_leaves [hardware]: leaves that the platform does not have are zero
    mov eax, 7
    xor ecx, ecx
    cpuid
    mov rsi, rbx
    mov eax, 0xd
    cpuid
    mov rdi, rax
    mov eax, 0x80000008
    cpuid

## paravirtual_console: one exit for a whole text
    mov edx, 0x5e0
    in eax, dx
    mov ebx, eax
    lea rax, [rip + request]
    mov edx, 0x5e4
    out dx, eax
    mov ecx, [rip + request + 4]
    mov dword ptr [rip + request], 99
    out dx, eax
    mov esi, [rip + request + 4]
%more
.align 8
request: .long 1, 7
    .quad text, 5, 0
text: .ascii "hello"

## small_ram [ram=2]: 2 MiB of RAM, and nothing behind
%faults #PF
    mov rax, [rdi]
    mov ecx, 0x200000
! mov rbx, [rcx]
    mov rcx, [rcx - 8]

## large_ram [ram=512 full]: 512 MiB, used at its far end
    mov rax, [rdi]
    mov ecx, 0x1ffffff0
    mov rbx, [rcx]
    mov [rcx], rax
    mov rdx, [rcx]

## task_priority: CR8 can be read back, and keeps interrupts of the PIC's no longer than IF
    mov eax, 5
    mov cr8, rax
    mov rbx, cr8
    xor ecx, ecx
    mov cr8, rcx

## interrupt_window [hardware]: a pending interrupt comes when IF is set, but for one instruction after STI
    call pend
    sti
    nop
    nop
    cli
    mov r8, [rip + interrupts]
    call pend
    sti
    cli
    mov r9, [rip + interrupts]
    pushfq
    or dword ptr [rsp], 0x200
    popfq
    cli
    mov r10, [rip + interrupts]
    call pend
    pushfq
    or dword ptr [rsp], 0x200
    mov eax, ss
    mov ss, eax
    popfq
    cli
    mov r11, [rip + interrupts]
    call pend
    mov rax, rsp
    push 0x18
    push rax
    push 0x202
    push 0x10
    lea rax, [rip + back]
    push rax
    iretq
back:
    cli
    mov rbp, [rip + interrupts]
    call pend
    sti
    hlt
    cli
    mov rsi, [rip + interrupts]
%more
pend:
    mov ebx, 0x10
    call start_pic
    mov edx, 0x3f9
    mov al, 0
    out dx, al
    mov al, 2
    out dx, al
    ret
