# gate: the quick way into a kernel, SYSCALL and SYSRET, and GS for what belongs to the CPU.
#
# STAR, LSTAR and FMASK say where SYSCALL goes and which flags it clears. SWAPGS exchanges the bases of
# the program's GS and the kernel's.

_start:
        mov     ebx, 0x12000            # user pages, as in `rings`
        mov     ecx, 4 * 512
user:   test    byte ptr [rbx], 1
        jz      absent
        or      byte ptr [rbx], 4
absent: add     rbx, 8
        dec     ecx
        jnz     user
        mov     rax, cr3
        mov     cr3, rax

        mov     ecx, 0xc0000081         # STAR: SYSRET's selectors begin at 0x20, SYSCALL's at 0x10
        xor     eax, eax
        mov     edx, 0x00200010
        wrmsr
        mov     ecx, 0xc0000082         # LSTAR
        lea     rax, [rip + enter]
        mov     rdx, rax
        shr     rdx, 32
        wrmsr
        mov     ecx, 0xc0000084         # FMASK: IF and DF off
        mov     eax, 0x600
        xor     edx, edx
        wrmsr
        mov     ecx, 0xc0000102         # KERNEL_GS_BASE
        lea     rax, [rip + cpu]
        mov     rdx, rax
        shr     rdx, 32
        wrmsr
        mov     ecx, 0xc0000101         # GS_BASE: the program's
        lea     rax, [rip + given]
        mov     rdx, rax
        shr     rdx, 32
        wrmsr
        xor     eax, eax
        xor     edx, edx
        rdmsr                           # reads what was written
        lea     rbx, [rip + given]
        sub     rax, rbx
        add     al, 48
        out     0xe9, al                # 0
        lea     rax, [rip + kernel_stack_top]
        mov     [rip + cpu], rax

        mov     r11d, 0x602             # the program's flags: IF and DF
        lea     rcx, [rip + program]
        lea     rsp, [rip + user_stack_top]
        sysretq

enter:  swapgs
        mov     gs:[8], rsp
        mov     rsp, gs:[0]
        test    al, al
        jz      leave
        out     0xe9, al
        pushfq                          # FMASK has cleared IF and DF
        pop     rax
        and     eax, 0x600
        or      r12d, eax
        mov     r14, r11                # the program's flags
        mov     rsp, gs:[8]
        swapgs
        sysretq
leave:  mov     eax, r12d               # 0
        out     0xf4, al
        cli
        hlt

program:
        xor     ebx, ebx
        xor     r12d, r12d
next:   mov     al, gs:[rbx]            # its own GS
        test    al, al
        jz      done
        syscall
        inc     ebx
        jmp     next
done:   mov     eax, r14d               # IF and DF as they were
        shr     eax, 9
        and     eax, 3
        add     al, 48
        syscall                         # 3
        cld
        mov     eax, ss                 # 0x2b
        add     al, 32                  # 'K'
        syscall
        xor     eax, eax
        syscall

        .align  16
        .skip   256
kernel_stack_top:
        .skip   256
user_stack_top:
cpu:    .quad   0, 0
given:  .ascii  "Mind the gap.\n"
        .skip   50
