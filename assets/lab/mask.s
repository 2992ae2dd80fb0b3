# mask: turns interrupts on and off, and looks each time whether they are.
#
# A digit a time: 1 where IF is set. The right answer begins 01010. The status flags pass through
# PUSHF and POPF unharmed.

_start:
        cli
        call    look
        sti
        call    look
        pushfq
        pop     rbx                     # with IF
        cli
        call    look
        push    rbx
        popfq                           # sets IF again
        call    look
        and     rbx, -0x201             # without IF
        push    rbx
        popfq
        call    look

        lea     rsi, [rip + given]      # the flags of a sum, through the stack and back
        xor     ecx, ecx
sum:    mov     al, [rsi]
        test    al, al
        jz      done
        add     cl, al                  # sets CF, OF, SF, ZF, PF, AF
        pushfq
        popfq
        adc     ch, 0                   # so CF counts
        pushfq
        pop     rdx
        add     r8, rdx                 # all of them count
        inc     rsi
        jmp     sum
done:   mov     eax, ecx
        xor     al, ah
        and     al, 0x7f
        out     0xf4, al
        cli
        hlt

look:   pushfq
        pop     rax
        shr     eax, 9
        and     eax, 1
        add     al, 48
        out     0xe9, al
        ret

given:  .ascii  "Silence is not consent.\n"
        .skip   40
