# nested: critical sections inside each other, as kernels have them, and the oldest question to a CPU.
#
# Each function saves the flags, turns interrupts off and restores what was. If RFLAGS.ID (bit 21) can
# be changed, the CPU has CPUID: the way by which programs of 1993 found out. IOPL (bits 12, 13) may be
# changed by ring 0.

_start:
        sti
        call    outer
        call    look                    # 1
        cli
        call    outer
        call    look                    # 0

        pushfq
        pop     rax
        mov     rbx, rax
        xor     rax, 0x200000           # ID
        push    rax
        popfq
        pushfq
        pop     rax
        xor     rax, rbx
        shr     eax, 21
        and     eax, 1
        add     al, 48
        out     0xe9, al                # 1: it changed

        push    0x3002                  # IOPL 3, and everything else off
        popfq
        pushfq
        pop     rax
        mov     [rip + seen], rax
        shr     eax, 12
        and     eax, 3
        add     al, 48
        out     0xe9, al                # 3

        push    -0x101                  # all flags but TF: of the others only some can be set
        popfq
        pushfq
        pop     rax
        mov     [rip + seen], rax
        push    2
        popfq

        std                             # the direction flag is the program's own
        pushfq
        cld
        popfq
        lea     rsi, [rip + given + 7]
        lodsb
        lodsb
        cld
        out     0xe9, al                # the letter before
        xor     eax, eax
        out     0xf4, al
        cli
        hlt

outer:  pushfq
        cli
        call    inner
        call    look                    # 0
        popfq
        ret

inner:  pushfq
        cli
        popfq
        ret

look:   pushfq
        pop     rax
        shr     eax, 9
        and     eax, 1
        add     al, 48
        out     0xe9, al
        ret

seen:   .skip   8
given:  .ascii  "Save, clear, restore.\n"
        .skip   42
