# ports: reads devices in each size, and prints what they said.
#
# Each form of IN and OUT: port in the instruction or in DX, 8, 16 and 32 bits. IN to AL and AX leaves
# the rest of RAX as it was; IN to EAX clears the upper half.

_start:
        mov     rax, [rip + given]      # something in the upper half
        mov     rbx, rax
        in      al, 0xe9                # the debug console answers 0xe9
        call    hex
        mov     rax, rbx
        mov     edx, 0x3fd
        in      al, dx                  # the UART's line status
        call    hex
        mov     rax, rbx
        mov     edx, 0x5e0
        in      eax, dx                 # the paravirtual device: "RP C1" backwards
        call    hex
        mov     rax, rbx
        mov     edx, 0x1234
        in      ax, dx                  # no device: all ones
        call    hex
        mov     eax, [rip + given]
        mov     edx, 0x1234             # and nothing happens
        out     dx, eax

        lea     rsi, [rip + given]      # to the UART this time, by DX
        mov     edx, 0x3f8
next:   mov     al, [rsi]
        test    al, al
        jz      done
        out     dx, al
        inc     rsi
        jmp     next
done:
        mov     dx, 0x604               # power off: 16 bits
        mov     ax, 0x2000
        out     dx, ax
        cli
        hlt

# Prints RAX in hexadecimal and a line's end. Changes RAX, RCX, RDX.
hex:    mov     rdx, rax
        mov     ecx, 16
digit:  rol     rdx, 4
        mov     al, dl
        and     al, 15
        add     al, 48                  # '0'
        cmp     al, 58
        jb      put
        add     al, 39                  # 'a' - ':'
put:    out     0xe9, al
        dec     ecx
        jnz     digit
        mov     al, 10
        out     0xe9, al
        ret

given:  .ascii  "Any port in a storm.\n"
        .skip   43
