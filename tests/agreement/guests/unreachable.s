# Addresses that the host's kernel gives to no process: the trap cores complete what touches them

## higher_half [bridged]: a kernel where kernels live, with its stack, gates and timer there
.set HIGH, 0xffffffff80000000
    call own_tables
    mov qword ptr [0x80ff8], 0x81003            # PML4[511] and PDPT[510]: HIGH is 0
    mov qword ptr [0x81ff0], 0x82003
    mov rcx, HIGH
    lea rax, [rip + lifted]
    add rax, rcx
    jmp rax
lifted:
    lea rsp, [rcx + 0x9f000]
    add [rip + cursor], rcx
    lea rsi, [rip + idt]                        # its gates lead to the upper half too
    mov ebx, 0x49
gates:
    mov dword ptr [rsi + 8], 0xffffffff
    or byte ptr [rsi + 7], 0x80
    add rsi, 16
    dec ebx
    jnz gates
    lea rax, [rip + idt]
    mov [rip + idtr + 2], rax
    lidt [rip + idtr]
    mov ecx, 30000
    call start_timer
    sti
ticks:
    hlt
    cmp qword ptr [rip + interrupts], 3
    jb ticks
    cli
    lea r13, [rip + after_fault]
    mov rax, [rip + 0x40000000]
after_fault:
    mov rdx, cr2
    lea r13, [rip + finish]

## instructions_up_high [bridged]: each way to touch memory, in code and data of the upper half
    call own_tables
    mov qword ptr [0x80800], 0x81003            # PML4[256]: the lowest of the upper half
    mov rcx, 0xffff800000000000
    lea rax, [rip + up_there]
    add rax, rcx
    jmp rax
up_there:
    lea rsp, [rcx + 0x9f000]
    add [rip + cursor], rcx
    lea rbx, [rcx + 0x60000]
    mov rax, 0x1122334455667788
    mov [rbx], rax
    add dword ptr [rbx + 4], 0x11
    lock xadd [rbx], rdx
    mov r8d, 200
    lock bts qword ptr [rbx], r8
    mov r8d, 77
    bts [rbx], r8
    btc word ptr [rbx], 3
    cmpxchg [rbx + 8], rcx
    movzx esi, byte ptr gs:[rbx + 3]
    setc [rbx + 16]
    cmovc rdi, [rbx]
    imul r9, [rbx], -3
    shld [rbx + 8], rax, 5
    mov byte ptr [rbx + 0xfff], 0x5a            # across pages
    mov r10, [rbx + 0xffc]
    mov [rbx + 0xffd], r10
    push qword ptr [rbx]
    pop qword ptr [rsp + 8]
    push rsp
    pop r11
    call next_up
    lea rsi, [rip + up_there]
    mov al, [rsi + 4]
    xlatb
    jmp qword ptr [rip + pointer_up]
next_up:
    lea rax, [rip + after_up]
    mov [rip + pointer_up], rax
    ret 0
pointer_up:
    .quad 0
after_up:
    mov rbp, rsp
    enter 24, 2
    leave
    mov ecx, 3
count_up:
    inc eax
    loop count_up
    jrcxz stop_up
    ud2
stop_up:
    lea rsi, [rip + up_there]
    lea rdi, [rbx + 0xff0]
    mov ecx, 40
    rep movsb
    lea rsi, [rip + up_there]
    lea rdi, [rbx + 0xff0]
    mov ecx, 50
    repe cmpsb
    sub rdi, rbx
    mov al, 0xc3
    mov ecx, 20
    std
    repne scasb
    cld
    sub rdi, rbx
    mov ecx, 9
    lea rdi, [rbx + 0x400]
    rep stosd
    lea rsi, [rbx + 0x400]
    lodsw
    sub rsi, rbx

## floating_up_high [bridged hardware=always]: SSE, MMX and x87 operands in the upper half
%faults #PF #PF(2)
    call own_tables
    mov qword ptr [0x80800], 0x81003
    mov rbx, 0xffff800000060000
    mov rax, 0x3ff8000000000000
    mov [rbx], rax
    movq xmm1, [rbx]
    movhpd xmm1, [rbx]
    addpd xmm1, [rbx]
    movups [rbx + 0xff8], xmm1
    mov rcx, 0xffff900000000000
! movups xmm2, [rcx]
! movsd [rcx], xmm1
    fld qword ptr [rbx]
    fmul qword ptr [rbx]
    fstp qword ptr [rbx + 32]
    mov rdx, [rbx + 32]
    lea rdi, [rbx + 64]
    pcmpeqb xmm3, xmm3
    maskmovdqu xmm1, xmm3
    movq mm0, [rbx]
    paddd mm0, [rbx + 32]
    movq [rbx + 96], mm0
    emms
    mov rsi, [rbx + 96]
    stmxcsr [rbx]
    mov eax, [rbx]

## screen_up_high [bridged]: a device, mapped in the upper half
    call own_tables
    mov qword ptr [0x80800], 0x81003
    mov rbx, 0xffff8000000b8000
    mov word ptr [rbx], 0x0748
    add byte ptr [rbx], 1
    mov ecx, 5
    mov rdi, rbx
    mov ax, 0x0758
    add rdi, 4
    rep stosw
    mov rsi, rbx
    lea rdi, [rbx + 20]
    mov ecx, 6
    rep movsw
    mov edi, 0xb8000
    mov rsi, rbx
    movsd
    mov rdx, [rbx]

## page_zero [bridged]: a null pointer that leads somewhere, and code there
%faults #PF
    call own_tables
    xor ebx, ebx
    mov dword ptr [rbx], 0xc3c0ff90             # nop; inc eax; ret
    mov eax, 6
    call rbx
    mov rdx, [rbx]
    mov qword ptr [rbx + 0xffff], 0x55          # into the first page that can be mapped
    mov rcx, [0xfffe]
    mov qword ptr [PT], 0
    invlpg [rbx]
! mov rax, [rbx]

## user_up_high [bridged hardware=always]: ring 3 in the upper half, and the kernel's pages kept from it
%faults #PF(5) #PF(0x15) #GP syscall(0x5)
    call own_tables
    mov qword ptr [0x80800], 0x81007
    call open_user
    mov rcx, 0xffff800000000000
    lea rax, [rip + user]
    add rcx, rax
    jmp enter_user_at_rcx
%user
    lea rsp, [rip + user + 0x800]
    push rbx
    pop rbx
    mov rbx, 0xffff800000000000
! mov rax, [rbx + 0x60000]
    lea rcx, [rbx + 0x60000]
! call rcx
! cli
    mov eax, 5
    syscall
    pushfq
    pop rdx

## across_the_gap [bridged exact]: non-canonical targets and operands, from code in the upper half
%faults #GP #GP
    call own_tables
    mov qword ptr [0x80800], 0x81003
    mov rcx, 0xffff800000000000
    lea rax, [rip + gap]
    add rax, rcx
    jmp rax
gap:
    lea rsp, [rcx + 0x9f000]
    add [rip + cursor], rcx
    mov rdx, 0x800000000000
! jmp rdx
! mov rax, [rdx]

## string_at_the_end [bridged]: REP is the last instruction that a process can have; behind it nothing is
%faults #PF(0x10)
    call own_tables
    mov qword ptr [0x80000 + 255 * 8], 0x81003
    mov qword ptr [0x81000 + 511 * 8], 0x82003
    mov qword ptr [0x82000 + 511 * 8], 0x84003
    mov qword ptr [0x84000 + 510 * 8], 0x60003
    mov word ptr [0x60ffe], 0xaaf3
    mov edi, 0x61000
    mov ecx, 100
    mov al, 65
    mov rdx, 0x7fffffffeffe
    lea r13, [rip + done_up_there]
    jmp rdx
done_up_there:
    mov rdx, cr2
    mov rcx, [0x61050]
