# Level 2, seed 3036040025: after 34 instructions, add rsp, 8 at 0x1000a2: interpreter: cr2=0xb7fe0; trap:native: cr2=0xb8000; trap:portable: cr2=0xb8000
# Around every random guest of levels 2 and 3. Each random instruction stands in a slot of 16 bytes;
# whatever faults goes on in the next slot. Every gate has a stack of its own (IST 1), since RSP is
# fair game too.
.set DATA, 0x300000
_start:
    lidt [rip + idtr]
    mov qword ptr [0x110a4], 0x98000    # IST 1
    mov qword ptr [0x11084], 0x97000    # RSP 0
mov rbx, 0x300000
mov rsp, 0x3f0000

    or byte ptr [0x12000], 4
    or byte ptr [0x13000], 4
    or byte ptr [0x14000], 4
    or byte ptr [0x14008], 4
    or byte ptr [0x15000 + 8 * 0x100], 4
or byte ptr [0x15000 + 8 * 0x101], 4
or byte ptr [0x15000 + 8 * 0x102], 4
or byte ptr [0x15000 + 8 * 0x103], 4
or byte ptr [0x15000 + 8 * 0x104], 4
or byte ptr [0x15000 + 8 * 0x105], 4
or byte ptr [0x15000 + 8 * 0x106], 4
or byte ptr [0x15000 + 8 * 0x107], 4
    mov rax, cr3
    mov cr3, rax
    push 0x2b
    push 0x3f0000
    push 0x202
    push 0x33
    lea rax, [rip + slots]
    push rax
    iretq

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
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip_with_code - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short device - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 239; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 143; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 110; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 236; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 14; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 142; .short 0x10; .quad 0
.short skip - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.short finish - _start; .short 0x10; .byte 1; .byte 238; .short 0x10; .quad 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.quad 0, 0
.align 4096
pages:
.quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10003, 0x11003, 0x12003, 0x13003, 0x14003, 0x15003, 0x16003, 0x17003, 0x18003, 0x19003, 0x1a003, 0x1b003, 0x1c003, 0x1d003, 0x1e003, 0x1f003, 0x20003, 0x21003, 0x22003, 0x23003, 0x24003, 0x25003, 0x26003, 0x27003, 0x28003, 0x29003, 0x2a003, 0x2b003, 0x2c003, 0x2d003, 0x2e003, 0x2f003, 0x30003, 0x31003, 0x32003, 0x33003, 0x34003, 0x35003, 0x36003, 0x37003, 0x38003, 0x39003, 0x3a003, 0x3b003, 0x3c003, 0x3d003, 0x3e003, 0x3f003, 0x40003, 0x41003, 0x42003, 0x43003, 0x44003, 0x45003, 0x46003, 0x47003, 0x48003, 0x49003, 0x4a003, 0x4b003, 0x4c003, 0x4d003, 0x4e003, 0x4f003, 0x50003, 0x51003, 0x52003, 0x53003, 0x54003, 0x55003, 0x56003, 0x57003, 0x58003, 0x59003, 0x5a003, 0x5b003, 0x5c003, 0x5d003, 0x5e003, 0x5f003, 0x60003, 0x61003, 0x62003, 0x63003, 0x64003, 0x65003, 0x66003, 0x67003, 0x68003, 0x69003, 0x6a003, 0x6b003, 0x6c003, 0x6d003, 0x6e003, 0x6f003, 0x70003, 0x71003, 0x72003, 0x73003, 0x74003, 0x75003, 0x76003, 0x77003, 0x78003, 0x79003, 0x7a003, 0x7b003, 0x7c003, 0x7d003, 0x7e003, 0x7f003, 0x80003, 0x81003, 0x82003, 0x83003, 0x84003, 0x85003, 0x86003, 0x87003, 0x88003, 0x89003, 0x8a003, 0x8b003, 0x8c003, 0x8d003, 0x8e003, 0x8f003, 0x90003, 0x91003, 0x92003, 0x93003, 0x94003, 0x95003, 0x96003, 0x97003, 0x98003, 0x99003, 0x9a003, 0x9b003, 0x9c003, 0x9d003, 0x9e003, 0x9f003, 0xa0003, 0xa1003, 0xa2003, 0xa3003, 0xa4003, 0xa5003, 0xa6003, 0xa7003, 0xa8003, 0xa9003, 0xaa003, 0xab003, 0xac003, 0xad003, 0xae003, 0xaf003, 0xb0003, 0xb1003, 0xb2003, 0xb3003, 0xb4003, 0xb5003, 0xb6003, 0xb7003, 0xb8003, 0xb9003, 0xba003, 0xbb003, 0xbc003, 0xbd003, 0xbe003, 0xbf003, 0xc0003, 0xc1003, 0xc2003, 0xc3003, 0xc4003, 0xc5003, 0xc6003, 0xc7003, 0xc8003, 0xc9003, 0xca003, 0xcb003, 0xcc003, 0xcd003, 0xce003, 0xcf003, 0xd0003, 0xd1003, 0xd2003, 0xd3003, 0xd4003, 0xd5003, 0xd6003, 0xd7003, 0xd8003, 0xd9003, 0xda003, 0xdb003, 0xdc003, 0xdd003, 0xde003, 0xdf003, 0xe0003, 0xe1003, 0xe2003, 0xe3003, 0xe4003, 0xe5003, 0xe6003, 0xe7003, 0xe8003, 0xe9003, 0xea003, 0xeb003, 0xec003, 0xed003, 0xee003, 0xef003, 0xf0003, 0xf1003, 0xf2003, 0xf3003, 0xf4003, 0xf5003, 0xf6003, 0xf7003, 0xf8003, 0xf9003, 0xfa003, 0xfb003, 0xfc003, 0xfd003, 0xfe003, 0xff003, 0x100003, 0x101003, 0x102003, 0x103003, 0x104003, 0x105003, 0x106003, 0x107003, 0x108003, 0x109003, 0x10a003, 0x10b003, 0x10c003, 0x10d003, 0x10e003, 0x10f003, 0x110003, 0x111003, 0x112003, 0x113003, 0x114003, 0x115003, 0x116003, 0x117003, 0x118003, 0x119003, 0x11a003, 0x11b003, 0x11c003, 0x11d003, 0x11e003, 0x11f003, 0x120003, 0x121003, 0x122003, 0x123003, 0x124003, 0x125003, 0x126003, 0x127003, 0x128003, 0x129003, 0x12a003, 0x12b003, 0x12c003, 0x12d003, 0x12e003, 0x12f003, 0x130003, 0x131003, 0x132003, 0x133003, 0x134003, 0x135003, 0x136003, 0x137003, 0x138003, 0x139003, 0x13a003, 0x13b003, 0x13c003, 0x13d003, 0x13e003, 0x13f003, 0x140003, 0x141003, 0x142003, 0x143003, 0x144003, 0x145003, 0x146003, 0x147003, 0x148003, 0x149003, 0x14a003, 0x14b003, 0x14c003, 0x14d003, 0x14e003, 0x14f003, 0x150003, 0x151003, 0x152003, 0x153003, 0x154003, 0x155003, 0x156003, 0x157003, 0x158003, 0x159003, 0x15a003, 0x15b003, 0x15c003, 0x15d003, 0x15e003, 0x15f003, 0x160003, 0x161003, 0x162003, 0x163003, 0x164003, 0x165003, 0x166003, 0x167003, 0x168003, 0x169003, 0x16a003, 0x16b003, 0x16c003, 0x16d003, 0x16e003, 0x16f003, 0x170003, 0x171003, 0x172003, 0x173003, 0x174003, 0x175003, 0x176003, 0x177003, 0x178003, 0x179003, 0x17a003, 0x17b003, 0x17c003, 0x17d003, 0x17e003, 0x17f003, 0x180003, 0x181003, 0x182003, 0x183003, 0x184003, 0x185003, 0x186003, 0x187003, 0x188003, 0x189003, 0x18a003, 0x18b003, 0x18c003, 0x18d003, 0x18e003, 0x18f003, 0x190003, 0x191003, 0x192003, 0x193003, 0x194003, 0x195003, 0x196003, 0x197003, 0x198003, 0x199003, 0x19a003, 0x19b003, 0x19c003, 0x19d003, 0x19e003, 0x19f003, 0x1a0003, 0x1a1003, 0x1a2003, 0x1a3003, 0x1a4003, 0x1a5003, 0x1a6003, 0x1a7003, 0x1a8003, 0x1a9003, 0x1aa003, 0x1ab003, 0x1ac003, 0x1ad003, 0x1ae003, 0x1af003, 0x1b0003, 0x1b1003, 0x1b2003, 0x1b3003, 0x1b4003, 0x1b5003, 0x1b6003, 0x1b7003, 0x1b8003, 0x1b9003, 0x1ba003, 0x1bb003, 0x1bc003, 0x1bd003, 0x1be003, 0x1bf003, 0x1c0003, 0x1c1003, 0x1c2003, 0x1c3003, 0x1c4003, 0x1c5003, 0x1c6003, 0x1c7003, 0x1c8003, 0x1c9003, 0x1ca003, 0x1cb003, 0x1cc003, 0x1cd003, 0x1ce003, 0x1cf003, 0x1d0003, 0x1d1003, 0x1d2003, 0x1d3003, 0x1d4003, 0x1d5003, 0x1d6003, 0x1d7003, 0x1d8003, 0x1d9003, 0x1da003, 0x1db003, 0x1dc003, 0x1dd003, 0x1de003, 0x1df003, 0x1e0003, 0x1e1003, 0x1e2003, 0x1e3003, 0x1e4003, 0x1e5003, 0x1e6003, 0x1e7003, 0x1e8003, 0x1e9003, 0x1ea003, 0x1eb003, 0x1ec003, 0x1ed003, 0x1ee003, 0x1ef003, 0x1f0003, 0x1f1003, 0x1f2003, 0x1f3003, 0x1f4003, 0x1f5003, 0x1f6003, 0x1f7003, 0x1f8003, 0x1f9003, 0x1fa003, 0x1fb003, 0x1fc003, 0x1fd003, 0x1fe003, 0x1ff003
slots:
push 0x2a56fe
.align 16
.byte 0x66, 0x9d
.align 16
mov esi, 0x3ffff8
mov edi, 0xb8000
mov ecx, 9
.align 16
rep stosd
.align 16
.align 16
done:
    int 0x81
.align 4096

