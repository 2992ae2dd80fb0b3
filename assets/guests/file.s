# file: asks the disk for a file by its name and prints it. Needs --disk assets/disks/files.img
#
# The file system (assets/disks/build.py makes it): sector 0 is the directory, sixteen entries of
# 32 bytes. Entry 0 is the head; the others are files, until one has no name:
#
#        0  16 bytes   name, padded with zeros ("ringscope files" in the head)
#       16  u32        first sector             (the number of files)
#       20  u32        size in bytes            (the sectors of the disk)
#
# What leaves the guest: seven port accesses to have a sector ready, one `rep insw` for its 512
# bytes, one `rep outsb` for all that is printed of it. A string instruction is one exit, however
# long: that is why drivers loved it long before anyone virtualized them.

_start: mov     r15, [rdi + 32]         # boot information: the disk's first LBA
        cmp     qword ptr [rdi + 24], 0 # ... and its sectors
        je      no_disk

        xor     eax, eax                # the directory
        call    read_sector
        lea     rsi, [rip + magic]
        lea     rdi, [rip + sector]
        mov     ecx, 16
        repe    cmpsb
        jne     no_disk

# Look for the name: sixteen bytes are two quadwords.
        lea     rbx, [rip + sector + 32]
        mov     rax, [rip + name]
        mov     rdx, [rip + name + 8]
        mov     ecx, 15
look:   cmp     [rbx], rax
        jne     other
        cmp     [rbx + 8], rdx
        je      found
other:  add     rbx, 32
        loop    look
        lea     rsi, [rip + not_found]
        mov     ecx, offset not_found_end - not_found
        jmp     complain

found:  mov     ebp, [rbx + 16]         # the sector that comes next
        mov     ebx, [rbx + 20]         # bytes still to be printed
piece:  test    ebx, ebx
        jz      done
        mov     eax, ebp
        call    read_sector
        mov     ecx, 512
        cmp     ebx, ecx
        cmovb   ecx, ebx                # the last sector may be shorter
        sub     ebx, ecx
        inc     ebp
        lea     rsi, [rip + sector]
        mov     dx, 0xe9
        rep     outsb
        jmp     piece

done:   xor     eax, eax
        jmp     end
no_disk:
        lea     rsi, [rip + no_files]
        mov     ecx, offset no_files_end - no_files
complain:
        mov     dx, 0xe9
        rep     outsb
        mov     eax, 1
end:    out     0xf4, al
        cli
        hlt

# Reads sector EAX of the disk into `sector`. Changes RAX, RCX, RDX and RDI.
# The ATA disk's registers: 0x1f2 count, 0x1f3-0x1f5 LBA, 0x1f6 drive, 0x1f7 command and status.
read_sector:
        add     rax, r15
        mov     ecx, eax
        mov     dx, 0x1f6
        shr     eax, 24
        or      al, 0xe0                # the first disk, LBA addressing, bits 24-27
        out     dx, al
        mov     dx, 0x1f2
        mov     al, 1                   # one sector
        out     dx, al
        mov     eax, ecx
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        mov     dx, 0x1f7
        mov     al, 0x20                # READ SECTORS
        out     dx, al
wait:   in      al, dx
        test    al, 0x80                # busy
        jnz     wait
        test    al, 0x08                # data request: the sector is in the disk's buffer
        jz      no_disk
        mov     dx, 0x1f0
        mov     ecx, 256
        lea     rdi, [rip + sector]
        rep     insw                    # the whole sector, in one exit
        ret

name:   .asciz  "readme"
        .space  9
magic:  .asciz  "ringscope files"
no_files:
        .ascii  "There is no disk with files here.\n"
no_files_end:
not_found:
        .ascii  "The disk has no file of that name.\n"
not_found_end:

        .balign 16
sector: .space  512
