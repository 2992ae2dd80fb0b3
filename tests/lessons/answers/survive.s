# A handler for #GP that goes on at a label behind the instruction. The status is that of seed None.
_start: lea     rax, [rip + caught]
        lea     rdi, [rip + idt + 16 * 13]
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], eax
        lidt    [rip + idtr]
        mov     eax, 0x1238
        mov     ds, ax
behind: lea     rsi, [rip + alive]
        mov     ecx, 6
        mov     edx, 0xe9
        rep     outsb
        mov     al, 17
        out     0xf4, al
caught: add     rsp, 8
        lea     rsi, [rip + text]
        mov     ecx, 7
        mov     edx, 0xe9
        rep     outsb
        lea     rax, [rip + behind]
        mov     [rsp], rax
        iretq
text:   .ascii  "caught\n"
alive:  .ascii  "alive\n"
idtr:   .short  16 * 14 - 1
        .quad   idt
        .balign 16
idt:    .space  16 * 14
