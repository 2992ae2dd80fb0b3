# Code that changes, moves, or is read as data: what free mode's patches must not show

## self_modified_operand: an instruction changed just before it runs
    lea rbx, [rip + patched + 1]
    mov byte ptr [rbx], 7
patched:
    mov eax, 1
    mov ecx, 10
turn:
    lea rbx, [rip + again + 1]
    mov [rbx], cl
again:
    mov edx, 1
    loop turn

## becomes_sensitive: a NOP turned into PUSHF, and back
    lea rbx, [rip + changing]
    mov byte ptr [rbx], 0x9c
changing:
    nop
    .byte 0x66, 0x90
    pop ax
    movzx eax, ax
    mov byte ptr [rbx], 0x90
    mov ecx, 2
    sub rsp, 8

## reads_own_code [pristine]: a sensitive instruction's bytes read as data are the guest's own
    lea rbx, [rip + sensitive]
    mov eax, [rbx]
sensitive:
    pushf
    sgdt [0x50000]
    mov ecx, [rbx]
    mov rdx, [rip + sensitive]
    pop ax
    lea rsi, [rip + sensitive]
    mov edi, 0x50010
    mov ecx, 16
    rep movsb
    mov rbp, [0x50010]
    xor eax, eax

## copied_code: sensitive code copied to fresh memory and called
    lea rsi, [rip + routine]
    mov edi, 0x60000
    mov ecx, 32
    rep movsb
    mov edx, 0x60000
    call rdx
    mov rbx, rax
    mov edx, 0x61000
    mov byte ptr [rdx], 0xc3
    call rdx
    lea rsi, [rip + routine]
    mov edi, 0x61000
    mov ecx, 32
    rep movsb
    call rdx
%more
routine:
    smsw eax
    mov ecx, cs
    str r8d
    ret

## overlapping_code: a jump into the middle of an instruction
    xor eax, eax
    jmp inside + 1
inside:
    .byte 0xb8                          # mov eax, ... whose immediate is code
    pushfq
    pop rbx
    .byte 0xeb, 1
    nop
    .byte 0x90
    jmp inside_twice
inside_twice:
    mov ecx, 1

## code_and_data_mixed: a counter beside the instructions that count
    mov ecx, 200
turn:
    inc qword ptr [rip + counter]
    mov rax, [rip + counter]
    loop turn
    smsw ebx
    jmp past
counter: .quad 0
past:
    mov rdx, [rip + counter]

## writes_ahead: the very next instruction is written
    mov edi, 0x60000
    mov eax, 0xc301b0                   # mov al, 1; ret
    mov [rdi], eax
    call rdi
    mov byte ptr [rdi + 1], 2
    call rdi
    mov ebx, eax
    mov byte ptr [rdi], 0xc3
    call rdi

## indirect_branches: calls and jumps through registers, memory and tables
    lea rax, [rip + one]
    call rax
    mov [0x50000], rax
    call [0x50000]
    lea rcx, [rip + two]
    push rcx
    ret
two:
    mov ecx, 2
    lea rdx, [rip + table]
    jmp [rdx + rcx * 8]
%more
one:
    inc rbx
    ret
.align 8
table: .quad finish, finish, three
three:
    str esi
    jmp finish

## many_pages: calls across pages, each with something sensitive
    mov ebx, 0x60000
    mov ecx, 16
build:
    mov dword ptr [rbx], 0xe0010f48     # smsw rax
    mov byte ptr [rbx + 4], 0xc3
    add rbx, 0x1000
    loop build
    mov ebx, 0x60000
    mov r8d, 16
visit:
    call rbx
    add rbx, 0x1000
    dec r8d
    jnz visit

## instruction_across_two_pages: half of a sensitive instruction on each page
    mov edi, 0x60ffe
    mov dword ptr [rdi], 0xe0010f48     # smsw rax
    mov byte ptr [rdi + 4], 0xc3
    call rdi
    mov rbx, rax
    mov byte ptr [rdi + 3], 0xe3        # smsw rbx
    call rdi

## repeated_writes_to_code: one instruction rewritten a hundred times
    mov ecx, 100
    mov edi, 0x60000
    mov dword ptr [rdi], 0xb8
    mov byte ptr [rdi + 5], 0xc3
rewrite:
    mov [rdi + 1], ecx
    call rdi
    add ebx, eax
    loop rewrite

## infinite_loop_to_itself: LOOP onto itself
    mov ecx, 50
self:
    loop self

## code_behind_the_end: a page of instructions, and behind it a device that is never executed
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0x40000003
    mov edi, 0x60000
    mov al, 0x90
    mov ecx, 0xffd
    rep stosb
    mov word ptr [0x60ffd], 0xc3ff
    mov byte ptr [0x60fff], 0xc3
    mov edx, 0x60f00
    call rdx

## return_on_the_screen: no device holds code, not even a RET
%ends error
    mov dword ptr [0xb8000], 0xc3c3c3c3
    mov edx, 0xb8000
    call rdx

## half_on_a_device: an instruction that ends where no RAM is
%ends error
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0x40000003
    mov byte ptr [0x60fff], 0
    mov edx, 0x60fff
    jmp rdx

## onto_a_device: outside RAM code reads all ones, which is no instruction
%faults #UD
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0x40000003
    mov word ptr [0x60ffe], 0x9090
    mov edx, 0x60ffe
    jmp rdx

## string_over_itself [exact]: a CPU goes on with the REP that it has begun, whatever it stores over it
    lea rsi, [rip + no_operations]
    lea rdi, [rip + overwritten]
    mov ecx, 8
    mov al, 0x90
overwritten:
    rep stosb
    nop
    nop
    nop
    nop
    nop
    nop
    lea rdi, [rip + moved_over]
    mov ecx, 4
moved_over:
    rep movsw
    nop
    nop
    nop
    nop
    nop
    mov rbx, [rip + overwritten]
    mov rdx, [rip + moved_over]
    jmp finish
no_operations:
    .fill 8, 1, 0x90

## int_on_the_screen: nor an INT
%ends error
    mov dword ptr [0xb8000], 0x900040cd
    mov edx, 0xb8000
    call rdx

## cli_on_the_screen: nor what a VMM completes
%ends error
    mov dword ptr [0xb8000], 0xc3fafafa
    mov edx, 0xb8000
    call rdx

## cpuid_on_the_screen: nor what it answers
%ends error
    mov dword ptr [0xb8000], 0xc3c3a20f
    mov edx, 0xb8000
    call rdx

## out_half_on_the_screen: nor the half of one
%ends error
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0xb8003
    mov byte ptr [0x60fff], 0xe6
    mov byte ptr [0x61000], 0xe9
    mov edx, 0x60fff
    call rdx

## user_code_on_the_screen: nor in ring 3
%ends error
    or byte ptr [0x12000], 4
    mov dword ptr [0xb8000], 0xc3c340cd
    call open_user
    or byte ptr [0x15000+8*0xb8], 4
    invlpg [0xb8000]
    mov ecx, 0xb8000
    jmp enter_user_at_rcx
