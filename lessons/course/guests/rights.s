# rights: first without protection, then with it.
#
# Part one: two programs in ring 0. Nothing keeps them apart, and nothing keeps them from the machine.
# Part two: a kernel that gives ring 3 to its program, one page of memory, and a gateway by which it may
# ask for the rest.

SECRET   = 0x300000                     # where the first program keeps a number
USER_STACK = 0x102000                   # the top of the page that ring 3 may use, in part two

_start: mov     rax, 1234
        mov     [SECRET], rax           # program A remembers something
program_b:
        mov     rax, 666
        mov     [SECRET], rax           # program B writes where it likes
program_a:
        mov     rbx, [SECRET]           # A looks again
        cli                             # and B, or anybody, may switch the interrupts off
        sti

# Part two. A page for ring 3: the bit USER (4) in the table entry of each level.
protect:
        or      qword ptr [0x12000], 4
        or      qword ptr [0x13000], 4
        or      qword ptr [0x14000], 4
        lea     rax, [rip + user]
        shr     rax, 12
        shl     rax, 3
        or      qword ptr [rax + 0x15000], 4
        mov     rax, cr3
        mov     cr3, rax                # the tables have changed: forget what was known of them

        lea     rax, [rip + refused]    # the handlers for #GP and #PF
        lea     rdi, [rip + idt + 13*16]
        call    gate
        call    gate
        lea     rax, [rip + gateway]    # and the one door that ring 3 may knock at: INT 0x30
        lea     rdi, [rip + idt + 0x30*16]
        call    gate
        mov     byte ptr [rip + idt + 0x30*16 + 5], 0xee
        lidt    [rip + idtr]
        mov     [0x11084], rsp          # the TSS: the kernel's stack when ring 3 is interrupted

        call    attempt                 # in ring 0 it may, wherever the instruction stands

        push    0x2b                    # enter ring 3: stack segment, stack, flags, code segment, RIP
        push    USER_STACK
        push    0x202
        push    0x33
        lea     rax, [rip + user]
        push    rax
enter:  iretq

# The kernel: ring 3 has done what it must not do. Say so, and let it go on at R12.
refused:
        add     rsp, 8                  # the error code
        mov     al, 'n'
        out     0xe9, al
        mov     al, 'o'
        out     0xe9, al
        mov     al, 10
        out     0xe9, al
        mov     [rsp], r12              # where IRETQ goes on
leave:  iretq

# The gateway: show the three letters at RDI, please. The kernel could read any memory for its program.
# So it looks at the address first, and shows only what the program can see itself.
gateway:
        test    rdi, rdi
        jz      end                     # no address: the program is done
        lea     rax, [rip + user]
        mov     rcx, rdi
        sub     rcx, rax
        cmp     rcx, 4096 - 3
        jbe     show
        lea     rdi, [rip + denied]
show:   mov     ecx, 3
letter: mov     al, [rdi]
        out     0xe9, al
        inc     rdi
        dec     ecx
        jnz     letter
        iretq
denied: .ascii  "no\n"

end:    xor     eax, eax
        out     0xf4, al

gate:   mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        mov     rcx, rax
        shr     rcx, 16
        mov     [rdi + 6], cx
        add     rdi, 16
        ret

idtr:   .short  0x31 * 16 - 1
        .quad   idt
        .balign 16
idt:    .space  0x31 * 16

        .balign 4096
user:   mov     eax, 5                  # ordinary work: allowed to everybody
        add     eax, 6
first:  lea     r12, [rip + second]
        call    attempt                 # and in ring 3 it may not
second: lea     r12, [rip + third]
        out     0xe9, al                # the hardware
third:  lea     r12, [rip + asked]
        mov     rax, [SECRET]           # somebody else's memory
asked:  lea     rdi, [rip + greeting]   # now it asks, and for something of its own
        int     0x30
        mov     edi, SECRET             # and for what it could not read itself
        int     0x30
        xor     edi, edi
        int     0x30
attempt:
        cli                             # privileged
        ret
greeting:
        .ascii  "hi\n"
        .balign 4096
