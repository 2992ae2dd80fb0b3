# The small kernel around every guest of guests/*.s. It notes down each fault as 16 bytes
# (vector, ring, error code, low half of RIP, CR2), and at the end writes notes and registers to the
# console, so that free mode, which compares consoles, sees them too.
#
#   vector 0-31     faults go on at R13; traps (1, 3, 4) behind the instruction. Gates of DPL 0, but 3, 4
#   vector 0x20-2f  the PICs': counted in `interrupts`, acknowledged
#   vector 0x40-41  interrupt and trap gate of DPL 3; 0x42 of DPL 0; then broken gates; 0x47 on IST 2; 0x48 ends
.set TSS, 0x11080
.set USER_DATA, 0x200000
.set USER_STACK, 0x300000

_start:
    lidt [rip + idtr]
    lea r13, [rip + finish]
{kernel}
finish:                             # registers first; R12 to R15 are the kernel's and the guest's own
    cli
    mov rsp, 0x9f000
    push r11; push r10; push r9; push r8; push rbp; push rdi; push rsi
    push rdx; push rcx; push rbx; push rax
    cld
    mov edx, 0xe9
    mov rsi, rsp
    mov ecx, 88
    rep outsb
    lea rsi, [rip + notes]
    mov rcx, [rip + cursor]
    sub rcx, rsi
    rep outsb
    xor eax, eax
    out 0xf4, al
    cli
    hlt

# --- faults: on the stack stand vector, error code, RIP, CS, RFLAGS, RSP, SS
fault:
    call note
    add rsp, 16
    mov [rsp], r13
    iretq
trap:
    call note
    add rsp, 16
    iretq
note:
    push rax
    push rcx
    mov rcx, [rip + cursor]
    mov al, [rsp + 24]
    mov [rcx], al
    mov al, [rsp + 48]
    and al, 3
    mov [rcx + 1], al
    mov ax, [rsp + 32]
    mov [rcx + 2], ax
    mov eax, [rsp + 40]
    mov [rcx + 4], eax
    mov rax, cr2
    mov [rcx + 8], rax
    add qword ptr [rip + cursor], 16
    pop rcx
    pop rax
    ret
interrupt:
    push rax
    mov al, 0x20
    out 0x20, al
    out 0xa0, al
    inc qword ptr [rip + interrupts]
    pop rax
    iretq

# --- user mode: `jmp enter_user` runs %user at CPL 3; its SYSCALL with RAX = 0 ends the guest
enter_user:
    call open_user
    lea rcx, [rip + user]
enter_user_at_rcx:
    push 0x2b
    push USER_STACK
    push 0x202
    push 0x33
    push rcx
    iretq
open_user:                          # let ring 3 have its code, data and stack; set its ways back
    mov rbx, cr3
    or byte ptr [rbx], 4
    or byte ptr [rbx + 0x1000], 4
    or byte ptr [rbx + 0x2000], 4
    or byte ptr [rbx + 0x2008], 4
    lea rax, [rip + user]
    shr rax, 12
    or byte ptr [rbx + rax * 8 + 0x3000], 4
    or byte ptr [rbx + rax * 8 + 0x3008], 4
    mov cr3, rbx
    mov qword ptr [TSS + 4], 0x98000
    mov ecx, 0xc0000081             # STAR
    xor eax, eax
    mov edx, 0x00200010
    wrmsr
    inc ecx                         # LSTAR
    lea rax, [rip + system_call]
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000084             # FMASK: IF, DF, TF
    mov eax, 0x700
    wrmsr
    ret
system_call:                        # notes RAX and R11; RAX = 0 ends the guest
    test rax, rax
    jz finish
    mov [rip + user_rsp], rsp
    mov rsp, 0x97000
    push rcx
    mov rcx, [rip + cursor]
    mov word ptr [rcx], 0x3ff
    mov [rcx + 2], ax
    mov [rcx + 8], r11
    add qword ptr [rip + cursor], 16
    pop rcx
    mov rsp, [rip + user_rsp]
    sysretq

# --- page tables of the guest's own at 0x80000: PML4, PDPT, PD, and a PT for the first 2 MiB, from 0 on
own_tables:
    mov edi, 0x80000
    xor eax, eax
    mov ecx, 0x800
    rep stosq
    mov qword ptr [0x80000], 0x81003
    mov qword ptr [0x81000], 0x82003
    mov qword ptr [0x82000], 0x83003
    mov qword ptr [0x82008], 0x200083
    mov edi, 0x83000
    lea rsi, [rip + first_pages]
    mov ecx, 512
    rep movsq
    mov edi, 0x80000
    mov cr3, rdi
    ret
.set PT, 0x83000                    # own_tables' entries: PT + 8 * page number

# --- the PICs at vectors 0x20 and 0x28, with only the lines in BX open
start_pic:
    mov al, 0x11
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, bl
    not al
    out 0x21, al
    mov al, bh
    not al
    out 0xa1, al
    ret
start_timer:                        # a tick every CX periods of 1/1193182 s
    mov al, 0x34
    out 0x43, al
    mov al, cl
    out 0x40, al
    mov al, ch
    out 0x40, al
    mov ebx, 1
    jmp start_pic

{more}

{stubs}
.align 16
interrupts: .quad 0
user_rsp: .quad 0
cursor: .quad notes
idtr: .short idt_end - idt - 1
    .quad idt
.align 16
idt:
{gates}
idt_end:
notes: .space 1024
first_pages:
{pages}
.align 4096
user:
{user}
    xor eax, eax
    syscall
