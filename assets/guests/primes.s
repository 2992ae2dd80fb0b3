# primes: counts the primes below 2000 by trial division.
#
# Pure computation. Loads, divisions, compares and jumps mean the same in every ring, so the CPU
# runs them directly: not one exit until the number is printed. Watch the trap core's efficiency.

_start:
        xor     ebx, ebx                # primes found so far
        mov     ecx, 2                  # the candidate

candidate:
        mov     esi, 2                  # the divisor
divisor:
        mov     eax, esi
        imul    eax, esi
        cmp     eax, ecx
        ja      prime                   # divisor squared exceeds the candidate: it is prime
        mov     eax, ecx
        xor     edx, edx
        div     esi
        test    edx, edx
        jz      composite
        inc     esi
        jmp     divisor
prime:
        inc     ebx
composite:
        inc     ecx
        cmp     ecx, 2000
        jb      candidate

# Print EBX in decimal: digits are made from the last to the first, so they wait on the stack.
        mov     eax, ebx
        mov     ecx, 10
        xor     edi, edi                # digits on the stack
digit:
        xor     edx, edx
        div     ecx
        add     edx, '0'
        push    rdx
        inc     edi
        test    eax, eax
        jnz     digit
print:
        pop     rax
        out     0xe9, al                # the first exits of the whole program
        dec     edi
        jnz     print
        mov     al, 10
        out     0xe9, al

        xor     eax, eax
        out     0xf4, al
        cli
        hlt
