# ticks: asks for a timer interrupt each millisecond, sleeps in between, and prints a letter at each.
#
# The interrupt controllers are set up as in any PC: IRQ 0 at vector 0x20, all others masked. STI and HLT
# stand side by side, so that no interrupt can come between them.

_start:
        call    set_up
        lea     rbx, [rip + given]
sleep:  sti
        hlt
        cli
        mov     al, [rbx]
        test    al, al
        jz      done
        cmp     rbx, [rip + at]
        je      sleep                   # woken by something else
        out     0xe9, al
        inc     rbx
        jmp     sleep
done:   mov     rax, [rip + at]         # one interrupt for each letter, and the last
        lea     rcx, [rip + given]
        sub     rax, rcx
        out     0xf4, al
        cli
        hlt

strike: push    rax
        inc     qword ptr [rip + at]
        mov     al, 0x20
        out     0x20, al                # end of interrupt
        pop     rax
        iretq

set_up: lea     rax, [rip + given]
        mov     [rip + at], rax
        lea     rcx, [rip + idt]
        mov     [rip + table + 2], rcx
        lidt    [rip + table]
        add     rcx, 0x200              # vector 0x20
        lea     rax, [rip + strike]
        mov     [rcx], ax
        mov     word ptr [rcx + 2], 0x10
        mov     word ptr [rcx + 4], 0x8e00
        shr     rax, 16
        mov     [rcx + 6], ax
        shr     rax, 16
        mov     [rcx + 8], eax
        mov     al, 0x11                # both controllers: ICW1 to ICW4
        out     0x20, al
        out     0xa0, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 0x28
        out     0xa1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xa1, al
        mov     al, 1
        out     0x21, al
        out     0xa1, al
        mov     al, 0xff
        out     0xa1, al
        mov     al, 0xfe                # all masked but IRQ 0
        out     0x21, al
        mov     al, 0x34                # the timer: counter 0, periodic
        out     0x43, al
        mov     al, 0xa9                # 1193 of 1,193,182 a second
        out     0x40, al
        mov     al, 4
        out     0x40, al
        ret

at:     .quad   0
        .align  16
idt:    .skip   0x210
table:  .word   0x20f
        .quad   0
        .align  8
given:  .ascii  "Time flies.\n"
        .skip   52
