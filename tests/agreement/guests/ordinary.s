# Ordinary instructions in their corners: what decoders and translators get wrong

## compare_exchange: 8, 16 bytes and the small ones, hit and miss
    mov qword ptr [0x50000], 5
    mov eax, 5
    mov ecx, 9
    lock cmpxchg [0x50000], rcx
    mov rbx, [0x50000]
    mov eax, 1
    cmpxchg [0x50000], cl
    mov rsi, rax
    mov eax, 9
    xor edx, edx
    mov ebx, 0x11
    mov ecx, 0x22
    lock cmpxchg8b [0x50000]
    mov rdi, [0x50000]
    mov eax, 0x11
    mov edx, 0x23
    cmpxchg8b [0x50000]
    mov rbp, rdx

## compare_exchange_16 [hardware]: CMPXCHG16B, and its #GP when misaligned
    mov qword ptr [0x50000], 1
    mov qword ptr [0x50008], 2
    mov eax, 1
    mov edx, 2
    mov ebx, 3
    mov ecx, 4
    lock cmpxchg16b [0x50000]
    mov rsi, [0x50008]
    cmpxchg16b [0x50000]
    mov rdi, rax

## misaligned_16 [exact]: CMPXCHG16B wants 16-byte alignment
%faults #GP
    mov ecx, 0x50008
! cmpxchg16b [rcx]

## bit_tests_far_away: a register offset reaches beyond the operand, both ways
    mov ecx, 0x50100
    mov eax, 1000
    bts qword ptr [rcx], rax
    mov rbx, [rcx + 120]
    mov rax, -1000
    bts qword ptr [rcx], rax
    mov rdx, [rcx - 128]
    mov ax, -17
    btc word ptr [rcx], ax
    mov esi, [rcx - 4]
    btr dword ptr [rcx], 37
    mov eax, 70
    bt rdx, rax
    setc dil

## enter_and_leave: with and without nesting
    mov rbp, rsp
    enter 32, 0
    mov rax, rbp
    leave
    enter 16, 3
    mov rbx, [rbp - 8]
    leave
    mov rcx, rsp

## loops: LOOP, LOOPE, LOOPNE, JRCXZ, JECXZ
    mov ecx, 3
    xor eax, eax
one:
    inc eax
    loop one
    mov ecx, 5
two:
    dec ecx
    cmp ecx, 2
    loopne two
    mov ebx, ecx
    mov ecx, 5
    xor edx, edx
three:
    cmp edx, 0
    loope three
    jrcxz four
    ud2
four:
    mov rcx, 0x100000000
    jecxz five
    ud2
five:
    mov r8, rcx

## xlat: a table look-up, with and without override
    mov ebx, 0x50000
    mov byte ptr [rbx + 0x42], 0x77
    mov eax, 0x42
    xlatb
    mov rcx, rax

## strings: every string instruction, every size, with every ending
    mov esi, 0x100000
    mov edi, 0x50000
    mov ecx, 500
    rep movsb
    mov edi, 0x50000
    mov ecx, 500
    mov al, 0x90
    repne scasb
    mov rbx, rcx
    mov esi, 0x100000
    mov edi, 0x50000
    mov ecx, 100
    repe cmpsb
    mov rdx, rcx
    mov byte ptr [0x50020], 0x5a
    mov esi, 0x100000
    mov edi, 0x50000
    mov ecx, 100
    repe cmpsd
    mov r8, rcx
    xor ecx, ecx
    rep stosb
    repe cmpsb
    mov ecx, 3
    rep lodsd
    mov r9, rax
    mov edi, 0x50800
    mov ecx, 3
    .byte 0x67, 0xf3, 0xaa
    mov r10, rdi

## rep_without_meaning: REP before what does not repeat
    .byte 0xf3, 0x90
    .byte 0xf3, 0x48, 0x89, 0xc3
    .byte 0xf2, 0x90
    mov rcx, 1
    .byte 0x66, 0xf3, 0x90

## newer_bit_scans [hardware]: TZCNT and LZCNT are BSF and BSR on this platform
    mov eax, 0x50
    .byte 0xf3, 0x0f, 0xbc, 0xd8
    .byte 0xf3, 0x0f, 0xbd, 0xc8
    sete dl

## address_sizes: 32-bit addressing wraps, 8-bit registers with and without REX
    mov rax, 0xffffffff00050000
    mov dword ptr [eax], 0x1234
    mov ebx, [eax + 0]
    lea rcx, [eax - 1]
    lea ecx, [rax + rax * 2]
    mov ah, 0x12
    mov spl, spl
    mov sil, al
    movsxd rdx, ebx
    lea r9, [r13 + r12 * 8 + 5]

## high_bytes: AH, BH, CH, DH in arithmetic
    mov eax, 0x1234
    mov ebx, 0x5678
    add ah, bl
    xchg bh, al
    movzx ecx, bh
    movsx edx, ah
    mul bh
    rol ah, 3

## stack_forms: PUSH and POP of odd sizes, of memory, of RSP itself
    mov rbx, rsp
    push rsp
    pop rax
    push ax
    pop cx
    push -1
    pop rdx
    push qword ptr [rbx]
    pop qword ptr [rsp - 0x100]
    mov rsi, [rsp - 0x108]
    .byte 0x66, 0x68, 0x34, 0x12
    add rsp, 2
    sub rbx, rsp
    pop rsp
    mov rsp, 0x3f0000
    push rbx
    pop qword ptr [rsp]
    mov rdi, rsp

## return_and_release: RET imm
    push 1
    push 2
    call release
    mov rbx, rsp
%more
release:
    .byte 0xc2, 0x10, 0x00

## return_and_release_much: RET's and ENTER's number of bytes has no sign
    mov rsp, 0x390000
    call release_much
    mov rbx, rsp
    mov rbp, rsp
    enter 0x9000, 0
    mov rcx, rsp
    leave
%more
release_much:
    .byte 0xc2, 0x00, 0x90

## conditional_moves_and_sets: a 32-bit CMOV clears the upper half even when it does not move
    mov rax, -1
    mov rbx, -1
    xor ecx, ecx
    cmovne eax, ecx
    cmove ebx, ecx
    setz dl
    mov rsi, -1
    cmovc rsi, rcx

## exchange_and_add: XADD, XCHG, BSWAP, MOVBE's absence
    mov rax, 0x1122334455667788
    bswap rax
    mov rbx, rax
    bswap ebx
    mov ecx, 5
    xadd rcx, rax
    xchg [0x50000], rcx
    xadd [0x50000], ebx
    mov rdx, [0x50000]

## elusive_encodings: forms that some decoders do not know
    mov eax, 0xff
    .byte 0xf7, 0xc8, 0x0f, 0, 0, 0              # test eax, 15 as /1
    setnz bl
    .byte 0xf6, 0xc8, 0x80                       # test al, 0x80 as /1
    setnz cl
    .byte 0x0f, 0x1f, 0xc0                       # nop eax
    .byte 0x0f, 0x0d, 0xc0                       # nop eax
    .byte 0x0f, 0x18, 0xc0
    .byte 0xc0, 0xf0, 1                          # shl al, 1 as /6
    .byte 0xd0, 0xf0
    .byte 0x40, 0x9f                             # lahf with REX
    .byte 0x48, 0x9e                             # sahf with REX
    and eax, 0xffffefff                          # AF, undefined after shl: 0 on Intel, 1 on AMD
    .byte 0x48, 0x90
    .byte 0x49, 0x90                             # xchg r8, rax
    .byte 0x0f, 0x1e, 0xfa

## relative_operands_and_immediates [hardware]: RIP is behind the immediate, whatever the instruction
    mov rax, 0x1122334455667788
    mov cl, 3
    shld word ptr [rip + shifted], ax, 5
    shld dword ptr [rip + shifted], eax, 1
    shld qword ptr [rip + shifted], rax, 63
    shld qword ptr [rip + shifted], rax, cl
    shrd word ptr [rip + shifted], ax, 13
    shrd dword ptr [rip + shifted], eax, 9
    shrd qword ptr [rip + shifted], rax, 1
    mov rbx, [rip + shifted]
    imul edx, [rip + shifted], 0x1234567
    bts dword ptr [rip + shifted], 30
    rcl byte ptr [rip + shifted], 3
    and word ptr [rip + shifted], 0x7fff
    mov rdi, [rip + shifted]
    pshufd xmm0, [rip + aligned], 0x1b
    palignr xmm0, [rip + aligned], 5
    cmpps xmm1, [rip + aligned], 2
    pinsrw xmm0, [rip + shifted], 3
    pextrd [rip + shifted], xmm0, 1
    roundss xmm2, [rip + shifted], 1
    mov rsi, [rip + shifted]
    jmp behind_operands
.align 16
aligned: .quad 0x3ff123456789abcd, 0x4001fedcba987654
shifted: .quad 0x8877665544332211, 0x1112131415161718
behind_operands:

## strings_by_ecx: with prefix 67 ECX counts, whatever the upper half of RCX; a device in reach
    mov rcx, 0xdead00000002
    mov edi, 0xb8000
    mov al, 65
    .byte 0x67, 0xf3, 0xaa
    mov r8, rcx
    mov rcx, 0xdead00000003
    mov rdi, 0xdead00000000 + 0xb8010
    mov esi, 0x100000
    .byte 0x67, 0xf3, 0xa4
    mov r9, rcx
    mov rbx, rdi
    mov rcx, 0xdead00000003
    mov rsi, 0xb8000
    .byte 0x67, 0xf3, 0xad
    mov r10, rcx
    mov rcx, 0xdead00000003
    mov rdi, 0xb8000
    mov al, 65
    .byte 0x67, 0xf3, 0xae
    mov r11, rcx
    mov rbp, rdi
    std
    mov rcx, 0xdead00000003
    mov rdi, 0xdead00000000 + 0xb8050
    .byte 0x67, 0xf3, 0xab
    mov rdx, rdi

## strings_by_no_ecx: ECX of 0 moves nothing
    mov rcx, 0xdead00000000
    mov rdi, 0x123400000000 + 0xb8000
    mov al, 65
    .byte 0x67, 0xf3, 0xaa
    mov r8, rcx
    mov rbx, rdi
    mov rcx, 0xdead00000000
    mov edx, 0xe9
    mov rsi, 0x123400000000 + 0x100000
    .byte 0x67, 0xf3, 0x6e
    mov r9, rcx
    mov rbp, rsi

## string_ports_by_ecx: INS and OUTS with prefix 67
    mov rcx, 0xdead00000002
    mov edx, 0xe9
    mov rsi, 0x123400000000 + 0x100000
    .byte 0x67, 0xf3, 0x6e
    mov r9, rcx
    mov rbp, rsi
    mov rcx, 0xdead00000002
    mov rdi, 0x123400000000 + 0x50000
    .byte 0x67, 0xf3, 0x6c
    mov r8, rcx
    mov rbx, rdi

## strings_by_ecx_under_trap_flag: #DB after each of two iterations
%faults #DB #DB #DB #DB #DB
    mov rcx, 0xdead00000002
    mov rdi, 0x123400000000 + 0x50000
    mov r8d, 0x60000
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    .byte 0x67, 0xf3, 0xaa
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq

## strings_by_ecx_fault: ECX and EDI stand where the page is missing
%faults #PF(2) #PF(2)
    mov rcx, 0xdead00000008
    mov rdi, 0x123400000000 + 0x3ffffe
!   .byte 0x67, 0xf3, 0xaa
    mov r9, rcx
    mov r8, rdi
    mov rcx, 0xdead00000008
    mov rdi, 0x123400000000 + 0xb8ffe
    mov qword ptr [0x155c8], 0
    invlpg [0xb9000]
!   .byte 0x67, 0xf3, 0xaa
    mov r10, rcx
    mov r11, rdi

## segment_prefixes [hardware=always]: CS, DS, ES and SS overrides behind FS leave FS in force
    mov ecx, 0xc0000100
    mov eax, 0x50000
    xor edx, edx
    wrmsr
    mov qword ptr [0x50010], 0x1234
    mov ebx, 0x10
    .byte 0x64, 0x2e, 0x8b, 0x03
    mov r8, rax
    .byte 0x64, 0x26, 0xff, 0x33
    pop r9
    .byte 0x64, 0x36, 0x0f, 0x10, 0x03
    movq r10, xmm0
    .byte 0xf2, 0xf3, 0x0f, 0x58, 0xc1
    mov esi, 0x10
    mov edi, 0x50020
    .byte 0x64, 0x2e, 0xa5
    mov r11, [0x50020]

## extended_opcode_extension: REX.R beside a ModRM.reg that is part of the opcode
    mov r11d, 0x50000
    .byte 0x4f, 0xc6, 0x43, 0x08, 0x7f
    .byte 0x67, 0x4f, 0xc6, 0x43, 0x09, 0x7f
    .byte 0x4f, 0xc7, 0x43, 0x10, 0x7f, 1, 1, 1
    .byte 0x4d, 0x83, 0x43, 0x08, 0x7f
    .byte 0x4c, 0xc7, 0xc0, 1, 2, 3, 4
    mov rbx, [0x50008]
    mov rcx, [0x50010]
