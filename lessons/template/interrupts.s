# A guest that takes interrupts, to begin from: the timer strikes three times, and each time the
# handler prints a dot.
#
# Four things are needed before `sti`: a table of handlers (IDT), the interrupt controller (PIC) moved
# away from the CPU's own exceptions, its masks opened for the lines that are wanted, and a timer (PIT)
# that has been told how often to strike.

TIMER_VECTOR = 0x20                     # line 0 of the PIC; line 1, the keyboard, is 0x21, and so on
PERIOD       = 1193                     # of 1193182 a second: a millisecond

_start: lea     rax, [rip + timer]      # IDT entry: the handler's address in three parts
        lea     rdi, [rip + idt + 16 * TIMER_VECTOR]
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10        # its code segment: the kernel's
        mov     word ptr [rdi + 4], 0x8e00      # present, ring 0, an interrupt gate
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], eax
        lidt    [rip + idtr]

        mov     al, 0x11                # both PICs: begin anew, four words follow
        out     0x20, al
        out     0xa0, al
        mov     al, TIMER_VECTOR        # the first one's eight lines begin at this vector
        out     0x21, al
        mov     al, TIMER_VECTOR + 8
        out     0xa1, al
        mov     al, 4                   # the second hangs on line 2 of the first
        out     0x21, al
        mov     al, 2
        out     0xa1, al
        mov     al, 1                   # 8086 mode: the handler says when it is done
        out     0x21, al
        out     0xa1, al
        mov     al, 0xfe                # a 0 bit opens a line: only the timer's
        out     0x21, al
        mov     al, 0xff
        out     0xa1, al

        mov     al, 0x34                # PIT, channel 0: strike again and again
        out     0x43, al
        mov     al, PERIOD & 0xff
        out     0x40, al
        mov     al, PERIOD >> 8
        out     0x40, al

        xor     ebx, ebx                # how often it has struck
        sti
wait:   hlt                             # sleep until an interrupt
        cmp     ebx, 3
        jb      wait
done:   cli
        xor     eax, eax
        out     0xf4, al

timer:  push    rax
        cmp     ebx, 3                  # in a free run it may strike again before `wait` looks
        jae     served
        inc     ebx
        mov     al, '.'
        out     0xe9, al
served: mov     al, 0x20                # tell the PIC: this one is served
        out     0x20, al
        pop     rax
        iretq

idtr:   .short  16 * 256 - 1
        .quad   idt
        .balign 16
idt:    .space  16 * 256
