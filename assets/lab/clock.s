# clock: reads the time twice, with work between, and then sleeps for ever.
#
# The CPU of the lab counts 1,000 to an instruction, so the difference is exact, and printed. HLT with
# interrupts off ends the machine: no status, "halted".

_start:
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        mov     r12, rax
        movzx   ecx, byte ptr [rip + given]
work:   dec     ecx
        jnz     work
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        sub     rax, r12
        mov     rbx, rax
        mov     ecx, 16
digit:  rol     rbx, 4
        mov     al, bl
        and     al, 15
        add     al, 48
        cmp     al, 58
        jb      put
        add     al, 39
put:    out     0xe9, al
        dec     ecx
        jnz     digit
        cli
        hlt
        mov     al, 33                  # '!': nothing wakes a CPU with interrupts off
        out     0xe9, al
        out     0xf4, al

given:  .ascii  "Tick, tock.\n"
        .skip   52
