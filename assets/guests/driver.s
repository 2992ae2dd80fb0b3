# driver: the same sector, read in three ways. Needs --disk assets/disks/files.img
#
#   words         an `in` for each of its 256 words: each leaves the guest
#   string        one `rep insw` for all of them; with the command before it, eight exits
#   paravirtual   a descriptor in memory, and one exit that says where it is
#
# The disk's controller was made for hardware, where an `in` costs little. In a virtual machine each
# access is a fault, a visit to the host, an emulated instruction and the way back. That is why
# guests that know of their VMM talk to it through memory. Compare the exits of the three parts.

_start: mov     r15, [rdi + 32]         # boot information: the disk's first LBA
        cmp     qword ptr [rdi + 24], 2
        jb      no_disk
        inc     r15                     # the disk's second sector

by_words:
        call    read_command
        lea     rdi, [rip + sector]
        mov     ecx, 256
        mov     dx, 0x1f0
again:  in      ax, dx                  # out of the guest, 256 times
        stosw
        loop    again
words_read:
        lea     rsi, [rip + words_text]
        call    report

by_string:
        call    read_command
        lea     rdi, [rip + sector]
        mov     ecx, 256
        mov     dx, 0x1f0
        rep     insw                    # out of the guest, once
string_read:
        lea     rsi, [rip + string_text]
        call    report

by_paravirtual:
        lea     rbx, [rip + descriptor] # linear addresses are physical ones here
        lea     rax, [rip + sector]
        mov     [rbx + 8], rax          # the buffer
        mov     [rbx + 24], r15         # the LBA
        mov     eax, ebx
        mov     dx, 0x5e4
        out     dx, eax                 # out of the guest, once: no command, no waiting
paravirtual_read:
        mov     ebp, [rbx + 4]          # the status, 0 for done, is to be the exit status
        lea     rsi, [rip + paravirtual_text]
        call    report
        mov     eax, ebp
        jmp     end

no_disk:
        lea     rsi, [rip + no_disk_text]
        call    print
        mov     eax, 1
end:    out     0xf4, al
        cli
        hlt

# Gives the ATA disk the command for one sector, LBA R15, and waits: seven exits.
read_command:
        mov     rax, r15
        mov     ecx, eax
        mov     dx, 0x1f6
        shr     eax, 24
        or      al, 0xe0                # the first disk, LBA addressing, bits 24-27
        out     dx, al
        mov     dx, 0x1f2
        mov     al, 1                   # one sector
        out     dx, al
        mov     eax, ecx
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        mov     dx, 0x1f7
        mov     al, 0x20                # READ SECTORS
        out     dx, al
not_yet:
        in      al, dx
        and     al, 0x88                # busy, data request
        cmp     al, 0x08
        jne     not_yet
        ret

# Prints the text at RSI, then the checksum of the sector in hexadecimal; wipes the sector.
report: call    print
        lea     rdi, [rip + sector]
        mov     ecx, 64
        xor     ebx, ebx
add_up: rol     rbx, 1
        add     rbx, [rdi]
        mov     qword ptr [rdi], 0
        add     rdi, 8
        loop    add_up
        lea     rdi, [rip + number]
        mov     ecx, 16
digit:  rol     rbx, 4
        mov     al, bl
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     decimal
        add     al, 'a' - '9' - 1
decimal:
        stosb
        loop    digit
        lea     rsi, [rip + number]
print:  mov     ecx, 17                 # every text here has that length
        mov     dx, 0xe9
        rep     outsb
        ret

words_text:
        .ascii  "words:           "
string_text:
        .ascii  "rep insw:        "
paravirtual_text:
        .ascii  "paravirtual:     "
no_disk_text:
        .ascii  "There's no disk.\n"
number: .ascii  "................\n"

        .balign 8
descriptor:
        .long   2                       # the operation: disk read
        .long   0xffffffff              # the status comes here
        .quad   0                       # the buffer's physical address
        .quad   1                       # sectors
        .quad   0                       # the first one's LBA
sector: .space  512
