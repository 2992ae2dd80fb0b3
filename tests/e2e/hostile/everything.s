everything:                         # every entry of all four levels: 2 MiB of RAM, over and over
    mov rdi, TABLES
    mov edx, 3
level:
    lea rax, [rdi + 0x1007]
    mov ecx, 512
    rep stosq
    dec edx
    jnz level
    mov eax, 7
page:
    stosq
    add eax, 0x1000
    cmp eax, 0x200007
    jne page
    mov eax, TABLES
    mov cr3, rax
    ret
