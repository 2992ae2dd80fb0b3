# The boot sector: loaded by the BIOS at 0x7C00 and entered in real mode, with the disk's number in DL.
#
# It reads the platform's low memory (0x10000-0x15FFF: boot information, the loader, GDT, TSS, page
# tables) from the sectors behind this one to its final place, and enters the loader in it.

.code16
_start:
        cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        sti
        mov     si, offset packet
        mov     ah, 0x42                # int 13h extensions: read sectors by LBA
        int     0x13
        jc      failed
        .byte   0xea                    # jmp 0x1000:0x0800
        .short  0x0800, 0x1000

failed:
        mov     si, offset message
character:
        lodsb
        test    al, al
        jz      stop
        mov     ah, 0x0e                # BIOS: print a character
        mov     bx, 0x0007
        int     0x10
        jmp     character
stop:
        hlt
        jmp     stop

packet: .byte   16, 0                   # its size
        .short  48                      # sectors
        .short  0x0000, 0x1000          # to offset, segment
        .quad   1                       # from LBA

message:
        .asciz  "The boot disk cannot be read by LBA.\r\n"
