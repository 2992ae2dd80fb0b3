# Ring 3 of the guest: its ways out, and what it must not do (SDM vol. 3, ch. 5 and 6)

## system_calls [hardware]: SYSCALL and SYSRET, with FMASK and R11
%faults syscall(1) syscall(2)
    jmp enter_user
%user
    mov eax, 1
    syscall
    std
    mov eax, 2
    syscall
    pushfq
    pop rbx
    cld

## syscall_disabled [hardware]: without EFER.SCE SYSCALL is #UD
%faults #UD
    call open_user
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffffe
    wrmsr
    lea rcx, [rip + user]
    jmp enter_user_at_rcx
%user
! syscall
    int 0x48

## sysret_32 [exact]: the 32-bit form enters compatibility mode, at a page that is the kernel's
%ends shutdown
    mov ecx, 0x50000
! .byte 0x0f, 0x07

## privileged_in_user [hardware]: each is #GP in ring 3
%faults #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP #GP
    jmp enter_user
%user
! cli
! sti
! hlt
! wbinvd
! invd
! clts
! rdmsr
! wrmsr
! mov rax, cr0
! mov cr3, rax
! mov rax, dr7
! lgdt [rsp]
! lidt [rsp]
! lldt ax
! ltr ax
! lmsw ax
! invlpg [rax]

## more_privileged_in_user [hardware]: SWAPGS, SYSRET and CR8; STAC is #UD
%faults #GP #GP #GP #GP #UD #UD #UD #UD
    jmp enter_user
%user
! swapgs
! sysretq
! mov cr8, rax
! mov rax, cr8
! .byte 0x0f, 0x01, 0xcb
! .byte 0x0f, 0x01, 0xc1
! .byte 0x0f, 0x01, 0xd0
! .byte 0x0f, 0x34

## ports_in_user [hardware]: IOPL 0 and no bitmap: #GP
%faults #GP #GP #GP #GP
    jmp enter_user
%user
! in al, 0xe9
! out 0xe9, al
    mov edx, 0x3f8
! out dx, eax
    mov rsi, USER_DATA
! outsb

## ports_by_bitmap [hardware]: the TSS's bitmap opens single ports, for the sizes that fit
%faults #GP #GP #GP
    mov word ptr [TSS + 0x66], 0x68
    mov byte ptr [0x11040], 0x90
    lea rdi, [TSS + 0x68]
    mov eax, 0xff
    mov ecx, 0x28
    rep stosb
    btr dword ptr [TSS + 0x68 + 0xe8 / 8], 1
    btr dword ptr [TSS + 0x68 + 0x80 / 8], 0
    btr dword ptr [TSS + 0x68 + 0x80 / 8], 1
    and byte ptr [0x11045], 0xfd
    mov eax, 0x40
    ltr ax
    jmp enter_user
%user
    in al, 0x80
    in ax, 0x80
! in eax, 0x80
    in al, 0xe9
! in al, 0xe8
    mov edx, 0x4000
! in al, dx

## ports_by_iopl [hardware=always]: IOPL 3 lets ring 3 use every port, and CLI
    call open_user
    lea rcx, [rip + user]
    push 0x2b
    push USER_STACK
    push 0x3202
    push 0x33
    push rcx
    iretq
%user
    in al, 0x80
    cli
    pushfq
    pop rbx
    sti
    pushfq
    pop rcx

## silent_in_user [hardware]: silent instructions show the guest's own state
    jmp enter_user
%user
    pushfq
    pop rax
    sgdt [USER_DATA]
    mov rbx, [USER_DATA + 2]
    sidt [USER_DATA]
    str cx
    smsw edx
    sldt esi
    mov edi, cs
    mov ebp, ss
    push 0x3202
    popfq
    pushfq
    pop r8
    mov r9d, 0x10
    lar r9d, r9d
    mov r10d, 0x33
    lar r10d, r10d
    mov r9d, 0x2b
    lsl r11d, r9d
    verr r9w

## cpuid_in_user [hardware]: the platform's CPU, in ring 3 too
    jmp enter_user
%user
    mov eax, 1
    xor ecx, ecx
    cpuid
    mov r8, rax
    mov r9, rcx
    xor eax, eax
    cpuid

## tsc_disabled [exact]: CR4.TSD keeps RDTSC for ring 0
%faults #GP #GP
    mov rax, cr4
    or eax, 4
    mov cr4, rax
    rdtsc
    jmp enter_user
%user
! rdtsc
! rdtscp

## kernel_memory_in_user [hardware]: supervisor pages are out of reach: #PF with U
%faults #PF(5) #PF(7) #PF(4) #PF(6) #PF(0x15)
    jmp enter_user
%user
    mov ecx, 0x50000
! mov al, [rcx]
! mov [rcx], al
    xor ecx, ecx
! mov al, [rcx]
! mov [rcx], al
    mov ecx, 0x50000
! jmp rcx

## kernel_sees_first [hardware]: a page that the kernel has touched is still closed to the user
%faults #PF(5) #PF(7)
    mov rax, [0x50000]
    mov [0x50000], rax
    jmp enter_user
%user
    mov ecx, 0x50000
! mov rax, [rcx]
! mov [rcx], rax

## gates_from_user [hardware]: INT asks for the gate's DPL; INT3 and the DPL 3 gates let it in
%faults #BP 0x40 0x41 #GP(0x212) #GP(0x82) #GP(0x6a) #BP
    jmp enter_user
%user
    int3
    int 0x40
    int 0x41
! int 0x42
! int 0x10
! int 13
    .byte 0xcd, 3

## segments_in_user [hardware]: the selectors that ring 3 may load, and the null selector in SS
%faults #GP(0x18) #GP(0x18) #GP(0x10) #GP #GP(0x30)
    jmp enter_user
%user
    mov eax, 0x2b
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov ds, eax
    mov gs, eax
    mov eax, 0x18
! mov ds, eax
! mov fs, eax
    mov eax, 0x10
! mov es, eax
    xor eax, eax
! mov ss, eax
    mov eax, 0x33
    mov fs, eax
! mov ss, eax

## far_transfers_in_user [hardware]: to its own ring, never inwards
%faults #GP(0x10) #GP(0x10)
    jmp enter_user
%user
    push 0x33
    lea rax, [rip + u_first]
    push rax
    retfq
u_first:
    mov ebx, cs
    mov rcx, rsp
    push 0x2b; push rcx; push 0x202; push 0x33
    lea rax, [rip + u_second]
    push rax
    iretq
u_second:
    mov rbp, rsp
    push 0x10; push rax
! retfq
    mov rsp, rbp
    push 0x18; push rcx; push 2; push 0x10; push rax
! iretq
    mov rsp, rbp

## outward_return [hardware]: RETFQ to ring 3 clears the data segments that ring 3 may not have
    call open_user
    mov eax, 0x18
    mov fs, eax
    push 0x2b
    push USER_STACK
    push 0x33
    lea rax, [rip + user]
    push rax
    retfq
%user
    mov eax, ds
    mov ebx, es
    mov ecx, fs
    mov edx, ss

## alignment_check [exact]: AC and AM in ring 3: every misaligned operand is #AC
%faults #AC #AC #AC
    jmp enter_user
%user
    pushfq
    or dword ptr [rsp], 0x40000
    popfq
! mov eax, [rsp - 7]
    mov ecx, USER_DATA + 0x101
! mov eax, [rcx]
! mov [rcx], ax
    mov al, [rcx]
    pushfq
    and dword ptr [rsp], 0xfffbffff
    popfq
    mov eax, [rcx]

## trap_flag_in_user [hardware]: #DB after each instruction, and after a system call's return
%faults #DB #DB #DB #DB #DB #DB
    jmp enter_user
%user
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    mov eax, 3
    inc eax
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    nop

## floating_in_user [hardware]: SSE and x87 in ring 3
    jmp enter_user
%user
    mov eax, 3
    cvtsi2sd xmm0, eax
    sqrtsd xmm1, xmm0
    mulsd xmm1, xmm0
    cvttsd2si rbx, xmm1
    fld1
    fldpi
    faddp
    fstp qword ptr [USER_DATA]
    mov rcx, [USER_DATA]

## user_stack_fault [hardware]: the frame goes to RSP0, so a bad user stack does no harm
%faults #PF(6) #SS #PF(6)
    jmp enter_user
%user
    mov rbx, rsp
    mov esp, 0x800
! push rax
    mov rsp, 0x8000000000000000
! push rax
    mov esp, 0x800
! call v_user
v_user:
    mov rsp, rbx

## user_int_stack [hardware]: interrupts from ring 3 switch to RSP0, with SS null
    jmp enter_user
%user
    int 0x40

## debug_registers [exact]: DR0-3, 6, 7; 4 and 5 stand for 6 and 7 unless CR4.DE
%faults #UD #GP
    mov rax, dr6
    mov rbx, dr7
    mov ecx, 0x1234
    mov dr0, rcx
    mov rdx, dr0
    mov rsi, dr4
    mov rax, cr4
    or eax, 8
    mov cr4, rax
! mov rdi, dr4
    mov rcx, -1
! mov dr7, rcx
    mov ecx, 0x400
    mov dr7, rcx

## int_n_vectors_in_user [hardware]: INT 0x80 and others without a gate are #GP, not system calls
%faults #GP(0x402) #GP(0x7fa)
    jmp enter_user
%user
    mov eax, 60
! int 0x80
! int 0xff

## nested_task_in_user [hardware=always]: NT makes IRETQ #GP in ring 3, too
%faults #GP
    jmp enter_user
%user
    pushfq
    or dword ptr [rsp], 0x4000
    popfq
    lea rax, [rip + over]
    mov rbx, rsp
    push 0x2b
    push rbx
    push 0x202
    push 0x33
    push rax
! iretq
over:
    mov rsp, rbx

## exchange_in_user: the same in ring 3, with U
%faults #PF(6) #PF(7) #PF(5)
    jmp enter_user
%user
    mov ecx, 0x400000
    mov edx, 0x50000
! xchg [rcx], rax
! xchg [rdx], rax
! mov rax, [rdx]
