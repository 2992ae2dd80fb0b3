# The frame of a guest in 32-bit protected mode: flat segments, no paging, handlers for every exception.
# A handler writes "vector:error" to the console, and goes on at the address in `resume`.
.code64
_start:
        lgdt    [rip + gdtr]
        push    0x08
        lea     rax, [rip + compat]
        push    rax
        retfq
.code32
compat:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     fs, ax
        mov     gs, ax
        mov     esp, 0x90000
        mov     eax, cr0
        and     eax, 0x7fffffff         # paging off: long mode is left
        mov     cr0, eax
        mov     ecx, 0xc0000080
        xor     eax, eax
        xor     edx, edx
        wrmsr
        mov     eax, cr4
        and     eax, 0xffffffdf
        mov     cr4, eax
        jmp     0x08:protected
protected:
        lidt    [idtr]
        mov     ax, 0x20
        ltr     ax
        xor     eax, eax
        xor     ebx, ebx
        xor     ecx, ecx
        xor     edx, edx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
{kernel}
finish:
        mov     ax, 0x10
        mov     ds, ax
        mov     al, 0
        out     0xf4, al
        cli
        hlt

# Enter ring 3 at `user`, with a stack of its own; DS and GS are for ring 3, too.
enter_user:
        push    0x33
        push    0x33
        pop     ds
        pop     gs
        push    0x33
        push    0x8f000
        pushfd
        or      dword ptr [esp], {iopl}
        push    0x2b
        push    offset user
        iretd
user:
{user}
        int     0x30                    # back to ring 0: the end

{stubs}

common: cld
        push    ds
        pusha
        mov     ax, 0x10
        mov     ds, ax
        mov     al, [esp + 36]
        call    byte_out
        mov     al, ':'
        out     0xe9, al
        mov     al, [esp + 41]
        call    byte_out
        mov     al, [esp + 40]
        call    byte_out
        cmp     byte ptr [esp + 36], 14
        jne     1f
        mov     al, '@'
        out     0xe9, al
        mov     eax, cr2
        call    long_out
1:      mov     al, ' '
        out     0xe9, al
        popa
        pop     ds
        add     esp, 8
        push    eax
        mov     eax, gs:[resume]
        mov     [esp + 4], eax
        pop     eax
        iretd

# Print EAX, AL in hexadecimal.
show:   push    eax
        call    long_out
        mov     al, ' '
        out     0xe9, al
        pop     eax
        ret
long_out:
        rol     eax, 8
        call    byte_out
        rol     eax, 8
        call    byte_out
        rol     eax, 8
        call    byte_out
        rol     eax, 8
byte_out:
        push    eax
        push    eax
        shr     al, 4
        call    digit
        pop     eax
        call    digit
        pop     eax
        ret
digit:  and     al, 15
        cmp     al, 10
        jb      1f
        add     al, 'a' - '0' - 10
1:      add     al, '0'
        out     0xe9, al
        ret

{more}

.align 16
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        # 08 code
        .quad 0x00cf93000000ffff        # 10 data
        .quad 0x00009b000000ffff        # 18 16-bit code
        .short 0x67                     # 20 TSS
        .short tss - _start
        .byte 0x10, 0x89, 0, 0
        .quad 0x00cffb000000ffff        # 28 user code
        .quad 0x00cff3000000ffff        # 30 user data
{gdt}
gdt_end:
gdtr:   .short gdt_end - gdt - 1
        .quad gdt
.align 16
tss:    .long 0, 0x88000, 0x10, 0, 0, 0, 0, 0, 0, 0
        .long 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        .long 0, 0, 0, 0, 0, 0x680000
.align 16
idt:
{gates}
idt_end:
idtr:   .short idt_end - idt - 1
        .long idt
resume: .long 0
