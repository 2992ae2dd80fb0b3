# Two machines on a hub count to 2 * ROUNDS in turns, by frames whose byte 14 is the number. FIRST = 1 begins.
# The card interrupts at each frame, and the guest sleeps until then; what comes is printed as a letter.
# With REPEAT defined it looks instead, and the first frame is sent again and again until it is answered,
# since the other card may not be set up yet.

        .ifndef ROUNDS
ROUNDS = 3
        .endif

_start: lea     rdi, [rip + idt + 0x2a * 16]
        lea     rax, [rip + card]
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
        lea     rsi, [rip + words]
        mov     ecx, 28
        xor     edx, edx
write:  mov     dx, [rsi]
        mov     al, [rsi + 2]
        out     dx, al
        add     rsi, 3
        loop    write
        mov     ebx, 'A'
        mov     eax, FIRST
        test    eax, eax
        jnz     send
wait:
        .ifdef REPEAT
        dec     r9d
        jns     look
        mov     r9d, 1000
        cmp     ebx, 'A'
        jne     look
        mov     eax, FIRST
        test    eax, eax
        jnz     send
look:
        .else
        sti
        hlt
        cli
        .endif
        mov     dx, 0x300               # CURR, on page 1
        mov     al, 0x62
        out     dx, al
        mov     dx, 0x307
        in      al, dx
        mov     ah, al
        mov     dx, 0x300
        mov     al, 0x22
        out     dx, al
        mov     al, [rip + next]
        cmp     al, ah
        je      wait
        mov     ah, al                  # read 4 bytes of the card's, and 15 of the frame
        mov     ecx, 19
        mov     r8d, 0x0a
        call    remote
        lea     rdi, [rip + frame]
        rep     insb
        mov     al, [rip + frame + 1]   # the page after it
        mov     [rip + next], al
        dec     al
        cmp     al, 0x46
        jae     bound
        mov     al, 0x7f
bound:  mov     dx, 0x303
        out     dx, al
        .ifdef REPEAT
        cmp     [rip + frame + 18], r10b
        jbe     wait
        mov     r10b, [rip + frame + 18]
        .endif
        movzx   ebx, byte ptr [rip + frame + 18]
        mov     al, bl
        out     0xe9, al
        inc     ebx
        cmp     ebx, 'A' + 2 * ROUNDS
        jae     done
send:   mov     [rip + out_frame + 14], bl
        mov     ah, 0x40
        mov     ecx, 60
        mov     r8d, 0x12
        call    remote
        lea     rsi, [rip + out_frame]
        rep     outsb
        mov     dx, 0x304
        mov     al, 0x40
        out     dx, al
        inc     edx
        mov     al, 60
        out     dx, al
        inc     edx
        xor     eax, eax
        out     dx, al
        mov     dx, 0x300
        mov     al, 0x26
        out     dx, al
        cmp     ebx, 'A' + 2 * ROUNDS - 1
        jb      wait
done:   mov     al, 7
        out     0xf4, al
        cli
        hlt

# Remote DMA of ECX bytes at page AH, R8B the command; leaves DX at the data port.
remote: mov     dx, 0x308
        xor     al, al
        out     dx, al
        inc     edx
        mov     al, ah
        out     dx, al
        inc     edx
        mov     al, cl
        out     dx, al
        inc     edx
        xor     al, al
        out     dx, al
        mov     dx, 0x300
        mov     al, r8b
        out     dx, al
        mov     dx, 0x310
        ret

card:   push    rax
        push    rdx
        mov     dx, 0x307
        mov     al, 0xff
        out     dx, al
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
        pop     rdx
        pop     rax
        iretq

        .macro  set port, value
        .word   \port
        .byte   \value
        .endm
words:  set 0x20, 0x11
        set 0xa0, 0x11
        set 0x21, 0x20
        set 0xa1, 0x28
        set 0x21, 4
        set 0xa1, 2
        set 0x21, 1
        set 0xa1, 1
        set 0x21, 0xfb
        set 0xa1, 0xfb
        set 0x300, 0x21
        set 0x30e, 0x48
        set 0x30a, 0
        set 0x30b, 0
        set 0x30c, 0x20
        set 0x30d, 2
        set 0x301, 0x46
        set 0x302, 0x80
        set 0x303, 0x46
        set 0x307, 0xff
        set 0x30f, 1
        set 0x300, 0x61
        set 0x307, 0x47
        set 0x300, 0x22
        set 0x30d, 0
        set 0x30c, 0x14
        set 0x300, 0x22
        set 0x300, 0x22
next:   .byte   0x47
out_frame:
        .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5
        .zero   46
frame:  .zero   64
idtr:   .word   0x1000 - 1
        .quad   0
        .balign 16
idt:    .zero   0x1000
