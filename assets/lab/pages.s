# pages: maps a page of its own, moves it, forbids it, takes it away, and handles each fault.
#
# At 1 GiB it has page tables of its own, in pages of RAM below 0xa0000. After each change of an entry
# that may be in the TLB comes INVLPG, as the manual demands.

_start:
        mov     eax, 0x21003            # PDPT entry 1 -> page directory -> page table
        mov     [0x13008], rax
        mov     eax, 0x22003
        mov     [0x21000], rax
        mov     ebp, 0x22000            # the page table
        mov     ebx, 0x40000000         # what it maps

        mov     eax, 0x23003            # the first page: frame 0x23000
        mov     [rbp], rax
        mov     rax, [rip + given]
        mov     [0x23010], rax
        mov     rax, [rip + given + 8]
        mov     [0x24010], rax
        mov     al, [rbx + 0x10]        # seen through the new address
        out     0xe9, al
        call    marks                   # read, not written: 1

        mov     byte ptr [rbx + 0x11], 95
        mov     al, [0x23011]           # and the other way round: '_'
        out     0xe9, al
        call    marks                   # written: 3

        mov     eax, 0x24003            # another frame
        mov     [rbp], rax
        invlpg  [rbx]
        mov     al, [rbx + 0x10]
        out     0xe9, al
        call    marks                   # 1

        lea     rcx, [rip + idt]        # from now on with a handler
        mov     [rip + table + 2], rcx
        add     rcx, 14 * 16
        lea     rax, [rip + fault]
        mov     [rcx], ax
        mov     word ptr [rcx + 2], 0x10
        mov     word ptr [rcx + 4], 0x8e00
        shr     rax, 16
        mov     [rcx + 6], ax
        shr     rax, 16
        mov     [rcx + 8], eax
        lidt    [rip + table]

        and     byte ptr [rbp], 0xfd    # read-only
        invlpg  [rbx]
        mov     al, [rbx + 0x12]        # may be read,
        out     0xe9, al
        mov     byte ptr [rbx + 0x13], 33 # and not written: error 3. The handler permits it
        mov     al, [rbx + 0x13]
        out     0xe9, al                # '!'

        lea     rsi, [rbx + 0x1ff8]     # on the border of two pages that are not there
        mov     rax, [rip + given]
        mov     [rsi + 4], rax          # two faults, error 2
        mov     rax, [rsi + 4]
        out     0xe9, al
        mov     al, [rbx + 0x4567]      # one more, error 0, at another offset
        add     al, 48
        out     0xe9, al

        mov     eax, 0x200083           # a page of 2 MiB
        mov     [0x21008], rax
        mov     rax, [rip + given + 3]
        mov     [0x234560], rax         # in RAM at 2 MiB
        mov     al, [rbx + 0x234560]
        out     0xe9, al
        mov     eax, r15d               # so many faults
        out     0xf4, al
        cli
        hlt

# Prints the accessed and dirty bits of the first page's entry: 1, 2, 3 or 0.
marks:  mov     rax, [rbp]
        shr     eax, 5
        and     eax, 3
        add     al, 48
        out     0xe9, al
        ret

# #PF: prints the error code and the page's number, and makes the access possible.
fault:  push    rax
        push    rcx
        mov     rax, [rsp + 16]
        add     al, 48
        out     0xe9, al
        mov     rcx, cr2
        sub     rcx, rbx
        shr     ecx, 12
        lea     eax, [rcx + 97]
        out     0xe9, al
        inc     r15d
        mov     rax, [rbp + rcx * 8]
        test    al, 1
        jnz     there
        mov     rax, rcx
        shl     eax, 12
        add     eax, 0x25000            # frames from 0x25000 on
there:  or      eax, 3
        mov     [rbp + rcx * 8], rax
        mov     rax, cr2
        invlpg  [rax]
        pop     rcx
        pop     rax
        add     rsp, 8
        iretq

        .align  16
idt:    .skip   0x100
table:  .word   0xff
        .quad   0
        .align  8
given:  .ascii  "abcdefghijkl\n"
        .skip   51
