# The first instructions. A Multiboot loader has loaded the kernel at physical 0x100000 and jumps to
# `start` in 32-bit protected mode without paging; the kernel is linked to run at 0xC0100000.
#
# Source: Multiboot Specification 0.6.96, section 3.

#include "memory_layout.h"

        .section .multiboot, "a"
        .align  4
        .long   0x1badb002              # magic,
        .long   2                       # flags: tell us how much memory there is,
        .long   -(0x1badb002 + 2)       # and a checksum: the three add up to 0

        .section .boot, "ax"
        .globl  start
start:  mov     $(directory - KERNEL), %ecx
        mov     %cr4, %eax
        or      $0x10, %eax             # PSE: pages of 4 MiB
        mov     %eax, %cr4
        mov     %ecx, %cr3
        mov     %cr0, %eax
        or      $0x80010000, %eax       # PG: paging. WP: read-only holds for the kernel, too
        mov     %eax, %cr0
        mov     $high, %eax             # still at 1 MiB, by the first entry of the directory
        jmp     *%eax

        .text
high:   mov     $boot_stack_top, %esp
        push    %ebx                    # what the loader tells
        call    main                    # never returns

# The kernel's page directory, whose upper quarter every process shares. 0x83: present, writable,
# 4 MiB. 0x93: and not cached, as devices have to be.

        .section .data.directory, "aw"
        .align  4096
        .globl  directory
directory:
        .long   0x83                    # physical 0 at 0, until the first process has its own
        .fill   767, 4, 0
        .long   0x000083, 0x400083, 0x800083, 0xc00083  # physical 0 to 16 MiB at 0xC0000000
        .fill   247, 4, 0
        .long   0xfec00093              # entry 1019: both APICs where they are
        .fill   4, 4, 0

        .bss
        .align  4096
        .globl  boot_stack_top
        .skip   4096
boot_stack_top:
