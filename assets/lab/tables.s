# tables: gives the CPU descriptor tables of its own, and asks for them back.
#
# LGDT and LIDT trap at ring 3; SGDT, SIDT, STR and MOV from a segment register do not, and tell of the
# host. MOV to a segment register is refused or done with the host's table, as it happens.

_start:
        mov     eax, cs
        call    hex                     # 10
        str     eax
        call    hex                     # 40
        sgdt    [rip + table]
        movzx   eax, word ptr [rip + table]
        call    hex                     # 4f: the limit
        mov     rax, [rip + table + 2]
        call    hex                     # 11000

        movzx   eax, byte ptr [rip + given]
        or      eax, 0x1f
        mov     [rip + table], ax       # at least four descriptors
        lea     rax, [rip + gdt]
        bts     rax, 40                 # a base has 64 bits
        mov     [rip + table + 2], rax
        lgdt    [rip + table]
        mov     qword ptr [rip + table + 2], 0
        sgdt    [rip + table]
        movzx   eax, word ptr [rip + table]
        call    hex
        mov     rax, [rip + table + 2]
        btr     rax, 40
        mov     [rip + table + 2], rax
        lgdt    [rip + table]
        lea     rcx, [rip + gdt]
        sub     rax, rcx
        call    hex                     # 0: ours

        mov     eax, 0x18
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, ds
        call    hex                     # 18
        push    0x10
        lea     rax, [rip + reloaded]
        push    rax
        retfq                           # a far return: loads CS
reloaded:
        mov     eax, cs
        call    hex                     # 10

        mov     word ptr [rip + table], 0x7f
        lea     rax, [rip + given]
        bts     rax, 40
        mov     [rip + table + 2], rax
        lidt    [rip + table]
        mov     qword ptr [rip + table], 0
        sidt    [rip + table]
        movzx   eax, word ptr [rip + table]
        call    hex                     # 7f
        mov     rax, [rip + table + 2]
        btr     rax, 40
        mov     al, [rax + 1]           # a letter of what it was given
        out     0xe9, al
        xor     eax, eax
        out     0xf4, al
        cli
        hlt

# Prints RAX in hexadecimal and a line's end. Changes RAX, RCX, RDX.
hex:    mov     rdx, rax
        mov     ecx, 16
digit:  rol     rdx, 4
        mov     al, dl
        and     al, 15
        add     al, 48
        cmp     al, 58
        jb      put
        add     al, 39
put:    out     0xe9, al
        dec     ecx
        jnz     digit
        mov     al, 10
        out     0xe9, al
        xor     eax, eax
        ret

        .align  8
gdt:    .quad   0, 0
        .quad   0x00AF9B000000FFFF      # 10: code
        .quad   0x00CF93000000FFFF      # 18: data
        .skip   256
table:  .skip   16
given:  .ascii  "gdtr, idtr and the rest.\n"
        .skip   39
