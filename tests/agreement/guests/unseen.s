# Code in odd places: what has to be found before it runs freely, and must never run unseen

## return_to_unknown: RET and RET n into the middle of an instruction, where a CPUID stands
    lea r14, [rip + behind]
    lea rcx, [rip + outer + 1]
    push r14
    push rcx
    xor eax, eax
    ret
behind:
    mov r8d, ebx
    lea r14, [rip + again]
    push r14
    push r14
    lea rcx, [rip + outer + 1]
    push rcx
    xor eax, eax
    ret 8
again:
    mov r9d, ebx
    jmp finish
outer:
    mov eax, 0xc3a20f90                 # nop; cpuid; ret

## return_into_threads: a switch of stacks by RET, where each new thread begins with PUSHF
    mov ebp, 4
    lea rdi, [rip + stacks + 256]
begin:
    lea rax, [rip + thread]
    mov [rdi - 8], rax
    lea rcx, [rdi - 8]
    xchg rsp, rcx
    call turn                           # what it pushes stands below the entry
turn:
    pop rax
    ret
back:
    mov rsp, rcx
    add rdi, 256
    dec ebp
    jnz begin
    jmp finish
    .byte 0xeb
thread:
    pushfq
    pop rax
    add r8, rax
    lea rax, [rip + back]
    jmp rax
%more
.balign 16
stacks: .space 2048

## tail_changed: an instruction across pages is decoded, not executed, and changes in the other page
    mov word ptr [0x200ff0], 0x0d74     # jz 0x200fff
    mov byte ptr [0x200ff2], 0xc3
    mov byte ptr [0x200fff], 0x0f       # nop dword ptr [rax]; ret
    mov dword ptr [0x201000], 0x90c3001f
    mov esi, 0x200ff0
    xor eax, eax
    inc eax
    call rsi
    mov word ptr [0x201000], 0xc3a2     # cpuid; ret
    xor eax, eax
    call rsi

## tail_changed_when_hot: the same when it has run often
    mov word ptr [0x200ff0], 0x0deb
    mov byte ptr [0x200fff], 0x0f
    mov dword ptr [0x201000], 0x90c3001f
    mov esi, 0x200ff0
    mov edi, 40
    mov eax, 0x60000
hot:
    call rsi
    dec edi
    jnz hot
    mov word ptr [0x201000], 0xc3a2
    xor eax, eax
    call rsi
    mov r8d, ebx
    mov dword ptr [0x201000], 0x90c3001f
    mov eax, 0x60000
    call rsi
    mov r9d, eax

## tail_elsewhere: a page of RAM at two addresses, followed by another one at each
    mov qword ptr [0x16000], 0x200003   # 0x20000000
    mov qword ptr [0x16008], 0x201003
    mov qword ptr [0x16010], 0x200003   # 0x20002000
    mov qword ptr [0x16018], 0x202003
    mov qword ptr [0x14800], 0x16003
    mov word ptr [0x200ff0], 0x0deb
    mov byte ptr [0x200fff], 0x0f
    mov dword ptr [0x201000], 0x90c3001f
    mov word ptr [0x202000], 0xc3a2
    mov r8d, 0x20000ff0
    mov r9d, 0x20002ff0
    mov edi, 3
turn:
    mov eax, 0x60000
    call r8
    xor eax, eax
    call r9
    dec edi
    jnz turn

## tail_remapped: the page behind is exchanged for another, and exchanged again
    mov qword ptr [0x16000], 0x200003
    mov qword ptr [0x16008], 0x201003
    mov qword ptr [0x14800], 0x16003
    mov word ptr [0x200ff0], 0x0deb
    mov byte ptr [0x200fff], 0x0f
    mov dword ptr [0x201000], 0x90c3001f
    mov word ptr [0x202000], 0xc3a2
    mov esi, 0x20000ff0
    mov eax, 0x60000
    call rsi
    mov qword ptr [0x16008], 0x202003
    invlpg [0x20001000]
    xor eax, eax
    call rsi
    mov r8d, ebx
    mov qword ptr [0x16008], 0x201003
    invlpg [0x20001000]
    mov eax, 0x60000
    call rsi
    mov r9d, eax

## tail_overlapped: PUSHF in the second page, inside an instruction that begins in the first
    mov word ptr [0x200ffe], 0x11b8     # mov eax, 0x58909c11; ret
    mov dword ptr [0x201000], 0xc358909c
    mov esi, 0x201000
    call rsi                            # pushfq; nop; pop rax; ret
    mov edi, 0x200ffe
    call rdi
    mov r8d, eax
    call rdi
    mov r9d, eax
    call rsi

## branches_overlapped: an indirect branch, and a RET, inside other instructions
    lea rsi, [rip + back]
    jmp first + 1
back:
    call first
    mov r8d, eax
    call second + 2
    call second
    mov r9d, eax
    jmp finish
first:
    mov eax, 0x9090e6ff                 # jmp rsi
    ret
second:
    mov eax, 0x9090c390                 # ret
    ret

## overlaps_in_a_chain: A holds the start of B and B that of C, a PUSHF; A does not reach it
    lea rsi, [rip + one]
    jmp a + 6
one:
    mov r8, rax
    lea rsi, [rip + two]
    jmp a + 3
two:
    mov r9, rcx
    lea rsi, [rip + three]
    jmp a
three:
    mov r10, rdx
    jmp finish
a:  .byte 0xba, 0x11, 0x22, 0xb9, 0x44  # mov edx, 0x44b92211
    .byte 0x90, 0x9c, 0x58              # from 3: mov ecx, 0x589c9044; from 6: pushfq; pop rax
    jmp rsi

## stack_beside_code: a stack in the code's own page, while pointers lead to code not seen before
    lea r10, [rip + top]
    xchg rsp, r10
    mov ecx, 60
fill:
    push rcx
    pop rdx
    loop fill
    lea rax, [rip + unknown]
    call rax
    add r8d, 1
    lea rax, [rip + unknown + 3]
    call rax
    xchg rsp, r10
    jmp finish
    .byte 0xeb
unknown:
    inc r9d
    inc r11d
    ret
    .balign 16
    .space 128
top:

## code_beside_data: code changed in a page that it has long shared with data; found from the first exit on
    mov ecx, 60
store:
    mov [rip + cell], ecx
    loop store
    call slot
    mov dword ptr [rip + slot], 0xc3909066
    in al, 0xe9
    call slot
    mov dword ptr [rip + slot], 0x90c3a20f
    xor eax, eax
    call slot                           # cpuid
    mov r8d, ebx
    mov dword ptr [rip + slot], 0xc3909090
    call slot
    mov dword ptr [rip + slot], 0x90c3589c
    call slot                           # pushfq; pop rax
    jmp finish
slot:
    nop
    nop
    nop
    ret
    .balign 64
cell: .quad 0

## tail_of_a_shared_page: the last instruction of such a page is a CPUID that lies in the next one too
    mov byte ptr [0x200fff], 0x0f
    mov word ptr [0x201000], 0xc3a2
    mov dword ptr [0x200f00], 0x0000fae9    # jmp 0x200fff
    mov byte ptr [0x200f04], 0
    mov esi, 0x200f00
    mov edi, 40
turn:
    xor eax, eax
    call rsi
    mov [0x200800], edi
    dec edi
    jnz turn
    mov dword ptr [0x200f00], 0x00f9e990    # nop; jmp 0x200fff
    mov word ptr [0x200f04], 0
    in al, 0xe9
    xor eax, eax
    call rsi

## cpuid_everywhere [hardware]: with prefixes that mean nothing, across pages at each offset, as fresh code
    mov esi, 0x200ff0
    mov edi, 16
place:
    mov eax, 0xa20f4866                 # data16 rex.w cpuid
    mov [rsi], eax
    mov dword ptr [rsi + 4], 0x90c3a20f # cpuid; ret
    xor eax, eax
    call rsi
    add r8d, ebx
    mov dword ptr [rsi], 0xa20f2ef3     # rep cs cpuid
    xor eax, eax
    call rsi
    add r8d, ebx
    inc rsi
    dec edi
    jnz place

## store_over_a_patch: an instruction with a patch in its middle stores into its page, which is read-only
%faults #PF(0x3)
    call own_tables
    lea rsi, [rip + overlapping]
    mov edi, 0x60000
    mov ecx, 12
    rep movsb
    and qword ptr [PT + 8 * 0x60], -3
    mov rax, cr3
    mov cr3, rax
    mov edx, 0x60009                            # PUSHF; POP RAX; RET
    call rdx
    lea r13, [rip + not_stored]
    mov edx, 0x60000                            # MOV [RIP + 0x100], an immediate that ends in PUSHF
    jmp rdx
not_stored:
    mov rdx, cr2
    mov rcx, [0x6010a]
    jmp finish
overlapping:
    .byte 0xc7, 0x05, 0, 1, 0, 0, 0x90, 0x90, 0x90, 0x9c, 0x58, 0xc3
