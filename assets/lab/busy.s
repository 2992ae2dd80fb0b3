# busy: never sleeps. The timer interrupts it where it is, but not where it has forbidden that.
#
# It counts on until the timer has struck three times; then it works for three milliseconds with
# interrupts off, in which the count has to stay, and must get what waited as soon as they are on again.

_start:
        call    set_up
        sti
        mov     r12, [rip + given]      # registers have to come back as they were
        mov     r13, r12
first:  inc     r12
        cmp     qword ptr [rip + strikes], 3
        jb      first
        mov     al, 49                  # '1'
        out     0xe9, al

        pushfq
        cli
        mov     r14, [rip + strikes]
        mov     ecx, 1500
work:   dec     ecx
        jnz     work
        mov     al, 61                  # '=': none came
        cmp     r14, [rip + strikes]
        je      even
        mov     al, 33                  # '!'
even:   out     0xe9, al
        popfq                           # on again: the one that waited comes now
        nop
        mov     al, 43                  # '+'
        cmp     r14, [rip + strikes]
        jb      more
        mov     al, 45                  # '-': it got lost
more:   out     0xe9, al

        cli                             # the same by STI, which holds it back for one instruction
        mov     r14, [rip + strikes]
        mov     ecx, 1500
again:  dec     ecx
        jnz     again
        sti
        mov     r15, [rip + strikes]
        nop
        mov     al, 43
        cmp     r14, [rip + strikes]
        jb      got
        mov     al, 45
got:    out     0xe9, al
        mov     al, 61
        cmp     r14, r15
        je      held
        mov     al, 33
held:   out     0xe9, al

last:   cmp     qword ptr [rip + strikes], 8
        jb      last
        lea     rsi, [rip + given]
next:   mov     al, [rsi]
        test    al, al
        jz      done
        out     0xe9, al
        inc     rsi
        jmp     next
done:   xor     eax, eax
        cmp     r13, [rip + given]
        setne   al
        out     0xf4, al
        cli
        hlt

strike: push    rax
        inc     qword ptr [rip + strikes]
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq

set_up: lea     rcx, [rip + idt]
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

strikes: .quad  0
        .align  16
idt:    .skip   0x210
table:  .word   0x20f
        .quad   0
        .align  8
given:  .ascii  "Never a quiet minute.\n"
        .skip   42
