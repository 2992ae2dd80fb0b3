# Odd forms and odd places: prefixes, sizes, borders, frames and tables that no compiler makes

## prefixed_privileged: prefixes that mean nothing to privileged instructions
%faults #UD #UD #UD
    .byte 0x66, 0xfa                            # cli
    .byte 0xf2, 0x66, 0x48, 0xfb                # sti
    .byte 0x2e, 0x3e, 0x64, 0xfa
! .byte 0xf0, 0xfa                              # lock cli
    .byte 0x66, 0x0f, 0x20, 0xc0                # mov rax, cr0
    .byte 0x48, 0x0f, 0x20, 0xd3
! .byte 0xf0, 0x48, 0x0f, 0x22, 0xdb
    .byte 0x44, 0x0f, 0x20, 0xc1                # mov rcx, cr8
    .byte 0x66, 0x48, 0x0f, 0x01, 0xe2          # smsw rdx
    .byte 0x66, 0x0f, 0x01, 0xe6                # smsw si
    .byte 0x0f, 0x01, 0xe7                      # smsw edi
! .byte 0xf0, 0x0f, 0x01, 0x38                  # lock invlpg
    .byte 0x67, 0x0f, 0x01, 0x38                # invlpg [eax]

## table_stores: SGDT, SIDT, SLDT, STR and SMSW with sizes, segments and page borders
    mov ecx, 0xc0000101
    mov eax, 0x40
    xor edx, edx
    wrmsr
    sgdt [0x60000]
    .byte 0x66
    sidt [0x60010]
    sgdt gs:[0x5ffe0]                           # 0x60020
    sidt [0x60ffc]                              # across pages
    mov rax, -1
    sldt eax
    mov rbx, -1
    sldt bx
    mov rsi, -1
    str esi
    sldt [0x60030]
    str [0x60fff]
    smsw [0x60040]
    mov r8, [0x60ffc]
    mov r9, [0x61000]
    mov r10, [0x60022]

## table_loads [hardware=always]: LGDT and LIDT from borders, and with bases that no address is
%faults #GP #GP #UD
    sgdt [0x60ffc]
    lgdt [0x60ffc]
    mov rcx, 0x800000000000
    mov [0x60002], rcx
    mov word ptr [0x60000], 0x4f
! lgdt [0x60000]
! lidt [0x60000]
! .byte 0x0f, 0x01, 0xd7                        # lgdt rdi
    mov ax, 0x18
    mov ss, ax

## far_pointers: far jumps, calls and returns of every size
%faults #GP(0x30) #GP #GP(0x78) #GP(0x18) #GP #GP(4)
    lea rax, [rip + arrived_1]
    mov [0x60000], eax
    mov word ptr [0x60004], 0x10
    ljmp [0x60000]
    ud2
arrived_1:
    mov [0x60010], rax
    mov word ptr [0x60018], 0x10
    lea rax, [rip + arrived_2]
    mov [0x60010], rax
    .byte 0x48, 0xff, 0x2c, 0x25, 0x10, 0, 6, 0 # jmp m16:64: what REX.W means is the maker's affair
arrived_2:
    mov word ptr [0x60004], 0x33
! ljmp [0x60000]
    mov word ptr [0x60004], 0
! ljmp [0x60000]
    mov word ptr [0x60004], 0x78
! lcall [0x60000]
    mov word ptr [0x60004], 0x18
! ljmp [0x60000]
    mov word ptr [0x60004], 3
! lcall [0x60000]
    mov word ptr [0x60004], 4
! ljmp [0x60000]
    lea rbx, [rip + called]
    mov [0x60000], ebx
    mov word ptr [0x60004], 0x10
    lcall [0x60000]
    lea rbx, [rip + called_16]
    jmp over_calls
called:
    .byte 0xcb                                  # retf, 32 bits
called_16:
    ud2
over_calls:
    push 0x10
    lea rax, [rip + returned]
    push rax
    .byte 0x48, 0xca, 0x10, 0                   # retfq 16
returned:
    sub rsp, 16

## far_returns_refused: RETF and RETFQ to what they may not lead to
%faults #GP #GP(0x18) #GP(0x78) #GP #NP(0x58) #GP(0x10)
    mov r15, rsp
    push 0
    push 0
! retfq
    mov rsp, r15
    push 0x18
    push 0
! retfq
    mov rsp, r15
    push 0x78
    push 0
! retfq
    mov rsp, r15
    push 0x10
    mov rax, 0x800000000000
    push rax
! retfq
    mov rsp, r15
    sub rsp, 0x100
    mov rbx, 0x11058                            # a code segment that is not present
    mov rax, 0x00202b000000ffff
    btr rax, 47
    sgdt [0x60000]
    mov word ptr [0x60000], 0x5f
    mov rax, 0x0020180000000000
    mov [rbx], rax
    lgdt [0x60000]
    push 0x58
    push 0
! retfq
    mov rsp, r15
    push 0x12
    push 0
! retfq
    mov rsp, r15

## iret_frames [hardware]: frames that IRETQ refuses, one by one
%faults #GP #GP #GP #GP(0x10) #GP(0x28) #GP(0x18)
    mov r15, rsp
    mov ebx, 0x202
    call frame_of
    mov qword ptr [rsp + 8], 0                  # CS null
! iretq
    call frame_of
    mov rax, 0x800000000000
    mov [rsp], rax
! iretq
    call frame_of
    mov qword ptr [rsp + 8], 0x33               # to ring 3 with a null SS
    mov qword ptr [rsp + 32], 0
! iretq
    call frame_of
    mov qword ptr [rsp + 8], 0x33
    mov qword ptr [rsp + 32], 0x10
! iretq
    call frame_of
    mov qword ptr [rsp + 32], 0x2b              # same ring, SS of another
! iretq
    call frame_of
    mov qword ptr [rsp + 8], 0x18
! iretq
    call frame_of                               # a good one, with a null SS at ring 0
    mov qword ptr [rsp + 32], 0
    iretq
landed:
    mov rsp, r15
    mov ecx, ss
    jmp over_frames
frame_of:
    pop r14
    mov rsp, r15
    push 0x18
    push r15
    push rbx
    push 0x10
    lea rax, [rip + landed]
    push rax
    jmp r14
over_frames:

## iret_of_flags [hardware]: IRETQ loads the permitted flags of a frame in ring 0
    mov r15, rsp
    mov rbx, 0xffffffff00254ad5
    and rbx, -0x40101                           # neither TF nor AC
    push 0x18
    push r15
    push rbx
    push 0x10
    lea rax, [rip + with_flags]
    push rax
    iretq
with_flags:
    pushfq
    pop rcx
    cld
    push 0x2
    popfq
    mov ebx, 0x18
    .byte 0x66, 0x6a, 0x18                      # a frame of 16 bits
    push rsp
    pop rdx

## string_ports_at_borders: INS and OUTS over page borders, both directions
    mov edi, 0x60ffe
    mov edx, 0x5e0
    mov ecx, 3
    rep insd
    mov r8, [0x60ff8]
    mov r9, [0x61000]
    std
    mov edi, 0x61004
    mov ecx, 4
    rep insd
    cld
    mov r10, [0x60ff8]
    std
    lea rsi, [rip + backwards + 5]
    mov edx, 0xe9
    mov ecx, 6
    rep outsb
    cld
    mov esi, 0x62000
    mov dword ptr gs:[rsi], 0x2a2b2c2d
    .byte 0x65, 0x67
    outsb
    xor ecx, ecx
    mov edi, 0x10
    mov edx, 0x5e0
    rep insb                                    # nothing, wherever it would go
    jmp over_text
backwards: .ascii "sdrawk"
over_text:

## string_ports_that_fault [hardware]: RCX, RDI and RSI stand where the fault was
%faults #PF(2) #PF #PF(2)
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0
    invlpg [0x61000]
    mov edi, 0x60ff8
    mov edx, 0x5e0
    mov ecx, 5
! rep insd
    mov r8, rcx
    mov r9, rdi
    mov esi, 0x60ffe
    mov ecx, 5
    mov edx, 0x80
! rep outsb
    mov r10, rcx
    mov r11, rsi
    std
    mov edi, 0x62004
    mov ecx, 9
    mov edx, 0x5e0
! rep insd
    cld

## trap_flag_everywhere [hardware]: TF over what shows, changes or delays it
%faults #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB #DB
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    pushfq
    pop rax
    mov cx, ss
    mov ss, cx
    mov ebx, 1
    cpuid
    mov ecx, 2
    lea rsi, [rip + trap]
    mov edi, 0x60000
    rep movsb
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq

## trap_flag_and_jumps [hardware]: TF over branches, calls and system calls of ring 3
%faults #DB #DB #DB #DB syscall(7) #DB #DB #DB #DB #DB
    jmp enter_user
%user
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    call nearby
    jmp beyond
nearby:
    ret
beyond:
    mov eax, 7
    syscall
    xor ecx, ecx
    jrcxz ended
    ud2
ended:
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq

## interrupt_shadows [exact]: STI, MOV SS and POP SS in a row, a device touched in between
    mov ecx, 2000
    call start_timer
    mov ecx, 1000
late:
    dec ecx
    jnz late
    mov ebx, ss
    sti
    mov word ptr [0xb8000], 0x0731
    mov rax, [rip + interrupts]
    mov r8, [rip + interrupts]
    cli
    mov ecx, 1000
later:
    dec ecx
    jnz later
    sti
    mov ss, ebx
    mov r9, [rip + interrupts]
    mov r10, [rip + interrupts]
    cli
    mov ecx, 1000
latest:
    dec ecx
    jnz latest
    sti
    cli
    mov r11, [rip + interrupts]

## spurious_interrupt [exact]: a line that falls before it is acknowledged
    mov bx, 0x81
    call start_pic
    mov al, 0x0b
    out 0x20, al
    in al, 0x20
    mov cl, al
    mov al, 0x0a
    out 0x20, al
    in al, 0x20
    mov ch, al
    mov al, 0x0c                                # poll
    out 0x20, al
    in al, 0x20
    mov dl, al

## counter_latches [exact]: latch, read back, one byte and two, three counters
    mov al, 0x34
    out 0x43, al
    mov al, 0x34
    out 0x40, al
    mov al, 0x12
    out 0x40, al
    mov al, 0
    out 0x43, al
    in al, 0x40
    mov bl, al
    mov al, 0xe2                                # read back the status
    out 0x43, al
    in al, 0x40
    mov bh, al
    in al, 0x40
    mov cl, al
    mov al, 0xb0
    out 0x43, al
    mov al, 5
    out 0x42, al
    in al, 0x42
    mov ch, al
    mov al, 0
    out 0x42, al
    mov al, 0xc8                                # both of counter 2
    out 0x43, al
    in al, 0x42
    mov dl, al
    in al, 0x42
    mov dh, al
    in al, 0x42
    mov r8b, al
    mov al, 0x90
    out 0x43, al
    mov al, 99
    out 0x42, al
    in al, 0x42
    mov r9b, al

## disk_that_is_none: ATA registers without a drive
    mov edx, 0x1f7
    in al, dx
    mov bl, al
    mov edx, 0x1f6
    mov al, 0xe0
    out dx, al
    mov edx, 0x1f7
    mov al, 0xec
    out dx, al
    in al, dx
    mov bh, al
    mov edx, 0x1f0
    in ax, dx
    mov cx, ax
    mov edi, 0x60000
    push rcx
    mov ecx, 300
    rep insw
    pop rcx
    mov edx, 0x3f6
    in al, dx
    mov r8b, al
    mov rsi, [0x60000]

## not_of_this_platform [hardware=always]: instructions that the platform's CPU lacks are #UD, whatever the host's CPU has
%faults #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD
! .byte 0xf3, 0x0f, 0xc7, 0xf8                  # rdpid rax
! .byte 0x0f, 0x01, 0xee                        # rdpkru
! .byte 0x0f, 0x01, 0xef                        # wrpkru
! .byte 0x0f, 0xc7, 0xf0                        # rdrand eax
! .byte 0x0f, 0xc7, 0xf8                        # rdseed eax
! .byte 0xf3, 0x0f, 0xae, 0xc0                  # rdfsbase eax
! .byte 0xf3, 0x48, 0x0f, 0xae, 0xd8            # wrgsbase rax
! .byte 0x0f, 0x01, 0xd0                        # xgetbv
! .byte 0x0f, 0x01, 0xd1                        # xsetbv
! .byte 0x0f, 0xae, 0x23                        # xsave [rbx]
! .byte 0x0f, 0xae, 0x2b                        # xrstor [rbx]
! .byte 0x0f, 0xc7, 0x23                        # xsavec [rbx]
! .byte 0x0f, 0x01, 0xca                        # clac: no SMAP announced, and yet
! .byte 0x66, 0x0f, 0xae, 0x3b                  # clflushopt [rbx]
! .byte 0xc5, 0xf8, 0x77                        # vzeroupper
! .byte 0xc4, 0xe2, 0x78, 0xf2, 0xc0            # andn
! .byte 0x66, 0x0f, 0x38, 0xdc, 0xc1            # aesenc
! .byte 0x0f, 0x01, 0xd4                        # vmfunc
! .byte 0x66, 0x0f, 0x38, 0xf6, 0xc1            # adcx

## cpu_leaves [hardware]: CPUID of leaves that are none
    xor r8d, r8d
    mov r9d, 0
leaves:
    mov eax, r9d
    cmp r9d, 8
    jb plain
    lea eax, [r9 + 0x80000000 - 8]
    cmp r9d, 18
    jb plain
    lea eax, [r9 + 0x40000000 - 18]
plain:
    xor ecx, ecx
    cpuid
    add r8, rax
    rol r8, 7
    xor r8, rbx
    rol r8, 7
    add r8, rcx
    xor r8, rdx
    inc r9d
    cmp r9d, 24
    jb leaves

## model_registers [hardware=always]: every MSR that is none, and what those that are refuse
%faults #GP #GP #GP #GP #GP #GP #GP #GP #GP
    mov ecx, 0x1b
    rdmsr
    btc eax, 12
! wrmsr
    mov ecx, 0x174
! rdmsr
    mov ecx, 0xc0000103
! rdmsr
    mov ecx, 0xc0000100
    mov edx, 0x8000
    xor eax, eax
! wrmsr
    mov ecx, 0xc0000082
! wrmsr
    mov ecx, 0xc0000080
    rdmsr
    mov r8d, eax
    or eax, 2
! wrmsr
    mov ecx, 0xc0000080
    mov eax, r8d
    btr eax, 8
! wrmsr
    mov ecx, 0xc0000081
    mov edx, 0x12345678
    mov eax, 0x9abcdef0
    wrmsr
    rdmsr
    mov r9d, eax
    mov ecx, 0x10
    mov rsi, -1
    mov ecx, 0x277
! rdmsr
    mov ecx, -1
! wrmsr

## hosts_gates [hardware=always]: system calls and gates of the host's kernel are the guest's own affair
%faults #GP(0x402) syscall(1) #UD #UD #GP(2) #GP(0x12a) #UD #UD
    jmp enter_user
%user
    mov eax, 60                                 # exit
    xor edi, edi
! int 0x80
    mov eax, 1
! .byte 0x0f, 0x05, 0xeb, 0x00, 0x0f, 0x0b
! sysenter
! int 0
! int 0x25
! .byte 0x0f, 0x01, 0xc1
! .byte 0x0f, 0x01, 0xd9

## code_by_two_names: stores through one address, executed at another
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0x60003      # 0x61000 is 0x60000
    mov qword ptr [PT + 8 * 0x62], 0x60001      # 0x62000 too, read-only
    mov rax, cr3
    mov cr3, rax
    mov edi, 0x60100
    mov dword ptr [rdi], 0xc300c083             # add eax, imm8; ret
    xor eax, eax
    mov ecx, 20
    mov ebx, 0x61100
    mov edx, 0x62100
again_by_name:
    mov [rdi + 2], cl
    call rbx
    inc byte ptr [rbx + 2]
    call rdx
    inc byte ptr [rdi + 2]
    call rdi
    dec ecx
    jnz again_by_name

## code_by_a_no_execute_name: two functions of one frame, changed in a row and by stores that cover both
    call own_tables
    mov rax, 0x8000000000060003
    mov [PT + 8 * 0x61], rax                    # 0x61000 is 0x60000, no-execute
    mov rax, cr3
    mov cr3, rax
    mov edi, 0x60000
    mov ebx, 0x61000
    mov dword ptr [rdi], 0xc300c083             # add eax, imm8; ret
    mov dword ptr [rdi + 0x100], 0xc300c083
    mov dword ptr [rdi + 0x201], 0xc3c301b0     # mov al, 1; ret; ret
    xor eax, eax
    mov ecx, 5
again_no_execute:
    call rdi
    lea rdx, [rdi + 0x100]
    call rdx
    inc byte ptr [rbx + 2]
    inc byte ptr [rbx + 0x102]
    lea rdx, [rdi + 0x201]
    add r8, rax
    call rdx
    add r8, rax
    mov word ptr [rbx + 0x202], 0x9002          # mov al, 2; nop; ret: one store, two instructions
    dec ecx
    jnz again_no_execute

## code_across_two_names: an instruction whose second half lies in another frame each time
    call own_tables
    mov edi, 0x60ffd
    mov word ptr [rdi], 0xb848                  # mov rax, imm64, over the border
    mov dword ptr [0x60fff], 0x44332211
    mov qword ptr [0x61000], 0x66554433
    mov word ptr [0x61007], 0xc3c3
    mov qword ptr [0x63000], 0x1234
    mov word ptr [0x63007], 0xc3c3
    call rdi
    mov rbx, rax
    mov qword ptr [PT + 8 * 0x61], 0x63003
    invlpg [0x61000]
    call rdi
    mov rcx, rax
    mov byte ptr [0x60ffe], 0xbb                # now it is mov rbx
    mov qword ptr [PT + 8 * 0x61], 0x61003
    invlpg [0x61000]
    call rdi

## code_from_a_port: instructions that a device has written over others
%faults #PF(0x10)
    mov edi, 0x60000
    mov ecx, 0x40
    mov al, 0x90
    rep stosb
    mov byte ptr [rdi], 0xc3
    mov r10d, 0x62000
    mov r11d, 0x60000
    xor eax, eax
    mov edx, 0x5e0
    call r11
    mov edi, 0x60000
    mov ecx, 4
    rep insd                                    # push rdx; push rax; xor [r10 + 0x50], edx ...
    mov byte ptr [0x60006], 0xc3
    mov r12, rsp
    lea r13, [rip + port_code_ran]
    push r13
    jmp r11
port_code_ran:
    mov rsp, r12
    lea r13, [rip + finish]
    mov rbx, [0x62050]

## tables_in_a_circle: every level is one page, which maps itself
    call own_tables
    mov edi, 0x8f000
    mov rax, 0x8f003
    mov ecx, 512
    rep stosq
    mov rax, [0x80000]
    mov rbx, 0x82003
    mov qword ptr [0x80010], 0x8f003            # PML4[2]: a circle of tables
    mov rcx, 0x10000000000
    mov rdx, [rcx]
    mov rbx, 0x123456000
    mov rsi, [rcx + rbx]
    mov rdi, 0x17fffffff000
    mov qword ptr [0x80010], 0x80003            # PML4[2] is the PML4 itself
    mov r8, cr3
    mov cr3, r8
    mov rcx, 0x10000000000
    mov r9, 0x10080402000                       # PML4[2], four times over
    mov r10, [r9]
    mov r11, [r9 + 0x10]

## everything_everywhere: all of a PDPT leads to one directory
    call own_tables
    mov edi, 0x81000
    mov eax, 0x82003
    mov ecx, 512
    rep stosq
    mov rax, cr3
    mov cr3, rax
    mov r8d, 1
    mov rcx, 0x40060000
    mov r9d, 40
scattered:
    mov [rcx], r9
    add r8, [rcx + 8]
    mov rax, 0x80000000
    add rcx, rax
    inc qword ptr [0x60008]
    dec r9d
    jnz scattered

## user_pages_and_smap [hardware]: the supervisor executes what it may not read
%faults #PF(1)
    call own_tables
    mov rax, 0x83007
    mov [0x82000], rax
    or byte ptr [0x80000], 4
    or byte ptr [0x81000], 4
    or byte ptr [PT + 8 * 0x60], 4
    mov edi, 0x60000
    mov dword ptr [rdi], 0xf8058b48             # mov rax, [rip - 8]: its own bytes
    mov dword ptr [rdi + 4], 0xc3ffffff
    mov rax, cr4
    bts rax, 21
    mov rbx, cr3
    mov cr3, rbx
    mov rbx, 0x1111
    mov cr4, rax
    mov r15, rsp
    lea r13, [rip + not_read]
    call rdi
not_read:
    mov rsp, r15
    stac
    mov rax, 1
    call rdi
    mov rbx, rax
    clac
    lea r13, [rip + finish]

## page_of_the_host_kernel [bridged hardware=always]: the address of Linux's vsyscall page is the guest's own
%faults #PF(0x10) #PF
    mov rcx, 0xffffffffff600000
! call rcx
! mov rax, [rcx + 0x400]
    call own_tables
    mov qword ptr [0x80ff8], 0x81003
    mov qword ptr [0x81ff8], 0x84003            # PDPT[511]
    mov qword ptr [0x84fd8], 0x83003            # PD[507]
    mov rdx, cr3
    mov cr3, rdx
    mov qword ptr [PT + 8 * 0x100], 0x100003
    mov dword ptr [0], 0
    mov byte ptr [rcx], 0xb8                    # mov eax, imm32; ret
    mov dword ptr [rcx + 1], 0x12345678
    mov byte ptr [rcx + 5], 0xc3
    mov rcx, 0xffffffffff600000
    call rcx
    mov ebx, [rcx + 1]

## store_into_the_next_instruction: rewritten again and again, just before it runs
    mov ecx, 5
    xor ebx, ebx
rewritten:
    mov byte ptr [rip + patched_next + 1], cl
patched_next:
    mov al, 0x77
    add ebx, eax
    lea rdi, [rip + behind_string]
    mov edx, ecx
    mov ecx, 3
    mov al, 0x90
    rep stosb
behind_string:
    .byte 0x0f, 0x0b, 0xcc
    mov word ptr [rip + behind_string], 0x0b0f
    mov byte ptr [rip + behind_string + 2], 0xcc
    mov ecx, edx
    dec ecx
    jnz rewritten

## rep_over_everything: strings over all of the stack, the screen and the hole
    mov edi, 0xb7ff0
    mov esi, 0x200000
    mov ecx, 0x20
    rep movsb
    mov esi, 0xb7ff8
    mov edi, 0x60ffc
    mov ecx, 9
    rep movsw
    mov esi, 0x9fffc
    mov edi, 0x61000
    mov ecx, 4
    rep movsd
    std
    mov edi, 0xb8004
    mov ecx, 4
    mov eax, 0x07410742
    rep stosd
    mov esi, 0xb8003
    mov edi, 0xb8004
    mov ecx, 4
    rep movsb
    cld
    mov edi, 0xb8000
    mov ecx, 20
    mov al, 0x42
    repne scasb
    mov ebx, ecx
    mov r8, [0x60ff8]
    mov r9, [0x61000]

## faults_in_every_way: #DE, #BP, #OF, #UD, #GP, #PF, each inside the handler of another
%faults #DE #BP #OF #UD #PF #UD #GP #DE #BP #OF #UD #PF #UD #GP #DE #BP #OF #UD #PF #UD #GP

    mov ecx, 3
once_more:
    push rcx
    xor edx, edx
    xor ebx, ebx
! div ebx
    int3
    int 4
! ud2
    mov ebx, 0x800000
! mov rax, [rbx]
! .byte 0x8e, 0xcb
    mov rax, 0x8000000000000000
! push [rax]
    pop rcx
    dec ecx
    jnz once_more

## bound_and_into: opcodes that 64-bit mode has taken away
%faults #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD
! .byte 0x06
! .byte 0x0e
! .byte 0x16
! .byte 0x1e
! .byte 0x27
! .byte 0x2f
! .byte 0x37
! .byte 0x3f
! .byte 0x60
! .byte 0x61
! .byte 0x62, 0x03
! .byte 0x82, 0xc0, 1
! .byte 0x9a, 0, 0, 0, 0, 0x10, 0
! .byte 0xce
! .byte 0xd4, 0x0a
! .byte 0xd6
! .byte 0xea, 0, 0, 0, 0, 0x10, 0
! .byte 0x0f, 0x04
! .byte 0x0f, 0x0a
! .byte 0x0f, 0x24, 0xc0
! .byte 0x0f, 0x36
! .byte 0x0f, 0xb9, 0xc0
! .byte 0x0f, 0xff, 0xc0
! .byte 0xc6, 0xf8, 0
! .byte 0xc7, 0xf8, 0, 0, 0, 0
! .byte 0x8d, 0xc0
! .byte 0xfe, 0xd0
! .byte 0xff, 0xf8
! .byte 0x0f, 0xc7, 0xc8
! .byte 0x0f, 0x01, 0xfa
! .byte 0x0f, 0x01, 0xc8

## locked_where_it_may_not_be: LOCK without a memory destination
%faults #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD
! .byte 0xf0, 0x90
! .byte 0xf0, 0x01, 0xc0
! .byte 0xf0, 0x8b, 0x03
! .byte 0xf0, 0x88, 0x03
! .byte 0xf0, 0x39, 0x03
! .byte 0xf0, 0x0f, 0xa3, 0x03
! .byte 0xf0, 0x0f, 0xba, 0x23, 1
! .byte 0xf0, 0xa4
! .byte 0xf0, 0xff, 0x33
! .byte 0xf0, 0xe8, 0, 0, 0, 0
! .byte 0xf0, 0xd1, 0x03
! .byte 0xf0, 0x69, 0x03, 1, 0, 0, 0
    mov ebx, 0x60000
    .byte 0xf0, 0xf7, 0x13
    .byte 0xf0, 0xf7, 0x1b
    .byte 0xf0, 0x0f, 0xc7, 0x0b
    .byte 0xf0, 0x86, 0x03
    .byte 0xf0, 0x0f, 0xba, 0x3b, 5
    .byte 0xf0, 0x81, 0x33, 0x78, 0x56, 0x34, 0x12
    mov rcx, [rbx]

## segments_overridden: FS and GS bases under every kind of access
%faults #PF
    mov ecx, 0xc0000100
    mov eax, 0x60000
    xor edx, edx
    wrmsr
    inc ecx
    mov eax, 0xfffff000
    mov edx, -1
    wrmsr
    mov rbx, 0x61010
    mov qword ptr gs:[rbx], 0x1234
    mov rax, [0x60010]
    mov qword ptr fs:[0x20], 0x55
    lock add qword ptr fs:[0x20], 3
    push qword ptr fs:[0x20]
    pop qword ptr gs:[0x61028]
    mov rdx, [0x60028]
    lea rsi, fs:[0x10]
    mov edi, 0x62000
    mov ecx, 3
    .byte 0x64
    rep movsb
    mov esi, 0x10
    .byte 0x65, 0x67
    lodsb
    mov r8, [0x62000]
    mov ebx, -0x60000 + 0x63000
    .byte 0x67, 0x64, 0x48, 0x89, 0x43, 0xf8    # mov fs:[ebx - 8], rax
    call qword ptr fs:[rip + pointer_of_fs - 0x60000]
    jmp beyond_fs
pointer_of_fs: .quad reached_by_fs
reached_by_fs:
    inc r9
    ret
beyond_fs:

## flags_of_locked_instructions: each LOCKed form leaves the flags of the one without
    mov ebx, 0x60000
    mov rax, 0x8000000000000001
    mov qword ptr [rbx], 0x7f
    mov r15, rsp
    lock add byte ptr [rbx], 1
    pushfq
    lock adc word ptr [rbx], ax
    pushfq
    lock sub [rbx], rax
    pushfq
    lock sbb dword ptr [rbx], eax
    pushfq
    lock and dword ptr [rbx], -16
    pushfq
    lock or byte ptr [rbx], 0x80
    pushfq
    lock xor [rbx], rax
    pushfq
    lock inc word ptr [rbx]
    pushfq
    lock dec qword ptr [rbx]
    pushfq
    lock neg byte ptr [rbx]
    pushfq
    lock neg word ptr [rbx]
    pushfq
    lock neg qword ptr [rbx]
    pushfq
    lock not dword ptr [rbx]
    pushfq
    lock xadd [rbx], eax
    pushfq
    lock cmpxchg [rbx], ecx
    pushfq
    lock cmpxchg byte ptr [rbx], cl
    pushfq
    lock cmpxchg8b [rbx]
    pushfq
    lock bts dword ptr [rbx], 7
    pushfq
    lock btr word ptr [rbx], 7
    pushfq
    lock btc qword ptr [rbx], 63
    pushfq
    mov rsi, rsp
    mov rcx, r15
    sub rcx, rsi
    mov edx, 0xe9
    mov rdi, 0x48d5
mask_flags:
    lodsq
    and rax, 0x8d5
    out dx, ax
    sub rcx, 8
    jnz mask_flags
    mov rsp, r15
