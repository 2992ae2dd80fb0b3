# Exceptions: which one, with which error code, and where RIP stands (SDM vol. 3, ch. 6)

## ud2: an opcode that is undefined for ever
%faults #UD
! ud2

## undefined_encodings: bytes that no 64-bit CPU accepts
%faults #UD #UD #UD #UD #UD #UD #UD
! .byte 0x06
! .byte 0xd6
! .byte 0x27
! .byte 0x0f, 0x04
! .byte 0xf0, 0x90
! .byte 0xf0, 0x01, 0xc0
! .byte 0x8d, 0xc0

## too_long: more than 15 bytes of prefixes
%faults #GP
! .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90

## divide_by_zero: #DE leaves the registers as they were
%faults #DE #DE #DE #DE
    mov eax, 5
    xor ecx, ecx
! div ecx
    mov rdx, -1
! div rdx
    mov eax, 0x80000000
    mov edx, eax
    mov ecx, -1
! idiv ecx
    mov ax, 0x7fff
    mov cl, 1
! div cl

## null_pointer: address 0 is not mapped; the error code tells a read from a write
%faults #PF #PF(2) #PF(2) #PF(2)
    xor ecx, ecx
! mov rax, [rcx]
! mov [rcx + 0x123], rax
! add [rcx], rax
! xchg [rcx + 8], rax

## outside_ram: behind the end of RAM nothing is mapped
%faults #PF #PF(2) #PF
    mov ecx, 0x30000000
! mov rax, [rcx]
! mov [rcx], eax
    mov rcx, 0x400000 - 4
! mov rax, [rcx]

## upper_half: canonical addresses that no table maps
%faults #PF #PF(2) #PF #PF
    mov rcx, 0xffff800000000000
! mov rax, [rcx]
! mov [rcx], rax
    mov rcx, 0x7fffffffe000
! mov rax, [rcx]
    mov rcx, -8
! mov rax, [rcx]

## non_canonical: #GP, but #SS through the stack
%faults #GP #GP #SS #SS #GP #SS
    mov rcx, 0x8000000000000000
! mov [rcx], rax
! mov rax, [rcx]
    mov rbp, rcx
! mov rax, [rbp + 8]
! mov rax, ss:[rbp]
    mov byte ptr [rip + idt + 12 * 16 + 4], 1
    mov qword ptr [TSS + 0x24], 0x96000
    mov rbx, rsp
! mov rax, fs:[rbp]
    mov rsp, rcx
! push rax
    mov rsp, rbx

## fetch_from_nowhere: #PF of the fetch itself, CR2 = RIP
%faults #PF(0x10) #PF(0x10)
    mov eax, 0x5000
! jmp rax
    mov rax, 0x7fff00000000
! call rax
    pop rcx

## non_canonical_branch [exact]: #GP at the branch, before RIP has left
%faults #GP #GP #GP
    mov rax, 0x8000000000000000
! jmp rax
    mov rbx, rsp
! call rax
    push rax
! ret
    mov rsp, rbx

## instruction_across_pages: the second page is missing, and CR2 names it
%faults #PF(0x10)
    mov edi, 0x60000 - 1
    mov byte ptr [edi], 0x48
    and qword ptr [0x15000 + 8 * 0x60], -2
    invlpg [0x60000]
! jmp rdi

## breakpoint: int3 and int 3 are traps, RIP behind them
%faults #BP #BP #OF
    int3
    .byte 0xcd, 3
    int 4

## software_interrupts: gates of both kinds; IF is cleared by one and kept by the other
%faults 0x40 0x41 0x42
    int 0x40
    int 0x41
    int 0x42

## broken_gates: not present, of a wrong type, null selector, data selector, behind the limit
%faults #NP(0x21a) #GP(0x222) #GP #GP(0x18) #GP(0x482)
! int 0x43
! int 0x44
! int 0x45
! int 0x46
! int 0x90

## null_selector_loads: in ring 0 of long mode every data segment takes the null selector, SS too
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov ebx, ss
    mov eax, 0x18
    mov ss, eax

## null_stack_of_ring_3 [exact]: SS takes the null selector with the RPL of its own ring alone
%faults #GP
    mov eax, 3
    mov ds, eax
! mov ss, eax

## bad_selectors: behind the table's limit, a wrong type, a privilege too low
%faults #GP(0x58) #GP(0x40) #GP(0x28) #GP(0x10) #GP(0x18)
    mov eax, 0x58
! mov ds, eax
    mov eax, 0x40
! mov es, eax
    mov eax, 0x2b
! mov ss, eax
    mov eax, 0x10
! mov ss, eax
    mov eax, 0x1b
! mov ss, eax

## segment_not_present: #NP for data, #SS for the stack, the descriptor's selector as error code
%faults #NP(0x20) #SS(0x20)
    mov rax, [0x11018]
    btr rax, 47
    mov [0x11020], rax
    mov eax, 0x20
! mov ds, eax
! mov ss, eax
    bts qword ptr [0x11020], 47
    mov ds, eax
    mov ss, eax

## misaligned_sse [exact]: aligned forms fault, unaligned ones do not
%faults #GP #GP #GP
    lea rcx, [rsp - 0x101]
! movaps xmm0, [rcx]
! movdqa [rcx], xmm0
! addps xmm0, [rcx]
! movups xmm0, [rcx]
! movdqu [rcx], xmm0

## unknown_msr: reads and writes of what the platform lacks
%faults #GP #GP #GP #GP
    mov ecx, 0x1234
! rdmsr
! wrmsr
    mov ecx, 0x1a0
! rdmsr
    mov ecx, 0xc0000103
! rdmsr

## bad_msr_values [hardware]: reserved EFER bits, non-canonical bases
%faults #GP #GP #GP
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x4000
! wrmsr
    mov ecx, 0xc0000100
    mov edx, 0x80000000
! wrmsr
    mov ecx, 0xc0000082
! wrmsr

## bad_control_bits [hardware]: CR4 beyond the platform's, CR0 that contradicts itself, CR8 and CR3 too wide
%faults #GP #GP #GP #GP #GP #UD #UD
    mov rax, cr4
    bts rax, 17
! mov cr4, rax
    mov eax, 1
! mov cr0, rax
    mov rax, cr0
    bts rax, 32
! mov cr0, rax
    mov eax, 0x10
! mov cr8, rax
    mov rax, cr4
    btr rax, 5
! mov cr4, rax
! .byte 0x0f, 0x20, 0xc8
! .byte 0x0f, 0x20, 0xe8

## absent_instructions [hardware]: instructions that the platform's CPUID does not list are #UD
%faults #UD #UD #UD #UD #UD #UD #UD #UD
! .byte 0xc5, 0xf0, 0x58, 0xc2
! rdrand eax
! xgetbv
! .byte 0xf3, 0x0f, 0xc7, 0xf8
! .byte 0xf3, 0x0f, 0xae, 0xc0
! .byte 0x0f, 0x01, 0xee
! .byte 0x0f, 0xae, 0x27
! rdseed rax

## nested_fault: a fault while the handler of another runs
%faults #UD #DE
! ud2
    lea rax, [rip + v6_own]
    mov [rip + idt + 6 * 16], ax
    lea r13, [rip + after_nested]
    ud2
after_nested:
%more
v6_own:
    push 0
    push 6
    xor ecx, ecx
    lea r13, [rip + v6_done]
    div ecx
v6_done:
    add rsp, 16
    lea rax, [rip + after_nested]
    mov [rsp], rax
    iretq

## double_fault: a fault on the way to a handler becomes #DF, with 0 and an older RIP
%faults #DF
    mov byte ptr [rip + idt + 14 * 16 + 5], 0
    xor ecx, ecx
! mov rax, [rcx]

## benign_then_fault [hardware=always]: #UD's missing gate is just a #NP, no #DF
%faults #NP(0x33)
    and byte ptr [rip + idt + 6 * 16 + 5], 0x7f
! ud2

## contributory_pair: #DE with a gate that is not there gives #DF
%faults #DF
    and byte ptr [rip + idt + 5], 0x7f
    xor ecx, ecx
! div ecx

## handler_without_stack [hardware=always]: the frame cannot be pushed: #PF inside #UD is #DF, and that has no stack either
%ends shutdown
    mov rsp, 0x500
    ud2

## double_fault_on_ist [hardware=always]: an IST stack rescues what has lost its own
%faults #DF
    mov byte ptr [rip + idt + 8 * 16 + 4], 1
    mov qword ptr [TSS + 0x24], 0x96000
    mov rbx, rsp
    mov rsp, 0x500
! ud2
    mov rsp, rbx

## ist: a gate with IST takes its own stack, aligned to 16
%faults #UD 0x47
    mov byte ptr [rip + idt + 6 * 16 + 4], 1
    mov qword ptr [TSS + 0x24], 0x96008
    mov qword ptr [TSS + 0x2c], 0x95000
! ud2
    int 0x47

## no_idt [bare]: the first fault of a program without an IDT shuts it down
%ends shutdown
    ud2

## return_to_zero [bare]: a program that returns goes to 0, where nothing is
%ends shutdown
    ret

## triple_fault_later [bare]: an IDT whose gates lead nowhere
%ends shutdown
    lidt [rip + wrong]
    int3
wrong: .short 0xfff
    .quad 0x5000

## icebp: F1 is a #DB trap
%faults #DB
    .byte 0xf1

## bounds_of_shifted_stack: push and call at an unmapped stack change nothing
%faults #DF #DF
    mov byte ptr [rip + idt + 14 * 16 + 4], 1
    mov byte ptr [rip + idt + 8 * 16 + 4], 1
    mov qword ptr [TSS + 0x24], 0x96000
    mov rbx, rsp
    mov rsp, 0x1000
    mov byte ptr [rip + idt + 14 * 16 + 5], 0
! push rax
! call finish
    mov rsp, rbx

## resume_flag: RF in a fault's frame, and what IRET makes of it
%faults #UD #DB #DB #DB #DB
! ud2
    mov rbx, rsp
    push 0x18
    push rbx
    push 0x10102
    push 0x10
    lea rax, [rip + stepped]
    push rax
    iretq
stepped:
    nop
    pushfq
    and dword ptr [rsp], -0x101
    popfq

## non_canonical_target: JMP, CALL and RET fault where they stand, registers unchanged, through the stack too
%faults #GP #GP #GP #GP #GP #GP #GP #GP #GP
    mov rax, 0x800000000000
!   jmp rax
    mov rcx, rsp
!   call rax
    mov rdx, rsp
    push rax
    mov rsi, rsp
!   ret
    mov rdi, rsp
!   ret 8
    mov rbp, rsp
    mov [0x50000], rax
!   jmp qword ptr [0x50000]
!   call qword ptr [0x50000]
    mov rbp, rsp
!   call qword ptr [rsp]
    mov rbp, 0x50010
    mov qword ptr [rsp-8], 0x1234
    push 5
    mov [0x50010], rax
!   call qword ptr [rbp]
    mov ebx, 5000
1:  dec ebx
    jnz 1b
    mov rax, 0xffff7fffffffffff
!   jmp rax
    mov r8, rsp

## non_canonical_call [exact]: CALL has pushed nothing before it faults
%faults #GP #GP
    mov rax, 0x800000000000
    push 5
    mov qword ptr [rsp - 8], 0x1234
!   call rax
    mov rbx, [rsp - 8]
    mov [0x50000], rax
!   call qword ptr [0x50000]
    mov rcx, [rsp - 8]

## exchange_faults_as_a_write: XCHG and its like ask for the right to write before they read
%faults #PF(2) #PF(3) #PF(2) #PF(3) #PF(2)
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0x61001
    mov qword ptr [PT + 8 * 0x62], 0
    invlpg [0x61000]
    invlpg [0x62000]
    mov ecx, 0x62000
    mov edx, 0x61000
! xchg [rcx], rax
! xchg [rdx], rax
! lock cmpxchg [rcx], rax
! xadd [rdx], rax
! not qword ptr [rcx]
    mov rsi, cr2
