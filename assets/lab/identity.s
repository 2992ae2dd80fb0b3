# identity: asks the CPU who it is, and prints it.
#
# CPUID leaves its answer in EAX, EBX, ECX and EDX, and clears their upper halves.

_start:
        mov     rbx, [rip + given]
        xor     eax, eax
        cpuid                           # leaf 0: the vendor, in EBX EDX ECX
        mov     [rip + name], ebx
        mov     [rip + name + 4], edx
        mov     [rip + name + 8], ecx
        call    print
        mov     eax, 0x40000000         # the hypervisor's name, in EBX ECX EDX
        cpuid
        mov     [rip + name], ebx
        mov     [rip + name + 4], ecx
        mov     [rip + name + 8], edx
        call    print
        mov     eax, 1
        cpuid                           # the features
        and     ecx, 0x80000000         # "a hypervisor is there"
        jz      alone
        mov     al, 43                  # '+'
        out     0xe9, al
alone:  mov     eax, [rip + given]
        or      eax, 0x10000            # a leaf that is not there
        mov     ecx, [rip + given + 4]
        cpuid
        or      eax, ebx
        or      eax, ecx
        or      eax, edx
        out     0xf4, al                # zeros, so status 0
        cli
        hlt

print:  lea     rsi, [rip + name]
letter: mov     al, [rsi]
        test    al, al
        jz      printed
        out     0xe9, al
        inc     rsi
        jmp     letter
printed:
        mov     al, 10
        out     0xe9, al
        ret

name:   .skip   16
given:  .ascii  "Who are you?\n"
        .skip   51
