# chat: two machines talk over a cable. Needs --net hub --with chat
#
# What is typed on the serial line is sent, line by line, as a frame to everyone. Both print what was
# said, each line with the last byte of its sender's address. "bye" ends both. Each machine sleeps until
# the card or the serial line interrupts it. Type into it, or begin with --input.

CARD    = 0x300
DATA    = CARD + 0x10
RING    = 0x46                          # pages of the card's memory for what comes
RING_END = 0x80
OUT     = 0x40                          # and for what goes
IDT     = 0x16000
KIND    = 0xb588                        # the frames' type, 0x88b5: for experiments
SERIAL  = 0x3f8

_start: mov     dx, SERIAL + 1
        mov     al, 1                   # an interrupt for each byte typed
        out     dx, al
        mov     dx, SERIAL + 4
        mov     al, 8                   # which its OUT2 lets through
        out     dx, al
        call    set_up_interrupts
        call    set_up_card
        lea     rsi, [rip + no_card_text]
        mov     ecx, offset no_card_end - no_card_text
        jc      fail
        mov     eax, [rip + mac]
        mov     [rip + frame + 6], eax
        mov     ax, [rip + mac + 4]
        mov     [rip + frame + 10], ax

idle:   call    listen                  # all that has come
        call    read_key                # all that has been typed
        jnz     idle
        cli                             # an interrupt now would be missed: only HLT may follow STI
        cmp     byte ptr [rip + came], 0
        jne     awake
        sti
        hlt
awake:  mov     byte ptr [rip + came], 0
        sti
        jmp     idle

# A key, if one was typed: into the line, which Enter sends. ZF: there was none.
read_key:
        mov     dx, SERIAL + 5
        in      al, dx
        test    al, 1
        jz      no_key
        mov     dx, SERIAL
        in      al, dx
        mov     ecx, [rip + length]
        cmp     al, 13                  # Enter, as a terminal or as a file has it
        je      say
        cmp     al, 10
        je      say
        cmp     ecx, 60
        jae     typed
        lea     rdi, [rip + frame + 16]
        mov     [rdi + rcx], al
        inc     dword ptr [rip + length]
typed:  or      eax, 1
no_key: ret
say:    mov     [rip + frame + 14], cl  # the length, then the text
        mov     dword ptr [rip + length], 0
        lea     rsi, [rip + frame]
        mov     ecx, 76
        call    send
said:   lea     rsi, [rip + frame]
        call    show                    # what both have said is on both consoles
        call    is_bye
        je      end
        or      eax, 1
        ret

# Prints all lines that have come.
listen: call    receive
        jc      no_key
        cmp     word ptr [rip + in_frame + 12], KIND
        jne     listen
        lea     rsi, [rip + in_frame]
heard:  call    show
        call    is_bye
        jne     listen
end:    xor     eax, eax
        jmp     stop
fail:   call    print
        mov     eax, 1
stop:   out     0xf4, al
        cli
        hlt

# Prints the line of the frame at RSI, with its sender; RSI stays.
show:   push    rsi
        movzx   ecx, byte ptr [rsi + 14]
        cmp     ecx, 60
        ja      shown                   # longer than any line of ours
        mov     al, [rsi + 11]
        call    print_byte
        mov     word ptr [rip + between], 0x203a        # ": "
        add     rsi, 16
        lea     rdi, [rip + between + 2]
        rep     movsb                   # with the text, and the line's end
        mov     al, 10
        stosb
        mov     rcx, rdi
        lea     rsi, [rip + between]
        sub     rcx, rsi
        call    print
shown:  pop     rsi
        ret

# Is the line of the frame at RSI "bye"?
is_bye: cmp     byte ptr [rsi + 14], 3
        jne     other
        cmp     word ptr [rsi + 16], 0x7962
        jne     other
        cmp     byte ptr [rsi + 18], 0x65
other:  ret

# Prints AL in hexadecimal.
print_byte:
        mov     ah, al
        shr     al, 4
        call    digit
        mov     al, ah
        and     al, 15
digit:  add     al, '0'
        cmp     al, '9'
        jbe     decimal
        add     al, 'a' - '9' - 1
decimal:
        out     0xe9, al
        ret

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

# Copies the next frame to in_frame, if one has come; CF if not.
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
        sti
        mov     bl, [rip + page]        # the page to read next
        cmp     bl, ah
        jne     there
        stc
        ret
there:  movzx   ebx, bl
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
        clc
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

# IRQ 10 is vector 0x2a, a frame; IRQ 4 is vector 0x24, a key.
set_up_interrupts:
        mov     edi, IDT + 0x2a * 16
        lea     rax, [rip + interrupt]
        call    gate
        mov     edi, IDT + 0x24 * 16
        lea     rax, [rip + key]
        call    gate
        lidt    [rip + idtr]
        jmp     controllers
gate:
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00      # an interrupt gate
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], rax
        ret
controllers:
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

key:    push    rax
        mov     byte ptr [rip + came], 1
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq

        .balign 4096                    # data, in a page of its own
pics:   .byte   0x11, 0x11, 0x20, 0x28, 4, 2, 1, 1, 0xeb, 0xfb

# Registers of the card and their values, in order.
setup:  .byte   0, 0x21, 14, 0x49, 10, 0, 11, 0, 12, 0x20, 13, 2
        .byte   1, RING, 2, RING_END, 3, RING, 7, 0xff, 15, 0, 0, 0x22
setup_end:
start:  .byte   0, 0x22, 7, 0xff, 15, 1, 12, 4, 13, 0
start_end:
page:   .byte   RING + 1
came:   .byte   0

mac:    .space  6
between:
        .space  64
no_card_text:
        .ascii  "There is no NE2000: run it with --net hub --with chat.\n"
no_card_end:

        .balign 8
idtr:   .word   0xfff
        .quad   IDT
length: .long   0

# Ethernet: to everyone; a byte for the length, one that is 0, the text.
frame:  .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0x88, 0xb5
        .space  62
header: .space  4
in_frame:
        .space  1536
