# greet: prints what it is given, letter by letter, and ends with a status made of the letters.
#
# The first guest of the hypervisor lab. It leaves the CPU's ring 3 at `out` alone.

_start:
        lea     rsi, [rip + given]
        xor     ebx, ebx
next:
        mov     al, [rsi]
        test    al, al
        jz      done
        add     bl, al
        out     0xe9, al                # the debug console
        inc     rsi
        jmp     next
done:
        mov     eax, ebx
        and     eax, 0x7f
        out     0xf4, al                # the exit port: the status
        cli
        hlt

given:  .ascii  "Hello from the lab.\n"
        .skip   44
