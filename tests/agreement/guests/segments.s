# Segment registers, descriptor tables and far transfers (SDM vol. 3, ch. 3 and 5)

## segment_loads: selectors go in and come out by every form
    mov eax, ds
    mov bx, es
    xor ecx, ecx
    mov ds, ecx
    mov es, ecx
    mov fs, ecx
    mov gs, ecx
    mov eax, fs
    push fs
    pop gs
    mov eax, 0x2b
    mov es, eax
    mov eax, es
    mov eax, 0x18
    mov ss, eax
    mov ds, eax
    push 0x18
    pop fs
    mov ecx, fs
    mov [rsp - 0x100], ds
    mov dx, [rsp - 0x100]
    mov es, [rsp - 0x100]
    push gs

## load_far_pointers: LSS, LFS and LGS take offset and selector from memory
    mov dword ptr [0x50000], 0x12345678
    mov dword ptr [0x50004], 0x18
    mov dword ptr [0x50008], 0x18
    lfs eax, [0x50000]
    .byte 0x48, 0x0f, 0xb5, 0x1c, 0x25, 0, 0, 5, 0      # lgs rbx, [0x50000]
    lss edx, [0x50000]
    mov ecx, fs

## stored_tables: SGDT, SIDT, SLDT, STR, SMSW to registers and memory
    mov rdi, 0x50000
    sgdt [rdi]
    sidt [rdi + 16]
    mov rax, [rdi + 2]
    movzx ebx, word ptr [rdi + 16]
    mov rcx, -1
    sldt cx
    mov rdx, -1
    str dx
    mov rsi, -1
    smsw si
    smsw ebp
    smsw r8
    sldt [rdi + 32]
    str [rdi + 34]
    smsw [rdi + 36]
    str r9
    sldt r10d
    mov r11, [rdi + 32]

## selector_queries: LAR, LSL, VERR, VERW of good and bad selectors
    mov ecx, 0x10
    lar eax, ecx
    lsl ebx, ecx
    verr cx
    sete r8b
    verw cx
    sete r9b
    mov ecx, 0x18
    lar edx, ecx
    verw cx
    sete r10b
    mov ecx, 0x40
    lar esi, ecx
    lsl edi, ecx
    verr cx
    sete r11b
    mov ecx, 0x58
    lar eax, ecx
    lsl bx, cx
    xor ecx, ecx
    lar eax, ecx
    mov dword ptr [0x50000], 0x2b
    lar ebp, [0x50000]
    verr [0x50000]

## own_gdt: LGDT of a table of its own, and loads from it
%faults #GP(0x38)
    lgdt [rip + gdtr]
    mov eax, 0x20
    mov ds, eax
    mov eax, 0x38
! mov es, eax
    push 0x28
    lea rax, [rip + reloaded]
    push rax
    retfq
reloaded:
    mov eax, cs
    mov ebx, ds
    lgdt [rip + old_gdtr]
    push 0x10
    lea rax, [rip + restored]
    push rax
    retfq
restored:
    mov eax, 0x18
    mov ss, eax
%more
gdtr: .short 0x37
    .quad gdt
old_gdtr: .short 0x4f
    .quad 0x11000
.align 8
gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff, 0

## accessed_bit: loading a segment sets its descriptor's A bit
    and byte ptr [0x1101d], 0xfe
    mov eax, 0x18
    mov ds, eax
    mov rbx, [0x11018]

## local_table: LLDT and a selector with the TI bit
%faults #GP(0x20) #NP(0x48)
    mov eax, 0x20
! lldt ax
    call make_ldt
    lgdt [rip + ldt_gdtr]
    mov eax, 0x48
! lldt ax
    bts qword ptr [rip + ldt_gdt + 0x48], 47
    lldt ax
    sldt ebx
    mov eax, 4
    mov fs, eax
    mov ecx, fs
    xor eax, eax
    mov fs, eax
    lldt ax
%more
make_ldt:
    lea rdi, [rip + ldt_gdt]
    mov esi, 0x11000
    mov ecx, 9
    rep movsq
    lea rax, [rip + ldt]
    mov word ptr [rdi], 0x7
    mov [rdi + 2], ax
    shr eax, 16
    mov [rdi + 4], al
    mov byte ptr [rdi + 5], 0x02
    ret
ldt_gdtr: .short 0x57
    .quad ldt_gdt
.align 8
ldt: .quad 0x00cf93000000ffff
ldt_gdt: .space 0x58

## task_register: LTR wants an available TSS and makes it busy
%faults #GP(0x40) #GP(0x18) #GP
    mov eax, 0x40
! ltr ax
    mov eax, 0x18
! ltr ax
    xor eax, eax
! ltr ax
    mov eax, 0x40
    and byte ptr [0x11045], 0xfd
    ltr ax
    mov rbx, [0x11040]
    str ecx

## far_returns: RETFQ and RETF imm to the same ring
    push 0x10
    lea rax, [rip + first]
    push rax
    retfq
first:
    sub rsp, 16
    push 0x10
    lea rax, [rip + second]
    push rax
    .byte 0x48, 0xca, 0x10, 0x00
second:
    mov eax, cs

## far_jumps_and_calls: through memory; a call pushes CS and RIP
%faults #GP #GP(0x18) #GP(0x58)
    lea rax, [rip + there]
    mov [0x50000], eax
    mov word ptr [0x50004], 0x10
    ljmp [0x50000]
there:
    lea rax, [rip + callee]
    mov [0x50000], eax
    mov rbx, rsp
    .byte 0xff, 0x1c, 0x25, 0, 0, 5, 0
    sub rbx, rsp
    mov word ptr [0x50004], 0
! ljmp [0x50000]
    mov word ptr [0x50004], 0x18
! ljmp [0x50000]
    mov word ptr [0x50004], 0x58
! ljmp [0x50000]
%more
callee:
    mov rcx, [rsp]
    .byte 0xcb

## call_gate: a far call through a gate to the same ring, with a 64-bit target
%faults #NP(0x20)
    call make_gate
    lgdt [rip + gate_gdtr]
    mov dword ptr [0x50000], 0x1234
    mov word ptr [0x50004], 0x20
! .byte 0xff, 0x1c, 0x25, 0, 0, 5, 0
    or byte ptr [rip + gate_gdt + 0x25], 0x80
    .byte 0xff, 0x1c, 0x25, 0, 0, 5, 0
    mov edx, cs
%more
make_gate:
    lea rdi, [rip + gate_gdt]
    mov esi, 0x11000
    mov ecx, 10
    rep movsq
    lea rax, [rip + gated]
    mov [rip + gate_gdt + 0x20], ax
    mov dword ptr [rip + gate_gdt + 0x22], 0x0c000010
    shr rax, 16
    mov [rip + gate_gdt + 0x26], ax
    mov qword ptr [rip + gate_gdt + 0x28], 0
    ret
gated:
    mov rbx, [rsp + 8]
    mov rcx, rsp
    .byte 0x48, 0xcb
gate_gdtr: .short 0x4f
    .quad gate_gdt
.align 8
gate_gdt: .space 0x50

## iret_same_ring: IRETQ pops SS and RSP even when the ring stays
%faults #GP #GP(0x58) #GP(0x58)
    mov rbx, rsp
    push 0x18
    push rbx
    push 0x46
    push 0x10
    lea rax, [rip + returned]
    push rax
    iretq
returned:
    pushfq
    pop rcx
    mov rbx, rsp
    push 0x18; push rbx; push 2; push 0; push rax
! iretq
    mov rsp, rbx
    push 0x18; push rbx; push 2; push 0x58; push rax
! iretq
    mov rsp, rbx
    push 0x58; push rbx; push 2; push 0x10; push rax
! iretq
    mov rsp, rbx

## fs_and_gs: bases by MSR, overrides on loads, stores and strings; SWAPGS
    mov ecx, 0xc0000100
    mov eax, 0x50000
    xor edx, edx
    wrmsr
    mov dword ptr fs:[0x10], 0x1234
    mov eax, fs:[0x10]
    mov ecx, 0xc0000101
    mov eax, 0x51000
    wrmsr
    mov gs:[8], rax
    swapgs
    rdmsr
    mov ebx, eax
    swapgs
    mov esi, 0x10
    mov edi, 0x52000
    movs dword ptr [rdi], dword ptr fs:[rsi]
    mov esi, 8
    lods rax, qword ptr gs:[rsi]
    mov ecx, 2
    xor esi, esi
    rep movs byte ptr [rdi], byte ptr gs:[rsi]
    mov rbx, 8
    mov al, 0
    .byte 0x65, 0xd7
    lea rdx, gs:[8]
    xor eax, eax
    mov fs, eax
    mov ecx, 0xc0000100
    rdmsr

## high_bases: FS and GS bases in the upper half
%faults #PF #PF(2)
    mov ecx, 0xc0000101
    mov eax, 0x50000
    mov edx, 0xffff8000
    wrmsr
    mov eax, 1
    rdmsr
    swapgs
    rdmsr
    mov ebx, eax
    swapgs
! mov rax, gs:[8]
! mov gs:[8], rdx

## selectors_keep_bases: null into FS clears nothing that the platform shows
    mov ecx, 0xc0000100
    mov eax, 0x50000
    xor edx, edx
    wrmsr
    mov eax, 0x18
    mov fs, eax
    rdmsr
