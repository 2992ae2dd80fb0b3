# Around every random guest of levels 2 and 3. Each random instruction stands in a slot of 16 bytes;
# whatever faults goes on in the next slot. Every gate has a stack of its own (IST 1), since RSP is
# fair game too.
.set DATA, 0x300000
_start:
    lidt [rip + idtr]
    mov qword ptr [0x110a4], 0x98000    # IST 1
    mov qword ptr [0x110ac], 0x95000    # IST 2, for devices: they nest in the handlers of faults
    mov qword ptr [0x11084], 0x97000    # RSP 0
{setup}
    jmp slots

skip_with_code:
    add rsp, 8
skip:                                   # RIP to the next slot; out of all slots: to the end
    push rax
    push rbx
    mov rax, [rsp + 16]
    or rax, 15
    inc rax
    lea rbx, [rip + slots]
    cmp rax, rbx
    jb outside
    lea rbx, [rip + done]
    cmp rax, rbx
    ja outside
    mov [rsp + 16], rax
    pop rbx
    pop rax
    iretq
trapped:                                # #DB: TF is for one instruction
    and dword ptr [rsp + 16], 0xfffffeff
    iretq
reload:                                 # INT 0x82: ring 3 has changed a table
    push rax
    mov rax, cr3
    mov cr3, rax
    pop rax
    iretq
outside:
    mov qword ptr [rsp + 16], offset done
    mov qword ptr [rsp + 24], 0x10
    mov qword ptr [rsp + 40], 0x96000
    mov qword ptr [rsp + 48], 0x18
    pop rbx
    pop rax
    iretq
device:                                 # an interrupt of the PICs'
    push rax
    mov al, 0x20
    out 0x20, al
    out 0xa0, al
    pop rax
    iretq
system_call:                            # SYSCALL: back to where it came from, at ring 0
    jmp rcx
finish:
    mov al, 0
    out 0xf4, al
    cli
    hlt
.align 16
idtr: .short 0xfff
    .quad idt
.align 16
idt:
{gates}
.align 4096
pages:
{pages}
slots:
{slots}
.align 16
done:
    int 0x81
.align 4096
