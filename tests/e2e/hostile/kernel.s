# Around every hostile guest: any exception or interrupt, of either ring, goes on at R15 with a fresh
# stack and clean flags. So one guest tries hundreds of things. `finish` ends it; exit status 77.
.set TSS, 0x11080
.set STACK, 0x98000
.set USER_STACK, 0x300000
.set TABLES, 0x40000                # free for page tables and descriptors

_start:
    lidt [rip + idtr]
    mov rsp, STACK
    mov qword ptr [TSS + 4], STACK
    mov qword ptr [TSS + 0x24], STACK    # IST 1, that all gates use
    lea r15, [rip + finish]
{body}
finish:
    mov al, 77
    out 0xf4, al
    cli
    hlt

caught:
    mov rsp, STACK
    push 2
    popfq
    cld
    jmp r15

acknowledge:                        # a device's interrupt
    push rax
    mov al, 0x20
    out 0x20, al
    out 0xa0, al
    inc dword ptr [rip + interrupts]
    pop rax
    iretq

to_user:                            # ring 3 may touch all that the boot tables map; goes on at R14
    cmp byte ptr [rip + opened], 0
    jne enter
    mov byte ptr [rip + opened], 1
    mov rbx, 0x12000
    or byte ptr [rbx], 4
    or byte ptr [rbx + 0x1000], 4
    lea rdi, [rbx + 0x2000]
    mov ecx, 2 + 512                # the directory's first entries, and the first table
open:
    or byte ptr [rdi], 4
    add rdi, 8
    cmp ecx, 513
    jne onward_in_table
    mov edi, 0x15000
onward_in_table:
    loop open
    mov rbx, cr3
    mov cr3, rbx
    mov ecx, 0xc0000081             # STAR, LSTAR: a system call is caught like a fault
    xor eax, eax
    mov edx, 0x00200010
    wrmsr
    inc ecx
    lea rax, [rip + caught]
    xor edx, edx
    wrmsr
enter:
    push 0x2b
    push USER_STACK
    push 0x202
    push 0x33
    push r14
    iretq

interrupts: .long 0
opened: .byte 0
.balign 16
idtr:
    .short 4095
    .quad 0x100000 + idt - _start
.balign 16
idt:
{gates}
{more}
