# ping: asks the router, through a card made for hardware. Needs --net user
#
# The card is an NE2000: its registers are ports, and its memory is its own. Each frame goes through
# the data port, by a command that wants six ports written first, and an interrupt says that an answer
# has come. A ping costs 41 exits on a trap core. `vping` asks the same through memory.
#
# The program asks for the router's hardware address (ARP), then sends ICMP echo requests. It believes
# an answer only if both checksums and all data are right. It runs on any PC with this card: in QEMU
# with -device ne2k_isa,iobase=0x300,irq=10,netdev=n -netdev user,id=n, in Bochs with ethmod=vnet.

CARD    = 0x300
DATA    = CARD + 0x10
RING    = 0x46                          # pages of the card's memory for what comes
RING_END = 0x80
OUT     = 0x40                          # and for what goes
IDT     = 0x16000
PINGS   = 4
LENGTH  = 98                            # headers of Ethernet, IP and ICMP, 56 bytes of data

_start: call    set_up_interrupts
        call    set_up_card
        jc      no_card

        lea     rsi, [rip + question]
        mov     ecx, 60                 # Ethernet's shortest frame
        call    send
        mov     eax, [rip + elsewhere]
        mov     [rip + question + 28], eax
        mov     [rip + question + 38], eax
        mov     byte ptr [rip + question + 41], 1
        lea     rsi, [rip + question]
        mov     ecx, 60
        call    send
wait_for_router:
        call    receive
        cmp     word ptr [rip + in_frame + 12], 0x0608
        jne     wait_for_router
        cmp     word ptr [rip + in_frame + 20], 0x0200  # an ARP reply
        jne     wait_for_router
        mov     eax, [rip + in_frame + 22]
        mov     [rip + ping], eax       # the router's address: the target of all pings
        mov     ax, [rip + in_frame + 26]
        mov     [rip + ping + 4], ax
        mov     eax, [rip + in_frame + 28]
        mov     [rip + ping + 30], eax
        mov     eax, [rip + in_frame + 38]      # and who it has answered, us
        mov     [rip + ping + 26], eax

        mov     r12d, 1                 # the number of the ping
next:   call    make_ping
by_ne2000:
        lea     rsi, [rip + ping]
        mov     ecx, LENGTH
        call    send
wait_for_answer:
        call    receive
answered:
        call    is_answer
        jne     wait_for_answer
        lea     rsi, [rip + answer_text]
        lea     eax, [r12 + '0']
        mov     [rsi + answer_number - answer_text], al
        mov     ecx, offset answer_end - answer_text
        call    print
        inc     r12d
        cmp     r12d, PINGS
        jbe     next
        xor     eax, eax
        jmp     end

no_card:
        lea     rsi, [rip + no_card_text]
        mov     ecx, offset no_card_end - no_card_text
        call    print
        mov     eax, 1
end:    out     0xf4, al
        cli
        hlt

print:  mov     dx, 0xe9
        rep     outsb
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
        lea     rdi, [rip + ping + 6]
        mov     ecx, 6
address:
        lodsw
        stosb                           # into the frames,
        inc     edx
        out     dx, al                  # and as the address that it listens to
        loop    address
        inc     edx
        mov     al, RING + 1
        out     dx, al                  # the page where the next frame goes
        mov     eax, [rip + ping + 6]
        mov     [rip + question + 6], eax
        mov     [rip + question + 22], eax
        mov     ax, [rip + ping + 10]
        mov     [rip + question + 10], ax
        mov     [rip + question + 26], ax
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

# The ping with number R12: both checksums are made anew.
make_ping:
        lea     rdi, [rip + ping + 42]  # 56 bytes of data
        mov     ecx, 56
        mov     eax, r12d
data:   stosb
        add     al, 3
        loop    data
        mov     [rip + ping + 41], r12b
        lea     rsi, [rip + ping + 14]
        mov     word ptr [rsi + 10], 0
        mov     ecx, 20
        call    checksum
        mov     [rip + ping + 24], ax
        lea     rsi, [rip + ping + 34]
        mov     word ptr [rsi + 2], 0
        mov     ecx, 64
        call    checksum
        mov     [rip + ping + 36], ax
        ret

# Is the frame the answer to this ping? ZF says so.
is_answer:
        cmp     ecx, LENGTH
        jne     done
        cmp     word ptr [rip + in_frame + 12], 0x0008
        jne     done
        cmp     byte ptr [rip + in_frame + 23], 1       # ICMP
        jne     done
        cmp     word ptr [rip + in_frame + 34], 0       # echo reply
        jne     done
        lea     rsi, [rip + in_frame + 14]
        mov     ecx, 20
        call    checksum
        jnz     done
        lea     rsi, [rip + in_frame + 34]
        mov     ecx, 64
        call    checksum
        jnz     done
        lea     rsi, [rip + in_frame + 38]
        lea     rdi, [rip + ping + 38]
        mov     ecx, 60                 # identifier, number, data
        repe    cmpsb
done:   ret

# The Internet checksum of ECX bytes at RSI, in AX; 0, with ZF, for data that holds its own.
checksum:
        shr     ecx, 1
        xor     ebx, ebx
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

answer_text:
        .ascii  "answer "
answer_number:
        .ascii  "1: 56 bytes, both checksums right\n"
answer_end:
no_card_text:
        .ascii  "There is no NE2000: run it with --net user.\n"
no_card_end:

        .balign 8
idtr:   .word   0xfff
        .quad   IDT

# Who has 10.0.2.2? 10.0.2.15 asks. In Bochs' network 192.168.10.15 asks for 192.168.10.1.
elsewhere:
        .byte   192, 168, 10, 15
question:
        .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 8, 6
        .byte   0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15
        .byte   0, 0, 0, 0, 0, 0, 10, 0, 2, 2
        .space  18

# Ethernet; IP: 84 bytes, ICMP; ICMP: echo request.
ping:   .byte   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0
        .byte   0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        .byte   8, 0, 0, 0, 0x52, 0x53, 0, 0
        .space  56
header: .space  4
in_frame:
        .space  1536
