# www: fetches a page from the router, by a TCP of its own. Needs --net user
#
# TCP as small as it can be: one connection, segments in their order, nothing sent twice, since this
# network loses nothing. SYN, SYN and ACK, ACK; the question; the answer, each part acknowledged; FIN
# from both sides. The card is the NE2000 of `ping`. Whatever has a wrong checksum is left out.

CARD    = 0x300
DATA    = CARD + 0x10
RING    = 0x46                          # pages of the card's memory for what comes
RING_END = 0x80
OUT     = 0x40                          # and for what goes
IDT     = 0x16000
OURS    = 0x4321                        # our port
FIN     = 1
SYN     = 2
RST     = 4
PSH     = 8
ACK     = 16

_start: call    set_up_interrupts
        call    set_up_card
        lea     rsi, [rip + no_card_text]
        mov     ecx, offset no_card_end - no_card_text
        jc      fail
        call    find_router

        mov     r13d, 0x1000            # the number of our next byte
        xor     r14d, r14d              # and of theirs
        mov     r15d, SYN
        xor     ecx, ecx
        call    segment
        inc     r13d                    # a SYN counts as a byte
connect:
        call    answer
        mov     al, [rip + in_frame + 47]       # its flags
        test    al, RST
        jnz     refused
        and     al, SYN + ACK
        cmp     al, SYN + ACK
        jne     connect
        mov     r14d, [rip + in_frame + 38]
        bswap   r14d
        inc     r14d
        mov     r15d, ACK
        xor     ecx, ecx
        call    segment
connected:
        lea     rsi, [rip + question]
        mov     ecx, offset question_end - question
        mov     r15d, ACK + PSH
        call    segment
        add     r13d, offset question_end - question

part:   call    answer                  # its data: ECX bytes at RSI
        test    byte ptr [rip + in_frame + 47], RST
        jnz     refused
        mov     eax, [rip + in_frame + 38]
        bswap   eax
        cmp     eax, r14d               # is it the next one?
        jne     part
        mov     ebp, ecx
        add     r14d, ecx
        mov     dx, 0xe9
        rep     outsb                   # the page, onto the console
        mov     r15d, ACK
        test    byte ptr [rip + in_frame + 47], FIN
        jnz     last
        test    ebp, ebp
        jz      part
        call    segment                 # ECX is 0 by now
        jmp     part
last:   inc     r14d                    # a FIN counts, too
        mov     r15d, ACK + FIN
        call    segment
fetched:
        xor     eax, eax
        jmp     end

refused:
        lea     rsi, [rip + refused_text]
        mov     ecx, offset refused_end - refused_text
fail:   mov     dx, 0xe9
        rep     outsb
        mov     eax, 1
end:    out     0xf4, al
        cli
        hlt

# Asks for the router's hardware address.
find_router:
        mov     eax, [rip + mac]
        mov     dx, [rip + mac + 4]
        mov     [rip + arp + 6], eax
        mov     [rip + arp + 10], dx
        mov     [rip + arp + 22], eax
        mov     [rip + arp + 26], dx
        mov     [rip + frame + 6], eax
        mov     [rip + frame + 10], dx
        lea     rsi, [rip + arp]
        mov     ecx, 60
        call    send
not_yet:
        call    receive
        cmp     word ptr [rip + in_frame + 12], 0x0608
        jne     not_yet
        cmp     word ptr [rip + in_frame + 20], 0x0200
        jne     not_yet
        mov     eax, [rip + in_frame + 22]
        mov     [rip + frame], eax
        mov     ax, [rip + in_frame + 26]
        mov     [rip + frame + 4], ax
        ret

# Sends a segment with ECX bytes at RSI. R13: their number, R14: what has come, R15: the flags.
segment:
        lea     rdi, [rip + frame + 54]
        mov     ebp, ecx
        rep     movsb
        lea     rdi, [rip + frame]
        lea     eax, [rbp + 40]
        xchg    al, ah
        mov     [rdi + 16], ax          # IP: length and checksum
        mov     word ptr [rdi + 24], 0
        lea     rsi, [rdi + 14]
        mov     ecx, 20
        xor     ebx, ebx
        call    checksum
        mov     [rip + frame + 24], ax
        lea     rdi, [rip + frame]
        mov     eax, r13d
        bswap   eax
        mov     [rdi + 38], eax
        mov     eax, r14d
        bswap   eax
        mov     [rdi + 42], eax
        mov     [rdi + 47], r15b
        mov     word ptr [rdi + 50], 0
        mov     byte ptr [rdi + rbp + 54], 0    # an odd last byte is summed with a zero
        lea     ebx, [rbp + 20 + 6]     # TCP's checksum counts its length, the protocol,
        xchg    bl, bh
        lea     rsi, [rdi + 26]         # and both addresses, before its header
        lea     ecx, [rbp + 28 + 1]
        call    checksum
        mov     [rip + frame + 50], ax
        lea     rsi, [rip + frame]
        lea     ecx, [rbp + 55]
        and     ecx, 0x7fe              # the card takes words
        cmp     ecx, 60
        jae     send
        mov     ecx, 60
        jmp     send

# Waits for the next segment of our connection whose checksum is right: its data, ECX bytes at RSI.
answer: call    receive
        cmp     word ptr [rip + in_frame + 12], 0x0008
        jne     answer
        cmp     byte ptr [rip + in_frame + 23], 6       # TCP
        jne     answer
        cmp     dword ptr [rip + in_frame + 34], 0x5000 + (OURS & 0xff) * 0x1000000 + (OURS >> 8) * 0x10000
        jne     answer                  # from port 80 to ours
        movzx   ebp, word ptr [rip + in_frame + 16]
        xchg    ebp, eax
        xchg    al, ah
        xchg    ebp, eax
        sub     ebp, 20                 # header and data
        lea     rdi, [rip + in_frame + 34]
        mov     byte ptr [rdi + rbp], 0
        lea     ebx, [rbp + 6]
        xchg    bl, bh
        lea     rsi, [rdi - 8]
        lea     ecx, [rbp + 8 + 1]
        call    checksum
        jnz     answer
        lea     rsi, [rip + in_frame + 34]
        movzx   eax, byte ptr [rsi + 12]
        shr     eax, 4
        shl     eax, 2                  # bytes of the header
        add     rsi, rax
        mov     ecx, ebp
        sub     ecx, eax
        ret

# The card. Its registers have three pages; which, say the two upper bits of the command register.

set_up_card:
        mov     dx, CARD + 0x1f
        in      al, dx                  # a reset
        mov     dx, CARD + 7
        in      al, dx
        test    al, 0x80                # it says so, unless there is no card
        jz      missing
        cmp     al, 0xff
        je      missing
        lea     rsi, [rip + setup]
        mov     ecx, offset setup_end - setup
        shr     ecx, 1
        xor     edx, edx
each:   lodsw                           # a register and its value
        mov     dl, al
        add     edx, CARD
        mov     al, ah
        out     dx, al
        xor     edx, edx
        loop    each
        xor     ebx, ebx                # the card's address is in its first bytes, each one twice
        mov     ecx, 12
        lea     rdi, [rip + in_frame]
        call    fetch
        mov     dx, CARD
        mov     al, 0x61                # page 1, still stopped
        out     dx, al
        lea     rsi, [rip + in_frame]
        lea     rdi, [rip + mac]
        mov     ecx, 6
address:
        lodsw
        stosb                           # to be written into frames,
        inc     edx
        out     dx, al                  # and as the address that it listens to
        loop    address
        inc     edx
        mov     al, RING + 1
        out     dx, al                  # the page where the next frame goes
        lea     rsi, [rip + start]
        mov     ecx, offset start_end - start
        shr     ecx, 1
        xor     edx, edx
go:     lodsw
        mov     dl, al
        add     edx, CARD
        mov     al, ah
        out     dx, al
        xor     edx, edx
        loop    go
        clc
        ret
missing:
        stc
        ret

# Sends ECX bytes at RSI.
send:   push    rcx
        mov     ebx, OUT << 8
        mov     ah, 0x12                # remote write
        call    remote
        shr     ecx, 1
        rep     outsw                   # into the card's memory, as many words
        pop     rcx
written:
        mov     dx, CARD + 7
        in      al, dx
        test    al, 0x40                # has it taken them?
        jz      written
        mov     al, 0x40
        out     dx, al
        mov     dx, CARD + 4
        mov     al, OUT
        out     dx, al
        inc     edx
        mov     al, cl
        out     dx, al
        inc     edx
        mov     al, ch
        out     dx, al
        mov     dx, CARD
        mov     al, 0x26                # send
        out     dx, al
        ret

# Waits for the next frame and copies it to in_frame; its length in ECX.
receive:
        cli                             # the interrupt's handler writes to a register of page 0
        mov     dx, CARD
        mov     al, 0x62
        out     dx, al
        mov     dx, CARD + 7
        in      al, dx                  # the page where the card will write next
        mov     ah, al
        mov     dx, CARD
        mov     al, 0x22
        out     dx, al
        mov     bl, [rip + page]        # the page to read next
        cmp     bl, ah
        jne     there
        cmp     byte ptr [rip + came], 0
        jne     came_already            # the interrupt that says so has been
        sti
        hlt                             # STI lets none in before HLT
came_already:
        mov     byte ptr [rip + came], 0
        jmp     receive
there:  sti
        movzx   ebx, bl
        shl     ebx, 8
        mov     ecx, 4
        lea     rdi, [rip + header]     # status, next page, length with this header
        call    fetch
        movzx   ecx, word ptr [rip + header + 2]
        sub     ecx, 4
        add     ebx, 4
        lea     rdi, [rip + in_frame]
        push    rcx
        inc     ecx
        and     ecx, 0x7fe
        call    fetch
        pop     rcx
        mov     al, [rip + header + 1]
        mov     [rip + page], al
        dec     al                      # the card may write up to the page before it
        cmp     al, RING
        jae     inside
        mov     al, RING_END - 1
inside: mov     dx, CARD + 3
        out     dx, al
        ret

# Copies ECX bytes of the card's memory at BX to RDI. The ring's end leads to its beginning.
fetch:  mov     ah, 0x0a                # remote read
        call    remote
        shr     ecx, 1
        rep     insw
        ret

# Sets the data port up for CX bytes at BX of the card's memory. AH: the command.
remote: mov     dx, CARD + 10
        mov     al, cl
        out     dx, al
        inc     edx
        mov     al, ch
        out     dx, al
        mov     dx, CARD + 8
        mov     al, bl
        out     dx, al
        inc     edx
        mov     al, bh
        out     dx, al
        mov     dx, CARD
        mov     al, ah
        out     dx, al
        mov     dx, DATA
        ret

# IRQ 10 is vector 0x2a: a frame has come.
set_up_interrupts:
        mov     edi, IDT + 0x2a * 16
        lea     rax, [rip + interrupt]
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00      # an interrupt gate
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], rax
        lidt    [rip + idtr]
        lea     rsi, [rip + pics]
        mov     ecx, 5
pic:    lodsw                           # both controllers' commands, side by side
        mov     ebx, eax
        mov     edx, 0x21
        cmp     ecx, 5
        jne     command
        dec     edx
command:
        mov     al, bl
        out     dx, al
        add     edx, 0x80
        mov     al, bh
        out     dx, al
        loop    pic
        sti
        ret

interrupt:
        push    rax
        push    rdx
        mov     dx, CARD + 7
        mov     al, 1
        out     dx, al                  # the card need not say it again
        mov     byte ptr [rip + came], 1
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
        pop     rdx
        pop     rax
        iretq

# The Internet checksum of ECX bytes at RSI, and of EBX, in AX; 0, with ZF, for
# data that holds its own.
checksum:
        shr     ecx, 1
        xor     eax, eax
words:  lodsw
        add     ebx, eax
        loop    words
        mov     eax, ebx
        shr     eax, 16
        movzx   ebx, bx
        add     ebx, eax
        mov     eax, ebx
        shr     eax, 16
        add     eax, ebx
        not     eax
        test    ax, ax
        ret

        .balign 4096                    # data, in a page of its own
pics:   .byte   0x11, 0x11, 0x20, 0x28, 4, 2, 1, 1, 0xfb, 0xfb

# Registers of the card and their values, in order.
setup:  .byte   0, 0x21, 14, 0x49, 10, 0, 11, 0, 12, 0x20, 13, 2
        .byte   1, RING, 2, RING_END, 3, RING, 7, 0xff, 15, 0, 0, 0x22
setup_end:
start:  .byte   0, 0x22, 7, 0xff, 15, 1, 12, 4, 13, 0
start_end:
page:   .byte   RING + 1
came:   .byte   0

mac:    .space  6
question:
        .ascii  "GET / HTTP/1.0\r\nHost: 10.0.2.2\r\n\r\n"
question_end:
refused_text:
        .ascii  "The router has no pages.\n"
refused_end:
no_card_text:
        .ascii  "There is no NE2000: run it with --net user.\n"
no_card_end:

        .balign 8
idtr:   .word   0xfff
        .quad   IDT

# Who has 10.0.2.2? 10.0.2.15 asks.
arp:    .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 8, 6
        .byte   0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15
        .byte   0, 0, 0, 0, 0, 0, 10, 0, 2, 2
        .space  18

# Ethernet; IP: TCP, from 10.0.2.15 to 10.0.2.2; TCP: from our port to 80, a header of 20 bytes, a
# window of 8 KiB.
frame:  .byte   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0
        .byte   0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2
        .byte   OURS >> 8, OURS & 0xff, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0x20, 0, 0, 0, 0, 0
        .space  64
header: .space  4
in_frame:
        .space  1536
