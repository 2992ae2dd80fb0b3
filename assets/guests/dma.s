# dma: has a disk write over its kernel. Needs --disk assets/disks/files.img --virtio block,iommu
#
# Page tables bind the CPU. A device stores where its driver says: here a virtio disk is told to read
# its first sector to the page that says "I am the kernel.", which the page tables make read-only. Once
# it works and the kernel is lost. With a virtio-iommu before the disk the same is tried again, after a
# domain has been made in which the disk finds its queue and one buffer, and nothing else. The disk is
# refused, the kernel stays, and the IOMMU's second queue says which address it was.
#
# That is why a device which is given to a guest needs an IOMMU: its driver is the guest. Run it with
# --virtio block to see the kernel lost.

DEVICES = 0xd0000000
TABLE   = 0x17000                       # the page directory of the last GiB below 4
QUEUE   = 0x20000                       # each: descriptors, available +0x400, used +0x800
REQUESTS = 0x21000                      # the IOMMU's
EVENTS  = 0x22000
BUFFER  = 0x30000                       # what the disk may write
KERNEL  = 0x31000                       # and what it may not
DISK_AT = 0x32000                       # a request to the disk, its status behind it
IOMMU_AT = 0x33000
EVENT   = 0x34000
SIZE    = 8

_start: mov     dword ptr [TABLE + 128 * 8], DEVICES + 0x93
        mov     qword ptr [0x13018], TABLE + 3  # the devices' registers can be reached
        lea     rsi, [rip + kernel]
        mov     edi, KERNEL
        mov     ecx, 32
        rep     movsb
        and     byte ptr [0x15000 + (KERNEL / 4096) * 8], 0xfd
        invlpg  [KERNEL]                        # from now on the CPU cannot write it

        mov     eax, 2
        call    find
        lea     rsi, [rip + no_disk]
        jc      fail
        mov     [rip + disk], ebx
        mov     [rip + slot], ecx
        mov     eax, 23
        call    find
        jc      without
        mov     [rip + iommu], ebx
        call    confine
without:
        mov     ebx, [rip + disk]
        mov     eax, 3
        cmp     dword ptr [rip + iommu], 0
        jne     knows
        mov     eax, 1
knows:  call    begin                           # EAX: version 1, and that an IOMMU may be before it
        xor     ecx, ecx
        mov     edi, QUEUE
        call    set_up_queue
        mov     dword ptr [rbx + 0x70], 15

        mov     eax, BUFFER                     # where it may write: this works
        call    read_sector
        lea     rsi, [rip + worked]
        test    al, al
        jz      say
        lea     rsi, [rip + failed]
say:    call    print

        mov     eax, KERNEL                     # and where it may not
        call    read_sector
        lea     rsi, [rip + lost]
        test    al, al
        jz      told
        lea     rsi, [rip + refused]            # the status was never written
told:   call    print
        lea     rsi, [rip + kernel]             # is the kernel what it was?
        mov     edi, KERNEL
        mov     ecx, 18
        repe    cmpsb
        lea     rsi, [rip + whole]
        je      last
        lea     rsi, [rip + gone]
last:   call    print
        cmp     word ptr [EVENTS + 0x802], 1    # has the IOMMU told of an address?
        jne     end
        cmp     qword ptr [EVENT + 16], KERNEL
        jne     end
        lea     rsi, [rip + address]
        call    print
end:    xor     eax, eax
        jmp     stop
fail:   call    print
        mov     eax, 1
stop:   out     0xf4, al
        cli
        hlt

# Prints the text at RSI, which ends with a zero byte.
print:  mov     dx, 0xe9
        mov     rdi, rsi
        xor     eax, eax
        mov     ecx, 100
        repne   scasb
        lea     rcx, [rdi - 1]
        sub     rcx, rsi
        rep     outsb
        ret

# The device with ID EAX: its registers in RBX, its slot in ECX; CF if there is none.
find:   mov     ebx, DEVICES
        xor     ecx, ecx
look:   cmp     dword ptr [rbx], 0x74726976     # "virt"
        jne     none
        cmp     [rbx + 8], eax
        je      found
        add     ebx, 0x200
        inc     ecx
        cmp     ecx, 8
        jb      look
none:   stc
        ret
found:  clc
        ret

# Reset, and features: EAX are the bits 32-63, ESI the others.
begin:  xor     esi, esi
begin_with:
        mov     dword ptr [rbx + 0x70], 0
        mov     dword ptr [rbx + 0x70], 3
        mov     dword ptr [rbx + 0x24], 0
        mov     [rbx + 0x20], esi
        mov     dword ptr [rbx + 0x24], 1
        mov     [rbx + 0x20], eax
        mov     dword ptr [rbx + 0x70], 11
        ret

# Queue ECX at EDI.
set_up_queue:
        mov     [rbx + 0x30], ecx
        mov     dword ptr [rbx + 0x38], SIZE
        xor     eax, eax
        mov     [rbx + 0x84], eax
        mov     [rbx + 0x94], eax
        mov     [rbx + 0xa4], eax
        mov     [rbx + 0x80], edi
        lea     eax, [rdi + 0x400]
        mov     [rbx + 0x90], eax
        add     eax, 0x400
        mov     [rbx + 0xa0], eax
        mov     dword ptr [rbx + 0x44], 1
        ret

# A descriptor at RDI: address EAX, ECX bytes, flags EDX (1: the next one follows, 2: to be written).
describe:
        mov     [rdi], rax
        mov     [rdi + 8], ecx
        mov     [rdi + 12], dx
        mov     eax, edi
        shr     eax, 4
        inc     eax
        and     eax, SIZE - 1
        mov     [rdi + 14], ax
        add     edi, 16
        ret

# Has the disk read its first sector to EAX; gives the status in AL, 0 for done, 0xff for none.
read_sector:
        mov     ebx, [rip + disk]
        push    rax
        mov     qword ptr [DISK_AT], 0          # a read
        mov     qword ptr [DISK_AT + 8], 0      # from sector 0 on
        mov     byte ptr [DISK_AT + 16], 0xff
        mov     edi, QUEUE
        mov     eax, DISK_AT
        mov     ecx, 16
        mov     edx, 1
        call    describe
        pop     rax
        mov     ecx, 512
        mov     edx, 3
        call    describe
        mov     eax, DISK_AT + 16
        mov     ecx, 1
        mov     edx, 2
        call    describe
        inc     word ptr [QUEUE + 0x402]        # the ring names descriptor 0 in each entry
        mov     dword ptr [rbx + 0x50], 0       # out of the guest
        mov     cx, [QUEUE + 0x402]
busy:   cmp     cx, [QUEUE + 0x802]             # is it done with all requests?
        je      answered
        test    dword ptr [rbx + 0x70], 0x40    # or does it need a reset?
        jz      busy
answered:
        mov     al, [DISK_AT + 16]
        ret

# The IOMMU: the disk gets a domain with its queue, its requests and the buffer.
confine:
        mov     ebx, [rip + iommu]
        mov     eax, 1
        mov     esi, 0x44                       # mappings, and that the bypass can be ended
        call    begin_with
        xor     ecx, ecx
        mov     edi, REQUESTS
        call    set_up_queue
        mov     ecx, 1
        mov     edi, EVENTS
        call    set_up_queue
        mov     edi, EVENTS
        mov     eax, EVENT
        mov     ecx, 24
        mov     edx, 2
        call    describe
        mov     dword ptr [EVENTS + 0x402], 1
        mov     dword ptr [rbx + 0x70], 15
        mov     byte ptr [rbx + 0x124], 0       # what is in no domain reaches nothing

        mov     byte ptr [IOMMU_AT], 1          # attach: domain 1, the disk
        mov     dword ptr [IOMMU_AT + 4], 1
        mov     eax, [rip + slot]
        mov     [IOMMU_AT + 8], eax
        mov     ecx, 20
        call    ask
        mov     byte ptr [IOMMU_AT], 3          # map
        mov     dword ptr [IOMMU_AT + 32], 3    # for loads and stores
        mov     eax, QUEUE
        call    map
        mov     eax, DISK_AT
        call    map
        mov     eax, BUFFER
map:    mov     [IOMMU_AT + 8], rax             # from this address
        mov     [IOMMU_AT + 24], rax            # to the same one in RAM
        add     eax, 4095
        mov     [IOMMU_AT + 16], rax
        mov     ecx, 36

# Makes the request of ECX bytes at IOMMU_AT.
ask:    mov     edi, REQUESTS
        mov     eax, IOMMU_AT
        mov     edx, 1
        call    describe
        mov     eax, IOMMU_AT + 0x100
        mov     ecx, 4
        mov     edx, 2
        call    describe
        inc     word ptr [REQUESTS + 0x402]
        mov     dword ptr [rbx + 0x50], 0
        mov     cx, [REQUESTS + 0x402]
asked:  pause
        cmp     cx, [REQUESTS + 0x802]
        jne     asked
        ret

        .balign 4096                            # data, in a page of its own
disk:   .long   0
iommu:  .long   0
slot:   .long   0
kernel: .asciz  "I am the kernel."
        .space  16
worked: .asciz  "to the buffer: done\n"
failed: .asciz  "to the buffer: refused\n"
lost:   .asciz  "to the kernel: done, though the CPU may not write there\n"
refused:
        .asciz  "to the kernel: refused by the IOMMU\n"
whole:  .asciz  "the kernel is what it was\n"
gone:   .asciz  "the kernel is lost\n"
address:
        .asciz  "the IOMMU has told its address\n"
no_disk:
        .asciz  "There is no virtio disk: run it with --virtio block,iommu.\n"
