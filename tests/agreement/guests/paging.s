# Page tables of the guest's own (SDM vol. 3, ch. 4)

## own_tables: a new CR3 with a page moved elsewhere
%faults #PF #PF(2)
    call own_tables
    mov qword ptr [0x60000], 0x1111
    mov qword ptr [0x61000], 0x2222
    mov qword ptr [PT + 8 * 0x62], 0x60003
    mov rax, [0x62000]
    mov qword ptr [0x62008], 0x3333
    mov rbx, [0x60008]
    mov ecx, 0x400000
! mov rdx, [rcx]
! mov [rcx], rdx

## stale_translation: a changed entry holds after INVLPG, whatever before
    call own_tables
    mov qword ptr [0x60000], 0x1111
    mov qword ptr [0x61000], 0x2222
    mov qword ptr [PT + 8 * 0x61], 0x60003
    invlpg [0x61000]
    mov rax, [0x61000]
    mov qword ptr [PT + 8 * 0x61], 0x61003
    mov rcx, cr3
    mov cr3, rcx
    mov rbx, [0x61000]

## not_present_to_present: a page that appears needs no INVLPG
%faults #PF #PF(2)
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0
    invlpg [0x61000]
    mov ecx, 0x61000
! mov rax, [rcx]
! mov [rcx], rax
    mov qword ptr [PT + 8 * 0x61], 0x61003
    mov rbx, [rcx]
    mov [rcx], rcx

## large_pages: 2 MiB pages onto the same RAM
    call own_tables
    mov qword ptr [0x82010], 0x200083           # 4 MiB -> 2 MiB
    mov qword ptr [0x400123], 0x55
    mov rax, [0x200123]
    mov qword ptr [0x82010], 0x83               # 4 MiB -> 0
    invlpg [0x400000]
    mov rsi, [0x400000 + 0x11010]

## gigantic_pages [hardware=always]: a 1 GiB page onto all of RAM, and beyond
    call own_tables
    mov qword ptr [0x81008], 0x83               # 1 GiB -> 0
    mov qword ptr [0x200123], 0x55
    mov ecx, 0x40200123
    mov rbx, [rcx]
    mov qword ptr [rcx + 8], 0x66
    mov rdx, [0x20012b]
    mov esi, 0x50000000
    mov rdi, [rsi]
    mov qword ptr [0x81008], 0
    invlpg [rcx]
! mov rbp, [rcx]

## far_addresses: anywhere in the lower half
    call own_tables
    mov qword ptr [0x80100], 0x84003            # PML4[32]
    mov qword ptr [0x84000 + 8 * 511], 0x82003
    mov rcx, 0x10ffc0000000
    mov rax, [rcx + 0x11018]
    mov qword ptr [rcx + 0x60000], 0x77
    mov rbx, [0x60000]
    mov qword ptr [0x807f8], 0x84003            # PML4[255]
    mov rdx, 0x7fffc0060000
    mov rsi, [rdx]

## low_pages [bridged]: below 64 KiB, where the host maps nothing
    call own_tables
    mov ecx, 0x2000
    mov qword ptr [rcx], 0x77
    mov rax, [rcx]
    mov rbx, [0x500]

## write_protect: CR0.WP decides whether ring 0 respects R/W
%faults #PF(3) #PF(3)
    call own_tables
    and qword ptr [PT + 8 * 0x60], -3
    invlpg [0x60000]
    mov ecx, 0x60000
! mov [rcx], rax
    mov rax, cr0
    btr rax, 16
    mov cr0, rax
    mov [rcx], rcx
    bts rax, 16
    mov cr0, rax
    mov rdx, [rcx]
! mov [rcx], rax
    or qword ptr [PT + 8 * 0x60], 2
    mov [rcx], rax
    mov rbx, [rcx]

## no_execute: NX pages are #PF(0x11) when executed, and data all the same
%faults #PF(0x11)
    call own_tables
    bts qword ptr [PT + 8 * 0x60], 63
    invlpg [0x60000]
    mov byte ptr [0x60000], 0xc3
    mov byte ptr [0x61000], 0xc3
    mov eax, 0x61000
    call rax
    mov rbx, rsp
    mov eax, 0x60000
! call rax
    mov rsp, rbx
    btr qword ptr [PT + 8 * 0x60], 63
    invlpg [0x60000]
    call rax

## nx_disabled: without EFER.NXE bit 63 is reserved
%faults #PF(9)
    call own_tables
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffff7ff
    wrmsr
    bts qword ptr [PT + 8 * 0x60], 63
    invlpg [0x60000]
    mov ecx, 0x60000
! mov rax, [rcx]

## reserved_bits: in a leaf and in CR3
%faults #PF(9) #PF(0xb) #GP
    call own_tables
    bts qword ptr [PT + 8 * 0x60], 51
    invlpg [0x60000]
    mov ecx, 0x60000
! mov al, [rcx]
! mov [rcx], al
    mov rax, 0xff00000000080000
! mov cr3, rax

## large_page_reserved_bits: a 2 MiB page must be aligned
%faults #PF(9)
    call own_tables
    mov qword ptr [0x82010], 0x202083
    mov ecx, 0x400000
! mov rax, [rcx]

## smep_and_smap: CR4 keeps ring 0 from executing and accessing user pages
%faults #PF(1) #PF(3) #PF(1) #PF(0x11)
    mov esp, 0x9e000
    call own_tables
    call open_user
    or byte ptr [PT + 8 * 0x60], 4
    invlpg [0x60000]
    mov byte ptr [0x60000], 0xc3
    mov rax, cr4
    or eax, 0x300000
    mov cr4, rax
    mov ecx, 0x60000
! mov al, [rcx]
! mov [rcx], al
    .byte 0x0f, 0x01, 0xcb
    mov al, [rcx]
    .byte 0x0f, 0x01, 0xca
! mov al, [rcx]
    mov rbx, rsp
! call rcx
    mov rsp, rbx
    mov rax, cr4
    and eax, 0xffcfffff
    mov cr4, rax
    call rcx
    mov al, [rcx]

## accessed_and_dirty [exact]: set by the first access and the first store
    call own_tables
    mov ecx, 0x60000
    mov al, [rcx]
    mov rbx, [PT + 8 * 0x60]
    mov [rcx], al
    mov rsi, [PT + 8 * 0x60]
    and qword ptr [PT + 8 * 0x60], -0x61
    invlpg [rcx]
    mov rdx, [PT + 8 * 0x60]
    mov al, [rcx]
    mov rdi, [PT + 8 * 0x60]
    mov rbp, [0x82000]

## user_pages [hardware]: U/S on every level, for user code on the guest's own tables
%faults #PF(5) #PF(5) #PF(7)
    call own_tables
    call open_user
    lea rcx, [rip + user]
    jmp enter_user_at_rcx
%user
    mov ecx, 0x60000
! mov rax, [rcx]
    mov ecx, 0x83000
! mov rax, [rcx]
! mov [rcx], rax
    mov rax, [USER_DATA]

## two_address_spaces: CR3 switched to and fro; the same address is two pages
    call own_tables
    mov esi, 0x80000
    mov edi, 0x90000
    mov ecx, 0x800
    rep movsq
    mov qword ptr [0x90000], 0x91003
    mov qword ptr [0x91000], 0x92003
    mov qword ptr [0x92000], 0x93003
    mov qword ptr [0x93000 + 8 * 0x60], 0x61003
    mov qword ptr [0x60000], 1
    mov qword ptr [0x61000], 2
    mov r8d, 0x90000
    mov cr3, r8
    mov rax, [0x60000]
    mov qword ptr [0x60008], 3
    mov r9d, 0x80000
    mov cr3, r9
    mov rbx, [0x60000]
    mov rcx, [0x60008]
    mov rdx, [0x61008]

## executing_moved_code: the same code at another address, changed under it
    call own_tables
    mov byte ptr [0x60000], 0xb8                # mov eax, 1; ret
    mov dword ptr [0x60001], 1
    mov byte ptr [0x60005], 0xc3
    mov qword ptr [PT + 8 * 0x62], 0x60003
    mov ecx, 0x62000
    call rcx
    mov ebx, eax
    mov dword ptr [0x60001], 2
    call rcx
    mov edx, eax
    mov byte ptr [0x61000], 0xc3
    mov qword ptr [PT + 8 * 0x62], 0x61003
    invlpg [0x62000]
    call rcx

## self_mapped_tables: a PML4 entry that points at itself
    call own_tables
    mov qword ptr [0x80008], 0x80003            # PML4[1]: the tables appear at 512 GiB
    mov rcx, 0x8000000000
    mov rax, [rcx]
    mov rdx, 0x8040201000
    mov rbx, [rdx]
    mov rsi, 0x8000000300
    mov qword ptr [rsi], 0x60003
    mov rdi, [PT + 8 * 0x60]

## fault_mid_string: REP stops at the missing page, with the registers half way
%faults #PF(2) #PF
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0
    invlpg [0x61000]
    mov edi, 0x60ff0
    mov ecx, 8
    mov rax, 0x1122334455667788
! rep stosq
    mov ebx, ecx
    mov edx, edi
    mov esi, 0x60ff8
    mov edi, 0x50000
    mov ecx, 4
! rep movsq

## fault_mid_string_resumed: the handler maps the page, and the string goes on
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0
    invlpg [0x61000]
    lea rax, [rip + map_it]
    mov [rip + idt + 14 * 16], ax
    mov edi, 0x60ff0
    mov ecx, 8
    mov rax, 0x1122334455667788
    rep stosq
    mov rbx, [0x61000]
%more
map_it:
    mov qword ptr [PT + 8 * 0x61], 0x61003
    add rsp, 8
    iretq

## operand_across_pages [hardware=always]: a store whose second page is missing changes nothing
%faults #PF(2) #PF #PF(2)
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0
    invlpg [0x61000]
    mov ecx, 0x60ffc
    mov rax, -1
! mov [rcx], rax
! mov rbx, [rcx]
    mov edx, [rcx]
! add [rcx], rax
    mov esi, [rcx]

## operand_across_distant_pages: neighbours in the guest, far apart in RAM
    call own_tables
    mov qword ptr [PT + 8 * 0x61], 0x70003
    invlpg [0x61000]
    mov ecx, 0x60ffc
    mov rax, 0x1122334455667788
    mov [rcx], rax
    mov rbx, [rcx]
    mov edx, [0x60ffc]
    lock add [rcx], rax
    mov rsi, [rcx]

## push_across_missing_page [hardware=always]: the stack runs into a guard page
%faults #DF
    call own_tables
    mov byte ptr [rip + idt + 8 * 16 + 4], 1
    mov qword ptr [TSS + 0x24], 0x96000
    mov qword ptr [PT + 8 * 0x60], 0
    invlpg [0x60000]
    mov rbx, rsp
    mov esp, 0x61010
    push rax
    push rax
! push rax
    mov rsp, rbx

## boot_tables_changed: entries of the boot tables may be used as well
%faults #PF
    mov qword ptr [0x14000 + 8 * 16], 0x200083
    mov qword ptr [0x2000100], 0x1234
    mov rbx, [0x200100]
    mov qword ptr [0x14000 + 8 * 16], 0x83
    invlpg [0x2000100]
    mov rax, [0x2000000 + 0x11018]
    mov qword ptr [0x14000 + 8 * 16], 0
    invlpg [0x2000100]
    mov ecx, 0x2000100
! mov rdx, [rcx]

## boot_page_made_readonly: a single boot page closed, used, opened
%faults #PF(3)
    and qword ptr [0x15000 + 8 * 0x60], -3
    invlpg [0x60000]
    mov ecx, 0x60000
    mov rax, [rcx]
! mov [rcx], rax
    or qword ptr [0x15000 + 8 * 0x60], 2
    invlpg [0x60000]
    mov [rcx], rcx

## unbacked_memory: mapped, but neither RAM nor device: all ones, writes swallowed
    mov qword ptr [0x14000 + 8 * 16], 0x40000083
    mov ecx, 0x2000000
    mov rax, [rcx]
    mov [rcx], rbx
    mov rbx, [rcx]
    movzx edx, word ptr [rcx + 0x1fff]
    mov esi, 0xa0000
    mov rdi, [rsi]

## paging_off: PG cannot be cleared in 64-bit mode
%faults #GP
    mov rax, cr0
    btr rax, 31
! mov cr0, rax

## cr3_flags: PWT and PCD in CR3 and in entries are accepted
    call own_tables
    mov eax, 0x80018
    mov cr3, rax
    or qword ptr [PT + 8 * 0x60], 0x118
    invlpg [0x60000]
    mov rbx, [0x60000]
    mov rcx, cr3

## large_page_over_the_hole: INVLPG forgets all of a large page, also where no large mapping can serve it
%faults #PF
    call own_tables
    mov qword ptr [0x82018], 0x83               # 6 MiB -> 0, with the screen in it
    mov rax, [0x660000]
    mov qword ptr [0x82018], 0
    invlpg [0x600000]
    mov ecx, 0x660000
! mov rbx, [rcx]

## wide_store_across_pages [exact]: a store of 16 bytes whose second page is missing stores nothing
%faults #PF(2) #PF(2)
    call own_tables
    mov rax, 0x1111111111111111
    mov [0x60ff8], rax
    mov qword ptr [PT + 8 * 0x61], 0
    invlpg [0x61000]
    mov ecx, 0x60ff8
    movq xmm1, rcx
! movups [rcx], xmm1
! movdqu [rcx], xmm1
    mov rbx, [rcx]

## large_page_made_small: a large page becomes a table of small ones, and INVLPG says so of one alone
    mov qword ptr [0x201000], 0x11
    mov qword ptr [0x301000], 0x22
    mov qword ptr [0x14018], 0x200083
    mov rax, cr3
    mov cr3, rax
    mov rbx, [0x601000]
    mov edi, 0x70000
    mov eax, 0x200003
    mov ecx, 8
entries_of_it:
    mov [rdi], rax
    add eax, 0x1000
    add edi, 8
    dec ecx
    jnz entries_of_it
    mov qword ptr [0x14018], 0x70003
    mov qword ptr [0x600000], 1
    mov qword ptr [0x70008], 0x301003
    mov esi, 0x601000
    invlpg [rsi]
    mov rdx, [rsi]

## code_by_a_no_execute_alias: code stored through a no-execute alias runs
    call own_tables
    lea rsi, [rip + routine]
    mov edi, 0x61000
    mov ecx, 64
    rep movsb
    mov qword ptr [0x83000 + 8*0x70], 0x61003
    mov rax, 0x8000000000061003
    mov [0x83000 + 8*0x71], rax
    invlpg [0x70000]
    invlpg [0x71000]
    mov edi, 0x71000
    mov byte ptr [rdi + 1], 1
    mov ecx, 0x70000
    call rcx
    mov r8d, eax
    mov byte ptr [rdi + 1], 2
    call rcx
    mov r9d, eax
    mov byte ptr [rdi + 1], 3
    xor eax, eax
    cpuid
    mov ecx, 0x70000
    call rcx
    mov r10d, eax
    mov byte ptr [rdi + 1], 4
    mov rax, cr3
    mov cr3, rax
    mov ecx, 0x70000
    call rcx
    mov r11d, eax
    mov ebp, 9
again:
    mov [rdi + 1], bpl
    call rcx
    add esi, eax
    dec ebp
    jnz again
    xor ebx, ebx
    xor edx, edx
%more
routine:
    mov eax, 0
    ret

## code_by_a_large_no_execute_alias: the same through a 2 MiB page
    call own_tables
    mov rax, 0x8000000000000083
    mov [0x82010], rax
    invlpg [0x400000]
    lea rdi, [rip + patch_me + 0x400001]
    mov dword ptr [rdi], 1
    call patch_me
    mov r8d, eax
    mov dword ptr [rdi], 2
    call patch_me
    mov r9d, eax
    mov ecx, 0x20
    std
    mov dword ptr [rdi], 3
    cld
    call patch_me
    mov r10d, eax
%more
patch_me:
    mov eax, 0
    ret
