# turns: two programs share one CPU by good manners: each calls `yield` when it is ready to wait.
#
# No timer, no rings, no page tables of their own. `yield` puts one program's registers on that
# program's stack, and goes on with the other one, where it once called `yield` itself. In its third
# turn B stops being polite.

_start: lea     rax, [rip + b_stack]    # B has not run yet. Its stack looks as if it had yielded
        lea     rcx, [rip + program_b]  # just before its first instruction
        mov     [rax - 8], rcx
        sub     rax, 24
        mov     [rip + other], rax

program_a:
        xor     ebx, ebx                # A counts its turns
a_turn: inc     ebx
        mov     al, 'A'
        out     0xe9, al
        call    yield
        jmp     a_turn

program_b:
        xor     ebx, ebx                # and B its own, in the same register
b_turn: inc     ebx
        mov     al, 'B'
        out     0xe9, al
        cmp     ebx, 3
        je      rude
        call    yield
        jmp     b_turn

rude:   jmp     rude                    # it never yields again

yield:  push    rbx                     # what a program wants to find again
        push    rbp
        mov     rax, rsp
        xchg    rax, [rip + other]      # this program's place for the other's
        mov     rsp, rax
switch: pop     rbp
        pop     rbx
        ret

other:  .quad   0                       # where the waiting program's registers are
        .space  256
b_stack:
