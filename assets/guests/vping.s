# vping: asks the router, through a card that is none. Needs --net user --virtio net
#
# Guest and device share queues in memory (virtio 1.2, split virtqueues). The driver writes a frame's
# address into one and tells the device, by one exit; the answer stands in memory when it comes. A ping
# costs 11 exits on a trap core, nearly all for the interrupt that says so. From the fifth ping on this
# driver looks at the queue itself instead: 1 exit. With --poll the device looks, too: none. Compare
# `ping`, whose card was made for hardware: 40.
#
# A used ring's flag says whether the device wants to be told, an available ring's whether the driver
# wants an interrupt. The answers are believed only if both checksums and all data are right.

DEVICES = 0xd0000000                    # eight slots of 0x200 bytes
IDT     = 0x16000
TABLE   = 0x17000                       # the page directory of the last GiB below 4
RECEIVE = 0x20000                       # each queue: descriptors, available +0x100, used +0x200
TRANSMIT = 0x21000
FRAMES  = 0x22000                       # eight buffers of 2 KiB for what comes
SIZE    = 8
PINGS   = 4
LENGTH  = 98                            # headers of Ethernet, IP and ICMP, 56 bytes of data
HEADER  = 12                            # virtio's, before each frame

_start: call    set_up_interrupts
        call    find_card
        jc      no_card
        call    set_up_card

        lea     rsi, [rip + question - HEADER]
        mov     ecx, 60 + HEADER
        call    send
wait_for_router:
        call    receive
        cmp     word ptr [rsi + 12], 0x0608
        jne     wait_for_router
        cmp     word ptr [rsi + 20], 0x0200     # an ARP reply
        jne     wait_for_router
        mov     eax, [rsi + 22]
        mov     [rip + ping], eax       # the router's address: the target of all pings
        mov     ax, [rsi + 26]
        mov     [rip + ping + 4], ax

        mov     r12d, 1                 # the number of the ping
next:   call    make_ping
        cmp     r12d, PINGS + 1
        je      polling                 # half of them with interrupts, half without
by_interrupt:
        lea     rsi, [rip + ping - HEADER]
        mov     ecx, LENGTH + HEADER
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
        cmp     r12d, 2 * PINGS
        jbe     next
        xor     eax, eax
        jmp     end

polling:
        mov     word ptr [RECEIVE + 0x100], 1   # no interrupts from now on
        jmp     by_interrupt

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

# The device. Its registers are in memory, beyond RAM, where the first page tables do not lead.
find_card:
        mov     dword ptr [TABLE + 128 * 8], DEVICES + 0x93     # 2 MiB, not cached
        mov     qword ptr [0x13018], TABLE + 3
        mov     ebx, DEVICES
slot:   cmp     dword ptr [rbx], 0x74726976     # "virt"
        jne     missing
        cmp     dword ptr [rbx + 8], 1          # a network card
        je      found
        add     ebx, 0x200
        cmp     ebx, DEVICES + 0x1000
        jb      slot
missing:
        stc
        ret
found:  clc
        ret

set_up_card:
        mov     dword ptr [rbx + 0x70], 0       # reset; acknowledged; a driver
        mov     dword ptr [rbx + 0x70], 1
        mov     dword ptr [rbx + 0x70], 3
        mov     dword ptr [rbx + 0x24], 0       # no features but that it follows the standard,
        mov     dword ptr [rbx + 0x20], 0
        mov     dword ptr [rbx + 0x14], 1
        mov     eax, [rbx + 0x10]
        and     eax, 3                          # and an IOMMU, where there is one
        mov     dword ptr [rbx + 0x24], 1
        mov     [rbx + 0x20], eax
        mov     dword ptr [rbx + 0x70], 11
        xor     ecx, ecx
        mov     edi, RECEIVE
        call    set_up_queue
        inc     ecx
        mov     edi, TRANSMIT
        call    set_up_queue
        mov     word ptr [TRANSMIT + 0x100], 1  # no interrupts for what has been sent

        mov     edi, RECEIVE
        mov     eax, FRAMES
        xor     ecx, ecx
buffer: mov     [rdi], rax
        mov     dword ptr [rdi + 8], 2048
        mov     dword ptr [rdi + 12], 2         # for the device to write
        mov     [RECEIVE + 0x104 + rcx * 2], cx
        add     eax, 2048
        add     edi, 16
        inc     ecx
        cmp     ecx, SIZE
        jb      buffer
        mov     word ptr [RECEIVE + 0x102], SIZE
        mov     dword ptr [rbx + 0x70], 15      # it works from here on

        mov     eax, [rbx + 0x100]              # the card's address, into the frames
        mov     dx, [rbx + 0x104]
        mov     [rip + question + 6], eax
        mov     [rip + question + 10], dx
        mov     [rip + question + 22], eax
        mov     [rip + question + 26], dx
        mov     [rip + ping + 6], eax
        mov     [rip + ping + 10], dx
        ret

# Queue ECX at EDI.
set_up_queue:
        mov     [rbx + 0x30], ecx
        mov     dword ptr [rbx + 0x38], SIZE
        mov     [rbx + 0x80], edi
        lea     eax, [rdi + 0x100]
        mov     [rbx + 0x90], eax
        add     eax, 0x100
        mov     [rbx + 0xa0], eax
        xor     eax, eax
        mov     [rbx + 0x84], eax
        mov     [rbx + 0x94], eax
        mov     [rbx + 0xa4], eax
        inc     eax
        mov     [rbx + 0x44], eax
        ret

# Sends ECX bytes at RSI: an empty virtio header and the frame.
send:   mov     [TRANSMIT], rsi                 # descriptor 0; the last frame has been sent long ago
        mov     [TRANSMIT + 8], ecx
        inc     word ptr [TRANSMIT + 0x102]     # the ring names descriptor 0 in each entry
        mfence
        test    byte ptr [TRANSMIT + 0x200], 1
        jnz     not_told                        # the device looks by itself
        mov     dword ptr [rbx + 0x50], 1       # out of the guest: queue 1 has something
not_told:
        ret

# Waits for the next frame, at RSI; the last one's buffer goes back to the device.
receive:
        movzx   eax, word ptr [rip + taken]
        cmp     ax, [RECEIVE + 0x202]
        jne     there
        pause
        test    byte ptr [RECEIVE + 0x100], 1
        jnz     receive                         # no interrupt will come: look again
        cli                                     # only HLT may stand between STI and the interrupt
        cmp     ax, [RECEIVE + 0x202]
        jne     receive_on
        sti
        hlt
receive_on:
        sti
        jmp     receive
there:  inc     word ptr [rip + taken]
        and     eax, SIZE - 1
        mov     ecx, [RECEIVE + 0x204 + rax * 8]        # the buffer's number
        movzx   edx, word ptr [RECEIVE + 0x102]
        and     edx, SIZE - 1
        mov     [RECEIVE + 0x104 + rdx * 2], cx         # the device may have it when we wait again
        mov     esi, ecx
        shl     esi, 11
        add     esi, FRAMES + HEADER
        inc     word ptr [RECEIVE + 0x102]
        mfence
        test    byte ptr [RECEIVE + 0x200], 1
        jnz     taken_out
        mov     dword ptr [rbx + 0x50], 0       # it has no buffer left
taken_out:
        ret

# IRQ 11 is vector 0x2b: an answer stands in memory.
set_up_interrupts:
        mov     edi, IDT + 0x2b * 16
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
pic:    lodsw                                   # both controllers' commands, side by side
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
        mov     eax, [rbx + 0x60]
        mov     [rbx + 0x64], eax               # acknowledged: the line falls
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
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

# Is the frame at RSI the answer to this ping? ZF says so.
is_answer:
        mov     r8, rsi
        cmp     word ptr [r8 + 12], 0x0008
        jne     done
        cmp     byte ptr [r8 + 23], 1           # ICMP
        jne     done
        cmp     word ptr [r8 + 34], 0           # echo reply
        jne     done
        add     rsi, 14
        mov     ecx, 20
        call    checksum
        jnz     done
        lea     rsi, [r8 + 34]
        mov     ecx, 64
        call    checksum
        jnz     done
        lea     rsi, [r8 + 38]
        lea     rdi, [rip + ping + 38]
        mov     ecx, 60                         # identifier, number, data
        repe    cmpsb
done:   ret

# The Internet checksum of ECX bytes at RSI, in AX; 0, with ZF, for data that holds its own.
checksum:
        shr     ecx, 1
        xor     r9d, r9d
        xor     eax, eax
words:  lodsw
        add     r9d, eax
        loop    words
        mov     eax, r9d
        shr     eax, 16
        movzx   r9d, r9w
        add     r9d, eax
        mov     eax, r9d
        shr     eax, 16
        add     eax, r9d
        not     eax
        test    ax, ax
        ret

        .balign 4096                            # data, in a page of its own
pics:   .byte   0x11, 0x11, 0x20, 0x28, 4, 2, 1, 1, 0xfb, 0xf7
        .balign 8
idtr:   .word   0xfff
        .quad   IDT
taken:  .word   0                               # frames taken so far

answer_text:
        .ascii  "answer "
answer_number:
        .ascii  "1: 56 bytes, both checksums right\n"
answer_end:
no_card_text:
        .ascii  "There is no virtio-net: run it with --net user --virtio net.\n"
no_card_end:

# Who has 10.0.2.2? 10.0.2.15 asks.
        .space  HEADER
question:
        .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 8, 6
        .byte   0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15
        .byte   0, 0, 0, 0, 0, 0, 10, 0, 2, 2
        .space  18

# Ethernet; IP: 84 bytes, ICMP, from 10.0.2.15 to 10.0.2.2; ICMP: echo request.
        .space  HEADER
ping:   .byte   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0
        .byte   0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2
        .byte   8, 0, 0, 0, 0x52, 0x53, 0, 0
        .space  56
