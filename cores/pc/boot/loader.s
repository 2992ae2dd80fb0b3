# The loader: lies in the free part of the boot information's page, reads the program, and puts the
# CPU and the devices into the platform's boot state.
#
# This half runs in real mode: entered by the boot sector, CS = 0x1000, DL = the boot disk. Offsets in
# the page: 0x100 the program's runs, 0x500 x87 and SSE state, 0x800 this code, 0xb00 the other half
# (entry.s), 0xfc0 parameters.

.equ RUNS, 0x100                        # {u32 address, u32 sectors, u32 LBA, u32 0} ..., sectors 0
.equ RAM_END, 0xfd0                     # parameters, u64 each
.equ BOOT_CR0, 0xfd8
.equ BOOT_CR3, 0xfe0
.equ BOOT_CR4, 0xfe8
.equ BOOT_EFER, 0xff0
.equ LONG_MODE, 0x10b00
.equ BUFFER, 0x20000                    # no 64 KiB border in it: some BIOSes use DMA
.equ MOST, 64                           # sectors at a time

.code16
_start:
        mov     ax, 0x1000
        mov     ds, ax
        mov     [drive], dl

        mov     eax, 0x80000000
        cpuid
        mov     si, offset no_long_mode
        cmp     eax, 0x80000001
        jb      failed
        mov     eax, 0x80000001
        cpuid
        bt      edx, 29                 # long mode
        jnc     failed

        mov     ax, 0x2401              # BIOS: enable address line 20
        int     0x15
        in      al, 0x92                # and by the chipset, for a BIOS that cannot
        or      al, 2
        and     al, 0xfe                # bit 0 would reset the machine
        out     0x92, al

        call    probe
        mov     si, offset too_little
        jne     failed

# Read each run, 32 KiB at a time, to a buffer that the BIOS can reach, and copy it up from there.
        mov     bx, RUNS
run:    mov     eax, [bx]
        mov     [target], eax
        mov     eax, [bx + 8]
        mov     [lba], eax
        mov     eax, [bx + 4]
        mov     [left], eax
        test    eax, eax
        jz      loaded
part:   mov     eax, [left]
        cmp     eax, MOST
        jbe     sized
        mov     eax, MOST
sized:  mov     [count], eax
        mov     [sectors], ax           # in the packet, since a BIOS may change it
        push    bx
        mov     dl, [drive]
        mov     si, offset packet
        mov     ah, 0x42                # int 13h extensions: read sectors by LBA
        int     0x13
        pop     bx
        mov     si, offset unreadable
        jc      failed
        call    copy_up
        mov     eax, [count]
        add     [lba], eax
        sub     [left], eax
        jnz     part
        add     bx, 16
        jmp     run

failed:
        lodsb
        test    al, al
        jz      stop
        mov     ah, 0x0e                # BIOS: print a character
        mov     bx, 0x0007
        int     0x10
        jmp     failed
stop:   hlt
        jmp     stop

# Protected mode for a moment, to reach all of memory: the segment registers alone change, and
# interrupts stay off. Uses EAX, DX.
flat:   cli
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     dx, 0x18
        mov     ds, dx
        mov     es, dx
        ret

real:   mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        xor     dx, dx
        mov     es, dx
        mov     dx, 0x1000
        mov     ds, dx
        sti
        ret

copy_up:                                # count sectors from the buffer to target
        mov     ecx, [count]
        shl     ecx, 7                  # dwords
        mov     esi, BUFFER
        mov     edi, [target]
        call    flat
        .byte   0x67, 0x66, 0xf3, 0xa5  # rep movsd, by ESI and EDI
        call    real
        mov     [target], edi
        ret

probe:                                  # ZF: memory is as large as the boot information says
        mov     edi, [RAM_END]
        call    flat
        mov     eax, es:[edi - 8]
        not     eax
        mov     es:[edi - 8], eax
        mov     ecx, es:[edi - 8]
        xor     ecx, eax
        not     eax
        mov     es:[edi - 8], eax
        call    real
        test    ecx, ecx
        ret

# The program is in place: the BIOS is needed only to clear the screen.
loaded:
        mov     ax, 0x0003              # BIOS: text mode 3, 80 x 25
        int     0x10
        cli
        mov     si, offset devices
device: lodsw
        mov     dx, ax
        lodsb
        out     dx, al
        cmp     dx, 0x3f6
        jne     device
        mov     dx, 0x1f7
        in      al, dx                  # clear the disk's interrupt, and
        mov     cx, 16
drain:  in      al, 0x60                # discard the keys pressed so far
        loop    drain

        lgdt    [gdtr]
        lidt    [no_idt]
        mov     eax, [BOOT_CR3]
        mov     cr3, eax
        mov     eax, [BOOT_CR4]
        mov     cr4, eax
        mov     ecx, 0xc0000080
        mov     eax, [BOOT_EFER]
        xor     edx, edx
        wrmsr
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     eax, [BOOT_CR0]
        mov     cr0, eax
        .byte   0x66, 0xea              # jmp 0x10:LONG_MODE
        .long   LONG_MODE
        .short  0x10

packet: .byte   16, 0                   # its size
sectors:
        .short  0
        .short  0x0000, BUFFER >> 4     # to offset, segment
lba:    .quad   0
target: .long   0
count:  .long   0
left:   .long   0
drive:  .byte   0
gdtr:   .short  0x4f
        .long   0x11000
no_idt: .short  0
        .quad   0

devices:                                # {u16 port, u8 value}, the disk's last
        .irp    pair, 0x1120, 0x11a0, 0x0821, 0x70a1, 0x0421, 0x02a1, 0x0121, 0x01a1, 0xff21, 0xffa1
        .short  \pair & 0xff            # the 8259s: vectors 8 and 0x70, every line masked
        .byte   \pair >> 8
        .endr
        .irp    pair, 0x3443, 0x0040, 0x0040, 0x7443, 0x0041, 0x0041, 0xb443, 0x0042, 0x0042
        .short  \pair & 0xff            # the 8254: three counters in mode 2, 65536
        .byte   \pair >> 8
        .endr
        .irp    pair, 0x80fb, 0x0cf8, 0x00f9, 0x03fb, 0x00f9, 0x00fa, 0x08fc
        .short  0x300 + (\pair & 0xff)  # the UART: 9600 baud, 8 bits, no interrupt, no FIFO
        .byte   \pair >> 8
        .endr
        .short  0x3f6                   # the disk: its interrupt on
        .byte   0

no_long_mode:
        .asciz  "This CPU has no 64-bit mode.\r\n"
too_little:
        .asciz  "This machine has less memory than the image was made for.\r\n"
unreadable:
        .asciz  "The boot disk cannot be read.\r\n"
