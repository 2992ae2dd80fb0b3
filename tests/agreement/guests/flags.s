# RFLAGS: what shows it, what changes it, and the guest's own trap flag

## pushf_popf: IF and IOPL are the guest's own; reserved bits cannot be set
    stc
    pushfq
    pop rax
    cli
    sti
    pushfq
    pop rbx
    mov ecx, 0x3000
    push rcx
    popfq
    pushfq
    pop rcx
    mov rdx, -1
    and edx, 0xfffffeff
    push rdx
    popfq
    pushfq
    pop rdx
    push 2
    popfq

## pushf_16: the 16-bit forms touch the low half only
    pushfq
    or dword ptr [rsp], 0x200000
    popfq
    pushf
    pop ax
    push 0x0cd7
    .byte 0x66, 0x9d
    add rsp, 6
    pushfq
    pop rcx
    push 2
    popfq

## lahf_sahf: five flags through AH
    mov ah, 0xff
    sahf
    lahf
    mov bl, ah
    xor eax, eax
    sahf
    lahf
    mov bh, ah

## direction: STD turns string instructions round
    lea rsi, [rip + words + 24]
    mov edi, 0x50018
    std
    mov ecx, 4
    rep movsq
    cld
    mov rax, [0x50000]
    lodsq
%more
words: .quad 1, 2, 3, 4

## trap_flag: #DB after each instruction, the one after POPF included
%faults #DB #DB #DB #DB #DB
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    inc eax
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    nop

## trap_flag_and_rep [hardware=always]: #DB after each iteration of a REP, and after a jump
%faults #DB #DB #DB #DB #DB #DB #DB #DB #DB
    mov edi, 0x50000
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    mov ecx, 3
    rep stosb
    jmp over
over:
    mov eax, cs
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    nop

## trap_flag_and_fault: a fault under TF; its handler runs without
%faults #DB #DB #UD #DB #DB #DB
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
! ud2
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq

## trap_flag_and_shld [exact]: an operand that the architecture leaves undefined is kept under TF, too
%faults #DB #DB #DB #DB #DB
    mov ebx, 0x1234
    mov word ptr [0x50000], 0x8765
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    shld word ptr [0x50000], bx, 20
    shrd word ptr [0x50000], bx, 24
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    mov rax, [0x50000]

## trap_flag_and_int: INT clears TF for the handler and IRET brings it back
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    int 0x40
    nop
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq

## alignment_check_flag: AC in ring 0 checks nothing
    pushfq
    or dword ptr [rsp], 0x40000
    popfq
    mov eax, [rip + words_ac + 1]
    mov ecx, 0x50001
    mov [rcx], rax
    pushfq
    pop rdx
    push 2
    popfq
%more
words_ac: .quad 1, 2

## nested_task: NT set makes IRETQ #GP in long mode
%faults #GP
    mov rbx, rsp
    pushfq
    or dword ptr [rsp], 0x4000
    popfq
    push 0x18
    push rbx
    push 2
    push 0x10
    lea rax, [rip + finish]
    push rax
! iretq
    mov rsp, rbx
    push 2
    popfq

## stac_clac: AC by STAC and CLAC in ring 0
    .byte 0x0f, 0x01, 0xcb
    pushfq
    pop rax
    .byte 0x0f, 0x01, 0xca
    pushfq
    pop rbx

## id_flag: the flag that says CPUID exists
    pushfq
    xor dword ptr [rsp], 0x200000
    popfq
    pushfq
    pop rax

## undefined_flags [exact]: flags that the SDM leaves undefined are 0 on every core
    mov eax, 5
    mov ecx, 3
    shl eax, cl
    mul ecx
    imul eax, ecx
    xor edx, edx
    div ecx
    bsf eax, edx
    bsr ebx, ecx
    bt eax, 3
    and eax, ecx
    shld ax, bx, 20
    mov cl, 20
    mov qword ptr [0x50000], 0x1234
    shld [0x50000], ax, cl
    .byte 0x66, 0x0f, 0xc8
    shr al, 9
    rcl eax, 5
    ror ebx, 3
    xor esi, esi
    mov rdi, 0x1122334455667788
    bsf rdi, rsi
    bsr edi, esi
    sar al, 1
    shl bh, 0

## trap_flag_and_sti [hardware]: STI's shadow holds interrupts back, not #DB; nor does LSS
%faults #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    sti
    sti
    cli
    mov eax, ss
    mov ss, eax
    nop
    nop
    mov [0x50000], rsp
    mov dword ptr [0x50008], 0x18
    lss rsp, [0x50000]
    nop
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    nop

## trap_flag_and_ss [hardware]: MOV SS holds #DB back for one instruction, right behind POPF as well; DR6.BS
%faults #DB #DB #DB #DB #DB
    mov eax, ss
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    mov ss, eax
    nop
    mov ss, eax
    nop
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    mov rbx, dr6

## trap_flag_cleared_by_popf: the POPF that clears TF is still trapped behind
%faults #DB #DB
    pushfq
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    popfq
    nop
    nop

## trap_flag_and_retf: #NP of a RETF under TF comes alone, and its handler runs without
%faults #DB #DB #DB #DB #DB #NP(0x20) #DB #DB #DB #DB
    mov rax, [0x11010]
    btr rax, 47
    mov [0x11020], rax
    lea rax, [rip + finish]
    mov rbx, rsp
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    push 0x20
    push rax
    nop
! .byte 0x48, 0xcb
    mov rcx, rsp
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
