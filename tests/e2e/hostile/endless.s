endless:                            # from 0x8000000000 on every page is the one at 0x200000
    mov rdi, TABLES
    mov rax, [0x12000]
    stosq
    lea rax, [rdi + 0xfff]           # the next table, present, writable, user
    mov ecx, 511
    rep stosq
    mov edx, 2
level:
    lea rax, [rdi + 0x1007]
    mov ecx, 512
    rep stosq
    dec edx
    jnz level
    mov eax, 0x200007
    mov ecx, 512
    rep stosq
    mov eax, TABLES
    mov cr3, rax
    ret
