# swap: sixteen pages of memory in four frames. Needs --disk assets/disks/files.img
#
# The window from 0x40000000 has sixteen pages, and only four page frames behind them. Touching a
# page that is not present is a page fault (#PF); the handler takes a frame from the page that has
# had one longest, writes that page to the page file if it was changed (the CPU sets D, the dirty
# bit, in its table entry), reads the wanted page from there, and returns: the instruction starts
# again, none the wiser. A REP instruction goes on where it was.
#
# What leaves the guest: each fault on the trap core (the CPU reports it to the host, the VMM walks
# the guest's tables, sees that the guest has to handle it, and delivers it); CR2, INVLPG, IRETQ;
# the disk's ports. `shadow` counts the other faults, hidden ones: pages that the guest has mapped
# and the VMM's shadow of its tables has not yet.

WINDOW   = 0x40000000
TABLES   = 0x20000                      # PDPT entry 1 -> page directory -> page table
LEAVES   = 0x21000                      # ... the page table: sixteen entries in use
FRAMES   = 0x30000                      # four frames
PAGES    = 16

_start: mov     r15, [rdi + 32]         # boot information: the disk's first LBA
        cmp     qword ptr [rdi + 24], 0
        je      no_page_file
        call    find_page_file
        call    set_up

# One instruction writes 64 KiB through four frames. It is interrupted by sixteen faults.
        mov     edi, WINDOW
        mov     ecx, 8192
        mov     rax, 0x5555555555555555
        rep     stosq
        lea     rsi, [rip + filled]
        call    report

# Give each page its number.
        mov     edi, WINDOW
        xor     eax, eax
number: mov     [rdi], rax
        add     rdi, 0x1000
        inc     eax
        cmp     eax, PAGES
        jb      number
        lea     rsi, [rip + numbered]
        call    report

# Read the numbers back, from the last page to the first. Nothing is changed: nothing is written.
        xor     eax, eax
        mov     ecx, PAGES
sum:    sub     rdi, 0x1000
        add     rax, [rdi]
        loop    sum
        mov     ebx, eax
        lea     rsi, [rip + added]
        call    report

# Is the rest of each page as it was?
        mov     edx, PAGES
        mov     rax, 0x5555555555555555
rest:   add     rdi, 8                  # behind the number
        mov     ecx, 511
        repe    scasq                   # up to the next page
        jne     wrong
        dec     edx
        jnz     rest
        lea     rsi, [rip + checked]
        call    report
        cmp     ebx, 120                # 0 + 1 + ... + 15
        jne     wrong
        lea     rsi, [rip + right]
        xor     ebx, ebx
        jmp     finish
wrong:  lea     rsi, [rip + mixed_up]
        mov     ebx, 1
        jmp     finish
no_page_file:
        lea     rsi, [rip + no_file]
        mov     ebx, 2
finish: call    print
        mov     eax, ebx
        out     0xf4, al
        cli
        hlt

set_up: mov     edi, TABLES
        mov     ecx, 0x2000 / 8
        xor     eax, eax
        rep     stosq
        mov     edi, TABLES
        mov     eax, LEAVES + 3         # present, writable
        mov     [rdi], rax
        mov     edi, 0x13000            # the boot PDPT: its second gigabyte is still free
        mov     eax, TABLES + 3
        mov     [rdi + 8], rax

        lea     rax, [rip + page_fault]
        lea     rdi, [rip + idt + 14*16]
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], rax
        lea     rax, [rip + idt]
        mov     [rip + idtr + 2], rax
        lidt    [rip + idtr]
        ret

page_fault:
        push    rax
        push    rcx
        push    rdx
        push    rbx
        push    rsi
        push    rdi
        push    rbp
        mov     rbp, cr2                # the address that was missed
        inc     dword ptr [rip + faults]
        sub     rbp, WINDOW
        shr     rbp, 12                 # ... is in this page of the window
        cmp     rbp, PAGES
        jae     no_page_file            # not ours: a mistake in this program

# The frames are given out in turn. Whose turn it is, has had its page longest.
        mov     ebx, [rip + turn]
        lea     eax, [rbx + 1]
        and     eax, 3
        mov     [rip + turn], eax
        lea     rsi, [rip + owners]
        movsx   edx, byte ptr [rsi + rbx]
        mov     eax, ebp
        mov     [rsi + rbx], al
        shl     ebx, 12
        add     ebx, FRAMES             # EBX: the frame
        test    edx, edx
        js      empty                   # nobody has it yet

        mov     edi, LEAVES             # take it away from page EDX
        mov     rax, [rdi + rdx*8]
        mov     qword ptr [rdi + rdx*8], 0
        mov     ecx, edx
        shl     ecx, 12
        add     ecx, WINDOW
        invlpg  [rcx]                   # the CPU must forget where it was
        test    al, 0x40                # D: has it been written to?
        jz      empty
        mov     eax, edx
        mov     esi, ebx
        call    page_out
        lea     rsi, [rip + on_disk]
        mov     byte ptr [rsi + rdx], 1

empty:  lea     rsi, [rip + on_disk]
        cmp     byte ptr [rsi + rbp], 0
        je      fresh
        mov     eax, ebp
        mov     edi, ebx
        call    page_in
        jmp     map
fresh:  mov     edi, ebx                # never written out: zeros
        mov     ecx, 512
        xor     eax, eax
        rep     stosq
map:    mov     edi, LEAVES
        lea     eax, [rbx + 3]          # present, writable, not accessed, not dirty
        mov     [rdi + rbp*8], rax
        pop     rbp
        pop     rdi
        pop     rsi
        pop     rbx
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 8                  # the error code
        iretq

# The page file: page EAX is eight sectors. From there to EDI, from ESI to there.
page_in:
        inc     dword ptr [rip + read]
        push    rdx
        mov     cl, 0x20                # READ SECTORS
        call    command
in_next:
        call    ready
        mov     dx, 0x1f0
        mov     ecx, 256
        rep     insw
        dec     ebx
        jnz     in_next
        pop     rdx
        mov     ebx, edi                # back to the frame's beginning
        sub     ebx, 0x1000
        ret
page_out:
        inc     dword ptr [rip + written]
        push    rdx
        mov     cl, 0x30                # WRITE SECTORS
        call    command
out_next:
        call    ready
        mov     dx, 0x1f0
        mov     ecx, 256
        rep     outsw
        dec     ebx
        jnz     out_next
        call    ready
        pop     rdx
        mov     ebx, esi
        sub     ebx, 0x1000
        ret

# Gives command CL for the eight sectors of page EAX; EBX becomes 8.
command:
        shl     eax, 3
        add     eax, [rip + page_file]
        mov     ch, 8
# ... for CH sectors from LBA EAX. Changes RAX, RBX and RDX.
ata:    add     rax, r15
        mov     ebx, eax
        mov     dx, 0x1f6
        shr     eax, 24
        or      al, 0xe0
        out     dx, al
        mov     dx, 0x1f2
        mov     al, ch
        out     dx, al
        mov     eax, ebx
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        mov     dx, 0x1f7
        mov     al, cl
        out     dx, al
        movzx   ebx, ch
        ret
ready:  mov     dx, 0x1f7
        in      al, dx
        test    al, 0x80                # busy
        jnz     ready
        test    al, 0x01                # error
        jnz     no_page_file
        ret

# The directory's entries have 32 bytes: name (16), first sector, size (file.s tells all of it).
find_page_file:
        xor     eax, eax
        mov     cx, 0x120               # one sector, READ SECTORS
        call    ata
        call    ready
        mov     dx, 0x1f0
        mov     edi, FRAMES             # nobody has them yet
        mov     ecx, 256
        rep     insw
        mov     edi, FRAMES
        mov     rax, [rip + name]
        mov     ecx, 15
look:   add     edi, 32
        cmp     [rdi], rax
        loopne  look
        jne     no_page_file
        mov     eax, [rdi + 16]
        mov     [rip + page_file], eax
        ret

# Prints the text at RSI, then the three counters, and sets these to zero.
report: push    rax
        push    rcx
        push    rdi
        lea     rdi, [rip + faults]
        mov     ecx, 3
        call    print
        lea     rsi, [rip + units]
count:  mov     eax, [rdi]              # fewer than a hundred: two digits
        mov     dword ptr [rdi], 0
        cdq
        mov     ebp, 10
        div     ebp
        test    eax, eax
        jz      ones
        add     al, '0'
        out     0xe9, al
ones:   lea     eax, [rdx + '0']
        out     0xe9, al
        add     rdi, 4
        call    print                   # " faults, " and so on
        loop    count
        pop     rdi
        pop     rcx
        pop     rax
        ret

# Prints the text at RSI up to a zero byte; RSI is then behind it.
print:  lodsb
        test    al, al
        jz      printed
        out     0xe9, al
        jmp     print
printed:
        ret

name:   .ascii  "pagefile"
filled: .asciz  "filled:   "
numbered:
        .asciz  "numbered: "
added:  .asciz  "added up: "
checked:
        .asciz  "checked:  "
units:  .asciz  " faults, "
        .asciz  " pages read, "
        .asciz  " written\n"
right:  .asciz  "Every page was what it should be.\n"
mixed_up:
        .asciz  "The pages are mixed up.\n"
no_file:
        .asciz  "There is no disk with a page file here.\n"

        .balign 8
page_file:                              # its first sector
        .long   0
turn:   .long   0
faults: .long   0
read:   .long   0
written:
        .long   0
owners: .byte   -1, -1, -1, -1          # which page has the frame
on_disk:                                # is there a copy of the page?
        .space  PAGES
idtr:   .short  15*16 - 1
        .quad   0
        .balign 16
idt:    .space  15*16
