# Into the kernel and out of it. Every exception, interrupt and system call has an entry of its own, which
# stores what the CPU does not (the vector, an error code where there is none), and all go on at `enter`.

#include "memory_layout.h"

        .text
        .macro  entries first, last
        .set    vector, \first
        .rept   \last - \first + 1
        entry   %vector
        .set    vector, vector + 1
        .endr
        .endm

        .altmacro
        .macro  entry number
entry_\number:
        .if     (\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17)
        .else
        push    $0                      # the CPU stores no error code for this one
        .endif
        push    $\number
        jmp     enter
        .endm
        entries 0, 64

# The stack is now as `struct frame` says (kernel.h), but for the general registers. DS and ES may be
# anything that ring 3 can load, so they are made sure of; in ring 3 they always come back as this.
enter:  pusha
        mov     $0x23, %eax             # USER_DATA
        mov     %eax, %ds
        mov     %eax, %es
        cld
        push    %esp                    # the frame
        call    trap
        add     $4, %esp
        .globl  return_to_user
return_to_user:
        popa
        add     $8, %esp                # vector and error code
        iret

# void switch_stacks(u32 *old, u32 new): leave one process, inside the kernel, and go on with another
# where it once called this. What C lets a function change is not saved.
        .globl  switch_stacks
switch_stacks:
        mov     4(%esp), %eax
        mov     8(%esp), %edx
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
        mov     %esp, (%eax)
        mov     %edx, %esp
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret

        .section .rodata
        .macro  address number
        .long   entry_\number
        .endm
        .globl  vectors
        .align  4
vectors:
        .set    vector, 0
        .rept   65
        address %vector
        .set    vector, vector + 1
        .endr
