# tinyos: a small operating system. Needs --disk assets/disks/files.img, and somebody who types:
# --input $'ls\rcat readme\rrun\rload\rgp\rpf\rps\rexit\r' does as well (\r is the Enter key).
#
# All that the other guests show one by one is here at once: a shell that sleeps until the keyboard
# interrupts, a screen that is memory, files on a disk, programs at ring 3, each with an address
# space of its own, preempted by the timer, served by system calls; memory that is larger than it
# is; and programs that die of what they do, while the shell lives on.
#
# Memory, in physical addresses, which the kernel uses as they are (the boot tables map them so):
#
#       0x20000  slot 0: PML4 PDPT PD PT, code, data, stack, and the kernel's stack for this slot
#       0x28000  slot 1: the same; so two programs can be under way at a time
#       0x30000  four frames for `load`, whose sixteen pages live in the page file otherwise
#       0xb8000  the screen
#      0x100000  this kernel
#
# A program sees 0x40000000: its code, a page of data, a page of stack; `load` a window more.

SLOTS    = 0x20000
SLOT     = 0x8000
FRAMES   = 0x30000
SCREEN   = 0xb8000
BOOT_CR3 = 0x12000
CODE     = 0x40000000
DATA     = 0x40001000
STACK    = 0x40003000                   # its top
WINDOW   = 0x40010000
PAGES    = 16
SWITCHES = 8                            # the timer takes the CPU away so many times in a `run`
SLOW     = 11932                        # PIT clocks of 838 ns: 10 ms, so that HLT ends at times
FAST     = 600                          # half a millisecond while two programs take turns

# What an interrupted program leaves on the kernel's stack, from the last pushed: fifteen registers,
# the vector, the error code, and what the CPU pushed.
FRAME_RAX    = 112
FRAME_VECTOR = 120
FRAME_RIP    = 136
FRAME_CS     = 144
FRAME_RSP    = 40                       # ... counted when the registers are popped already
FRAME_SIZE   = 176

_start: mov     rax, [rdi]              # boot information: RAM, the disk's sectors, its first LBA
        mov     [rip + ram], rax
        mov     rax, [rdi + 24]
        mov     [rip + sectors], rax
        mov     rax, [rdi + 32]
        mov     [rip + first_lba], rax
        call    clear_screen
        call    set_up_interrupts
        call    set_up_system_calls
        mov     ecx, SLOW
        call    set_timer
        lea     rsi, [rip + hello]
        call    print
        mov     rax, [rip + ram]
        shr     rax, 20
        call    print_decimal
        lea     rsi, [rip + hello_too]
        call    print

# ---- The shell ------------------------------------------------------------------------------

shell:  lea     rsi, [rip + prompt]
        call    print
        call    read_line
        call    split_line              # RAX: the first word, at most eight letters in a register
        test    rax, rax
        jz      shell
        lea     rbx, [rip + commands]
find:   cmp     [rbx], rax
        je      found
        add     rbx, 16
        cmp     qword ptr [rbx], 0
        jne     find
found:  call    [rbx + 8]               # the last entry, without a name, is `unknown`
        jmp     shell

# Collects keys in `line` up to Enter, and shows them.
read_line:
        lea     rbx, [rip + line]
        xor     ebp, ebp                # letters so far
another_key:
        call    read_key
        cmp     al, 10
        je      enter_key
        cmp     al, 8
        je      backspace
        cmp     ebp, 63
        jae     another_key
        mov     [rbx + rbp], al
        inc     ebp
        call    put
        jmp     another_key
backspace:
        test    ebp, ebp
        jz      another_key
        dec     ebp
        call    put
        jmp     another_key
enter_key:
        mov     byte ptr [rbx + rbp], 0
        jmp     put                     # a new line

# Sleeps until a key is in the ring. STI holds interrupts off for one instruction more, so that none
# can come between the look and the HLT: it would be slept through.
read_key:
        cli
        movzx   ecx, byte ptr [rip + ring_tail]
        cmp     cl, [rip + ring_head]
        jne     have_key
        sti
        hlt                             # out of the guest, until the next interrupt
        jmp     read_key
have_key:
        sti
        lea     rdx, [rip + ring]
        mov     al, [rdx + rcx]
        inc     byte ptr [rip + ring_tail]
        ret

# The first word of `line` to RAX, the second to `argument`, padded with zeros.
split_line:
        lea     rsi, [rip + line]
        lea     rdi, [rip + argument]
        mov     qword ptr [rdi], 0
        mov     qword ptr [rdi + 8], 0
        xor     edx, edx
        xor     ecx, ecx
letter: movzx   eax, byte ptr [rsi]
        cmp     al, 33                  # a blank, or the end
        jb      word_ends
        inc     rsi
        cmp     ecx, 64
        jae     letter
        shl     rax, cl
        or      rdx, rax
        add     ecx, 8
        jmp     letter
word_ends:
        xor     ecx, ecx
blank:  cmp     byte ptr [rsi], 32
        jne     second
        inc     rsi
        jmp     blank
second: mov     al, [rsi + rcx]
        cmp     al, 33
        jb      split
        mov     [rdi + rcx], al
        inc     ecx
        cmp     ecx, 15
        jb      second
split:  mov     rax, rdx
        ret

help:   lea     rsi, [rip + help_text]
        jmp     print
unknown:
        lea     rsi, [rip + unknown_text]
        jmp     print
leave_os:
        xor     eax, eax
        out     0xf4, al
        cli
        hlt

# ---- Files: sixteen entries of 32 bytes in sector 0, as file.s describes them ------------------

ls:     call    read_directory
        lea     rbx, [rip + sector]
entry:  add     rbx, 32
        cmp     byte ptr [rbx], 0
        je      no_more
        mov     rsi, rbx
        call    print
        mov     al, 9
        call    put
        mov     eax, [rbx + 20]         # its size
        call    print_decimal
        mov     al, 10
        call    put
        jmp     entry
no_more:
        ret

cat:    call    read_directory
        lea     rsi, [rip + argument]
        call    find_file
        jne     unknown_file
        mov     ebp, [rbx + 16]         # its next sector
        mov     ebx, [rbx + 20]         # bytes left
next_sector:
        test    ebx, ebx
        jz      no_more
        mov     eax, ebp
        inc     ebp
        call    read_sector
        lea     rsi, [rip + sector]
        mov     ecx, 512
        cmp     ebx, ecx
        cmovb   ecx, ebx
        sub     ebx, ecx
show:   lodsb
        call    put
        loop    show
        jmp     next_sector
unknown_file:
        lea     rsi, [rip + no_file_text]
        jmp     print

# Finds the file named by the sixteen bytes at RSI: ZF, and RBX on its entry.
find_file:
        mov     rax, [rsi]
        mov     rdx, [rsi + 8]
        lea     rbx, [rip + sector]
        mov     ecx, 15
compare:
        add     rbx, 32
        cmp     [rbx], rax
        jne     differs
        cmp     [rbx + 8], rdx
        je      same
differs:
        loop    compare
        inc     ecx                     # ZF off
same:   ret

# Sector 0 to `sector`. Without a disk: says so, and returns to the shell.
read_directory:
        cmp     qword ptr [rip + sectors], 0
        je      no_disk
        xor     eax, eax
read_sector:                            # sector EAX to `sector`
        lea     rdi, [rip + sector]
        mov     ecx, 1
read_sectors:                           # ECX sectors from EAX on, to RDI
        mov     r8d, 0x20               # READ SECTORS
        call    disk_command
read_next:
        call    disk_ready
        mov     ecx, 256
        mov     edx, 0x1f0
        rep     insw                    # a sector in one exit
        dec     r9d
        jnz     read_next
        ret
write_sectors:                          # ECX sectors from EAX on, from RSI
        mov     r8d, 0x30               # WRITE SECTORS
        call    disk_command
write_next:
        call    disk_ready
        mov     ecx, 256
        mov     edx, 0x1f0
        rep     outsw
        dec     r9d
        jnz     write_next
disk_ready:
        mov     edx, 0x1f7
        in      al, dx
        test    al, 0x80                # busy
        jnz     disk_ready
        test    al, 0x01                # error
        jnz     panic
        ret
no_disk:
        lea     rsi, [rip + no_disk_text]
        call    print
        add     rsp, 8                  # past the command, back to the shell
        ret

# Gives the ATA disk command R8 for ECX sectors from EAX on. R9 becomes their number.
disk_command:
        add     rax, [rip + first_lba]
        mov     r9d, ecx
        mov     r10d, eax
        mov     edx, 0x1f6
        shr     eax, 24
        or      al, 0xe0                # the first disk, LBA addressing
        out     dx, al
        mov     edx, 0x1f2
        mov     eax, r9d
        out     dx, al
        mov     eax, r10d
        inc     edx
        out     dx, al
        shr     eax, 8
        inc     edx
        out     dx, al
        shr     eax, 8
        inc     edx
        out     dx, al
        mov     edx, 0x1f7
        mov     eax, r8d
        out     dx, al
        ret

# ---- Programs -------------------------------------------------------------------------------

ps:     lea     rbx, [rip + programs]
process:
        mov     rsi, rbx
        call    print
        mov     al, 9
        call    put
        mov     rsi, [rbx + 24]         # its state is a text
        call    print
        add     rbx, 32
        cmp     qword ptr [rbx], 0
        jne     process
        ret

run:    lea     rbx, [rip + ping]       # two programs, which take turns
        xor     eax, eax
        call    load_program
        lea     rbx, [rip + pong]
        mov     eax, 1
        call    load_program
        mov     ecx, FAST
        call    set_timer
        jmp     run_programs
gp:     lea     rbx, [rip + gp_program]
        jmp     run_one
pf:     lea     rbx, [rip + pf_program]
run_one:
        xor     eax, eax
        call    load_program
        jmp     run_programs

# Runs a program whose pages are more than the frames, and tells how often it had to wait for them.
load:   call    read_directory
        lea     rsi, [rip + page_file_name]
        call    find_file
        jne     unknown_file
        mov     eax, [rbx + 16]
        mov     [rip + page_file], eax
        lea     rdi, [rip + owners]
        mov     dword ptr [rdi], -1     # all four frames are free
        add     rdi, 4
        xor     eax, eax
        mov     ecx, 8                  # pages on the disk, turn, and counters: all zero
        rep     stosd
        lea     rbx, [rip + load_entry]
        call    run_one
        mov     eax, [rip + faults]
        call    print_decimal
        lea     rsi, [rip + faults_text]
        call    print
        mov     eax, [rip + pages_read]
        call    print_decimal
        lea     rsi, [rip + read_text]
        call    print
        mov     eax, [rip + pages_written]
        call    print_decimal
        lea     rsi, [rip + written_text]
        jmp     print

# Puts the program at RBX into slot EAX: an address space, code, and a frame as if it had been
# interrupted before its first instruction.
load_program:
        lea     rdx, [rip + running_text]
        mov     [rbx + 24], rdx
        mov     edx, eax
        shl     edx, 4
        lea     r9, [rip + slots]
        add     r9, rdx                 # R9: the slot's entry: its frame, its program
        imul    r8d, eax, SLOT
        add     r8d, SLOTS              # R8: the slot's pages
        mov     [r9 + 8], rbx
        mov     edi, r8d
        mov     ecx, SLOT / 8
        xor     eax, eax
        rep     stosq

        lea     eax, [r8 + 0x1007]      # PML4: present, writable, user
        mov     [r8], rax
        mov     eax, 0x14003            # PDPT: the first gigabyte is the kernel's alone,
        mov     [r8 + 0x1000], rax
        lea     eax, [r8 + 0x2007]      # the second one is the program's
        mov     [r8 + 0x1008], rax
        lea     eax, [r8 + 0x3007]
        mov     [r8 + 0x2000], rax
        lea     eax, [r8 + 0x4005]      # code: present, user, not writable
        mov     [r8 + 0x3000], rax
        lea     eax, [r8 + 0x5007]
        mov     [r8 + 0x3008], rax
        lea     eax, [r8 + 0x6007]
        mov     [r8 + 0x3010], rax

        lea     edi, [r8 + 0x4000]
        mov     rsi, [rbx + 8]
        mov     rcx, [rbx + 16]
        rep     movsb
        mov     rax, [rbx]              # its name is its first datum
        mov     [r8 + 0x5000], rax

        lea     rdi, [r8 + SLOT]        # the top of the kernel's stack for it
        mov     qword ptr [rdi - 8], 0x2b
        mov     eax, STACK
        mov     [rdi - 16], rax
        mov     qword ptr [rdi - 24], 0x202
        mov     qword ptr [rdi - 32], 0x33
        mov     eax, CODE
        mov     [rdi - 40], rax
        sub     rdi, FRAME_SIZE
        mov     [r9], rdi
        ret

# Runs what is in the slots to its end, then returns. The shell sleeps on its stack meanwhile.
run_programs:
        cli
        mov     dword ptr [rip + switches], 0
        mov     [rip + shell_rsp], rsp
        xor     eax, eax

# Goes on with slot EAX: its address space, its kernel stack, its registers.
resume: mov     [rip + current], eax
        imul    ecx, eax, SLOT
        add     ecx, SLOTS
        mov     cr3, rcx
        add     ecx, SLOT
        mov     [0x11084], rcx          # RSP0 in the TSS: for interrupts
        mov     [rip + kernel_rsp], rcx # for system calls, which know no TSS
        shl     eax, 4
        lea     rbx, [rip + slots]
        mov     rsp, [rbx + rax]

leave:  pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rbp
        pop     rbx
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 16                 # vector and error code
        iretq

# The program in the current slot is over, and its state is at RDX.
program_over:
        call    current_slot
        mov     rcx, [rbx + 8]
        mov     [rcx + 24], rdx
        mov     qword ptr [rbx + 8], 0  # the slot is free
        mov     eax, [rip + current]
        xor     eax, 1
        xor     rbx, 16                 # the other slot: the table is aligned to 32
        cmp     qword ptr [rbx + 8], 0
        jne     resume
        mov     eax, BOOT_CR3
        mov     cr3, rax
        mov     rsp, [rip + shell_rsp]
        sti
        ret

current_slot:
        mov     ebx, [rip + current]
        shl     ebx, 4
        lea     rcx, [rip + slots]
        add     rbx, rcx
        ret

# ---- Interrupts and exceptions ---------------------------------------------------------------

divide_error:
        push    0                       # no error code
        push    0
        jmp     enter
invalid_opcode:
        push    0
        push    6
        jmp     enter
protection:                             # here the CPU has pushed one
        push    13
        jmp     enter
page_fault:
        push    14
        jmp     enter
timer:  push    0
        push    32
        jmp     enter
keyboard:
        push    0
        push    33

enter:  push    rax
        push    rcx
        push    rdx
        push    rbx
        push    rbp
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        push    r12
        push    r13
        push    r14
        push    r15
        cld
        mov     rbp, [rsp + FRAME_VECTOR]
        cmp     ebp, 32
        jb      exception
        mov     al, 0x20                # end of interrupt
        out     0x20, al
        ja      key_moved

# The timer. If it interrupted a program, the other one is next.
        test    byte ptr [rsp + FRAME_CS], 3
        jz      leave
        cmp     dword ptr [rip + switches], SWITCHES
        je      leave                   # enough for a demonstration
        call    current_slot
        mov     [rbx], rsp
        xor     rbx, 16
        cmp     qword ptr [rbx + 8], 0
        je      leave
        inc     dword ptr [rip + switches]
        cmp     dword ptr [rip + switches], SWITCHES
        jne     next_program
        mov     ecx, SLOW               # that was the last: a slow machine shall get its work done
        call    set_timer
next_program:
        mov     eax, [rip + current]
        xor     eax, 1
        jmp     resume

# The keyboard: one scan code, the key's number, with bit 7 when it comes up.
key_moved:
        in      al, 0x60
        movzx   eax, al
        cmp     eax, offset keys_end - keys
        jae     leave
        lea     rdx, [rip + keys]
        mov     al, [rdx + rax]
        test    al, al
        jz      leave
        movzx   ecx, byte ptr [rip + ring_head]
        lea     rdx, [rip + ring]
        mov     [rdx + rcx], al         # a byte for an index, and 256 letters: it wraps by itself
        inc     byte ptr [rip + ring_head]
        jmp     leave

# An exception. The kernel makes none on purpose; a program may ask for memory by a page fault, and
# for its end by all others.
exception:
        test    byte ptr [rsp + FRAME_CS], 3
        jz      panic
        cmp     ebp, 14
        jne     kill
        mov     rbx, cr2                # the address
        mov     eax, WINDOW
        sub     rbx, rax
        shr     rbx, 12
        cmp     rbx, PAGES
        jae     kill
        call    current_slot_is_load
        jne     kill
        call    bring_page
        jmp     leave

kill:   call    current_slot
        mov     rsi, [rbx + 8]
        call    print                   # its name
        lea     rsi, [rip + killed_by_text]
        call    print
        lea     rsi, [rip + exception_names]
        lea     rsi, [rsi + rbp*4]
        call    print
        lea     rsi, [rip + at_text]
        call    print
        mov     rax, [rsp + FRAME_RIP]
        call    print_hex
        cmp     ebp, 14
        jne     killed
        lea     rsi, [rip + touching_text]
        call    print
        mov     rax, cr2
        call    print_hex
killed: mov     al, 10
        call    put
        lea     rdx, [rip + killed_text]
        jmp     program_over

panic:  lea     rsi, [rip + panic_text]
        call    print
        mov     al, 1
        out     0xf4, al
        cli
        hlt

# ---- System calls: RAX 0 how many switches, 1 print the text at RSI, 2 end -----------------------

system_call:
        mov     [rip + user_rsp], rsp   # SYSCALL changes neither stack nor address space
        mov     rsp, [rip + kernel_rsp]
        push    0x2b                    # a frame like an interrupt's, so that all is alike
        push    [rip + user_rsp]
        push    r11
        push    0x33
        push    rcx
        push    0
        push    0
        push    rax
        push    rcx
        push    rdx
        push    rbx
        push    rbp
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        push    r12
        push    r13
        push    r14
        push    r15
        cld
        lea     rdx, [rip + ended_text]
        cmp     eax, 2
        je      program_over
        cmp     eax, 1
        je      print_for_it
        mov     eax, [rip + switches]
        mov     [rsp + FRAME_RAX], rax
        jmp     return
print_for_it:
        mov     rax, rsi                # never trust a pointer: a program could have the kernel's
        shr     rax, 30                 # memory printed
        cmp     rax, 1
        jne     return
        call    print
return: pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11                     # its flags, as SYSCALL left them here
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rbp
        pop     rbx
        pop     rdx
        pop     rcx                     # where it goes on
        pop     rax
        mov     rsp, [rsp + FRAME_RSP]
        sysretq

# ---- Memory that is larger than it is: sixteen pages, four frames, as in swap.s -------------------

current_slot_is_load:
        mov     r12, rbx
        call    current_slot
        lea     rcx, [rip + load_entry]
        cmp     [rbx + 8], rcx
        mov     rbx, r12
        ret

# Gives page RBX of the window a frame: the one that its owner has had longest.
bring_page:
        inc     dword ptr [rip + faults]
        mov     ebp, [rip + turn]
        lea     eax, [rbp + 1]
        and     eax, 3
        mov     [rip + turn], eax
        lea     rsi, [rip + owners]
        movsx   r12d, byte ptr [rsi + rbp]
        mov     [rsi + rbp], bl
        shl     ebp, 12
        add     ebp, FRAMES             # EBP: the frame
        mov     r13d, SLOTS + 0x3080    # R13: the window's entries in slot 0's page table
        test    r12d, r12d
        js      free_frame
        mov     r14, [r13 + r12*8]
        mov     qword ptr [r13 + r12*8], 0
        mov     eax, r12d
        shl     eax, 12
        add     eax, WINDOW
        invlpg  [rax]                   # the CPU must forget the old page
        test    r14, 0x40               # D: was it changed?
        jz      free_frame
        inc     dword ptr [rip + pages_written]
        mov     eax, r12d
        call    place_of_page
        mov     esi, ebp
        call    write_sectors
        lea     rsi, [rip + on_disk]
        mov     byte ptr [rsi + r12], 1
free_frame:
        mov     edi, ebp
        lea     rsi, [rip + on_disk]
        cmp     byte ptr [rsi + rbx], 0
        je      zero_page
        inc     dword ptr [rip + pages_read]
        mov     eax, ebx
        call    place_of_page
        call    read_sectors
        jmp     map_page
zero_page:
        mov     ecx, 512
        xor     eax, eax
        rep     stosq
map_page:
        lea     eax, [rbp + 7]
        mov     [r13 + rbx*8], rax
        ret

# Page EAX of the page file: its first sector to EAX, their number to ECX.
place_of_page:
        shl     eax, 3
        add     eax, [rip + page_file]
        mov     ecx, 8
        ret

# ---- The screen: 80 x 25 cells of a letter and its colours, in memory ------------------------------

clear_screen:
        mov     edi, SCREEN
        mov     ecx, 500
        mov     rax, 0x0720072007200720
        rep     stosq
        ret

print:  push    rax
next_letter:
        lodsb
        test    al, al
        jz      printed
        call    put
        jmp     next_letter
printed:
        pop     rax
        ret

# Shows AL at the cursor: a letter, 8 back, 9 the next tabulator stop, 10 a new line.
put:    push    rax
        push    rcx
        push    rdx
        push    rdi
        mov     edi, [rip + cursor]     # in bytes from the screen's beginning
        cmp     al, 10
        je      new_line
        cmp     al, 9
        je      tabulator
        cmp     al, 8
        je      back
        mov     ah, 7                   # grey on black
        mov     [rdi + SCREEN], ax      # out of the guest: no RAM is there
        add     edi, 2
        jmp     moved
back:   sub     edi, 2
        mov     word ptr [rdi + SCREEN], 0x0720
        jmp     moved
tabulator:
        or      edi, 31                 # sixteen columns
        inc     edi
        jmp     moved
new_line:
        mov     eax, edi
        mov     ecx, 160
        xor     edx, edx
        div     ecx
        sub     edi, edx
        add     edi, ecx
moved:  cmp     edi, 4000
        jb      on_screen
        push    rsi                     # all lines move up by one
        mov     esi, SCREEN + 160
        mov     edi, SCREEN
        mov     ecx, 480
        rep     movsq
        mov     ecx, 20
        mov     rax, 0x0720072007200720
        rep     stosq
        pop     rsi
        mov     edi, 3840
on_screen:
        mov     [rip + cursor], edi
        pop     rdi
        pop     rdx
        pop     rcx
        pop     rax
        ret

print_decimal:                          # EAX
        xor     edx, edx
        mov     ecx, 10
        div     ecx
        push    rdx
        test    eax, eax
        jz      one_digit
        call    print_decimal
one_digit:
        pop     rax
        add     al, '0'
        jmp     put

print_hex:                              # RAX
        push    rax
        shr     rax, 4
        jz      last_digit
        call    print_hex
last_digit:
        pop     rax
        and     eax, 15
        lea     rdx, [rip + digits]
        mov     al, [rdx + rax]
        jmp     put

# ---- Setting up the machine ---------------------------------------------------------------------

set_up_interrupts:
        lea     rsi, [rip + gates]      # vector, handler
next_gate:
        mov     rdi, [rsi]
        shl     edi, 4
        lea     rax, [rip + idt]
        add     rdi, rax
        mov     rax, [rsi + 8]
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00      # an interrupt gate
        shr     rax, 16
        mov     [rdi + 6], ax
        add     rsi, 16
        cmp     qword ptr [rsi], -1
        jne     next_gate
        lidt    [rip + idtr]
        lea     rsi, [rip + pic_words]  # the interrupt controllers: vectors from 0x20
        mov     ecx, 10
pic:    movzx   edx, byte ptr [rsi]
        mov     al, [rsi + 1]
        out     dx, al
        add     rsi, 2
        loop    pic
        ret

set_up_system_calls:
        mov     ecx, 0xc0000081         # STAR: the selectors of both rings
        xor     eax, eax
        mov     edx, 0x00200010
        wrmsr
        inc     ecx                     # LSTAR: where SYSCALL goes
        lea     rax, [rip + system_call]
        xor     edx, edx
        wrmsr
        mov     ecx, 0xc0000084         # FMASK: IF, DF and TF off
        mov     eax, 0x700
        wrmsr
        ret

set_timer:                              # every ECX clocks
        mov     al, 0x34                # counter 0, mode 2: again and again
        out     0x43, al
        mov     eax, ecx
        out     0x40, al
        mov     al, ah
        out     0x40, al
        ret

# ---- The programs. They are copied to 0x40000000, and talk to nobody but the kernel --------------

turns:  mov     ebp, DATA
        mov     rbx, [rbp]              # its name, which nobody else may change
turn_again:
        mov     ecx, 50
check:  cmp     rbx, [rbp]
        jne     turn_end
        loop    check
        xor     eax, eax                # how many switches?
        syscall
        cmp     eax, SWITCHES
        jb      turn_again
        mov     esi, DATA
        mov     eax, 1
        syscall
        lea     rsi, [rip + turn_text]
        mov     eax, 1
        syscall
turn_end:
        mov     eax, 2
        syscall
turn_text:
        .asciz  ": eight switches, and my memory is my own.\n"
turns_end:

more_memory:
        mov     edi, WINDOW             # a number into each page
        xor     ecx, ecx
fill:   mov     [rdi + rcx*4], rcx
        add     rdi, 0x1000
        inc     ecx
        cmp     ecx, PAGES
        jb      fill
        xor     eax, eax                # and all of them back, from the last to the first
sum:    dec     ecx
        sub     rdi, 0x1000
        add     rax, [rdi + rcx*4]
        test    ecx, ecx
        jnz     sum
        cmp     eax, 120
        jne     wrong
        lea     rsi, [rip + sum_text]
        mov     eax, 1
        syscall
wrong:  mov     eax, 2
        syscall
sum_text:
        .asciz  "load: the sum over sixteen pages is right.\n"
more_memory_end:

forbidden:
        cli                             # not in ring 3: #GP
forbidden_end:

outside:
        mov     edi, 0x100000           # the kernel's: #PF
        mov     [rdi], rax
outside_end:

# ---- Data -----------------------------------------------------------------------------------

hello:  .asciz  "tinyos: "
hello_too:
        .asciz  " MiB and a disk. Type help.\n"
prompt: .asciz  "> "
help_text:
        .ascii  "ls, cat FILE    the disk\n"
        .ascii  "ps              the programs\n"
        .ascii  "run             ping and pong, preempted by the timer\n"
        .ascii  "load            sixteen pages in four frames\n"
        .ascii  "gp, pf          programs that do what they must not\n"
        .asciz  "exit            the end\n"
unknown_text:
        .asciz  "There is no such command.\n"
no_file_text:
        .asciz  "There is no such file.\n"
no_disk_text:
        .asciz  "There is no disk.\n"
panic_text:
        .asciz  "The kernel made a mistake. The end.\n"
never_text:
        .asciz  "not yet run\n"
running_text:
        .asciz  "running\n"
ended_text:
        .asciz  "ended\n"
killed_text:
        .asciz  "killed\n"
killed_by_text:
        .asciz  ": killed by "
at_text:
        .asciz  " at 0x"
touching_text:
        .asciz  ", touching 0x"
faults_text:
        .asciz  " page faults, "
read_text:
        .asciz  " pages read, "
written_text:
        .asciz  " written.\n"
digits: .ascii  "0123456789abcdef"
exception_names:                        # four bytes for a vector
        .ascii  "#DE\0#DB\0NMI\0#BP\0#OF\0#BR\0#UD\0#NM\0#DF\0\0\0\0\0#TS\0#NP\0#SS\0#GP\0#PF\0"
keys:   .ascii  "\0\0331234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0\0\0 "
keys_end:
page_file_name:
        .ascii  "pagefile\0\0\0\0\0\0\0\0"
pic_words:                              # port, value: ICW1 to ICW4 of both, then the masks
        .byte   0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
        .byte   0x21, 0xfc, 0xa1, 0xff  # all but the timer and the keyboard

        .balign 16
commands:
        .ascii  "help\0\0\0\0"
        .quad   help
        .ascii  "ls\0\0\0\0\0\0"
        .quad   ls
        .ascii  "cat\0\0\0\0\0"
        .quad   cat
        .ascii  "ps\0\0\0\0\0\0"
        .quad   ps
        .ascii  "run\0\0\0\0\0"
        .quad   run
        .ascii  "load\0\0\0\0"
        .quad   load
        .ascii  "gp\0\0\0\0\0\0"
        .quad   gp
        .ascii  "pf\0\0\0\0\0\0"
        .quad   pf
        .ascii  "exit\0\0\0\0"
        .quad   leave_os
        .quad   0, unknown

programs:                               # name, code, its size, state
        .ascii  "shell\0\0\0"
        .quad   shell, 0, running_text
ping:   .ascii  "ping\0\0\0\0"
        .quad   turns, turns_end - turns, never_text
pong:   .ascii  "pong\0\0\0\0"
        .quad   turns, turns_end - turns, never_text
load_entry:
        .ascii  "load\0\0\0\0"
        .quad   more_memory, more_memory_end - more_memory, never_text
gp_program:
        .ascii  "gp\0\0\0\0\0\0"
        .quad   forbidden, forbidden_end - forbidden, never_text
pf_program:
        .ascii  "pf\0\0\0\0\0\0"
        .quad   outside, outside_end - outside, never_text
        .quad   0

gates:  .quad   0, divide_error
        .quad   6, invalid_opcode
        .quad   13, protection
        .quad   14, page_fault
        .quad   32, timer
        .quad   33, keyboard
        .quad   -1
idtr:   .short  0x21f
        .quad   idt

# From here on, what changes.
        .balign 4096
slots:  .quad   0, 0, 0, 0              # of each: its frame, its program or 0
ram:    .quad   0
sectors:
        .quad   0
first_lba:
        .quad   0
shell_rsp:
        .quad   0
kernel_rsp:
        .quad   0
user_rsp:
        .quad   0
current:
        .long   0
switches:
        .long   0
cursor: .long   0
page_file:
        .long   0
owners: .byte   -1, -1, -1, -1          # which page has the frame
on_disk:                                # has the page a copy in the page file?
        .space  PAGES
turn:   .long   0
faults: .long   0
pages_read:
        .long   0
pages_written:
        .long   0
ring_head:
        .byte   0
ring_tail:
        .byte   0
ring:   .space  256
line:   .space  64
argument:
        .space  16
        .balign 16
sector: .space  512
idt:    .space  0x220
