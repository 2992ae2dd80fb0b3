# Where Intel's and AMD's CPUs differ (cores/x86/isa/cpu_differences.py): the guest sees the platform's CPU

## near_branches_with_66 [patched]: the prefix means nothing, and RIP keeps all its bits
%faults
    xor ebx, ebx
    .byte 0x66, 0xeb, 2                         # jmp
    ud2
    mov ecx, 2
around:
    inc ebx
    .byte 0x66, 0xe2, 0xfb                      # loop around
    xor eax, eax
    .byte 0x66, 0x74, 2                         # je
    ud2
    .byte 0x66, 0x0f, 0x84, 2, 0, 0, 0          # je, 32 bits
    ud2
    .byte 0x66, 0xe9, 2, 0, 0, 0
    ud2
    mov rsi, rsp
    .byte 0x66, 0xe8, 0, 0, 0, 0                # call: eight bytes are pushed
    sub rsi, rsp
    pop rdi
    lea rax, [rip + by_register]
    .byte 0x66, 0xff, 0xe0
    ud2
by_register:
    lea rax, [rip + callee]
    mov [0x50000], rax
    .byte 0x66, 0xff, 0x14, 0x25, 0, 0, 5, 0    # call [0x50000]
    inc ebx
    jmp finish
callee:
    .byte 0x66, 0xc3                            # ret

## wide_far_pointers [patched]: REX.W makes the offset of LSS, LFS, LGS one of 64 bits
%faults
    mov rax, 0x1122334455667788
    mov [0x50000], rax
    mov word ptr [0x50008], 0x18
    .byte 0x48, 0x0f, 0xb4, 0x1c, 0x25, 0, 0, 5, 0      # lfs rbx, [0x50000]
    .byte 0x48, 0x0f, 0xb5, 0x0c, 0x25, 0, 0, 5, 0      # lgs rcx, [0x50000]
    mov edx, esp
    mov [0x50000], rsp
    .byte 0x48, 0x0f, 0xb2, 0x24, 0x25, 0, 0, 5, 0      # lss rsp, [0x50000]
    sub edx, esp
    lea rax, [rip + far_callee]
    mov [0x50000], rax
    mov word ptr [0x50008], 0x10
    mov rsi, rsp
    .byte 0x48, 0xff, 0x1c, 0x25, 0, 0, 5, 0            # call far [0x50000], 64 bits
far_callee:
    sub rsi, rsp                                        # 16 bytes were pushed

## null_selectors [patched]: a null selector loaded into FS or GS makes its base 0
%faults
    mov ecx, 0xc0000100
    mov eax, 0x50000
    xor edx, edx
    wrmsr
    inc ecx
    wrmsr
    xor eax, eax
    mov fs, eax
    push 0
    pop gs
    rdmsr
    mov ebx, eax
    dec ecx
    rdmsr
    mov esi, eax
    mov eax, 0x50000
    wrmsr
    mov qword ptr [0x50000], 0
    mov word ptr [0x50008], 0
    lfs edi, [0x50000]
    rdmsr

## fast_system_calls [patched]: SYSENTER and SYSEXIT are none of the platform's
%faults #UD #UD #UD
! .byte 0x0f, 0x34
! .byte 0x0f, 0x35
! .byte 0x48, 0x0f, 0x35

## of_amd_alone [patched]: instructions that only AMD's CPUs have are #UD
%faults #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD #UD
    mov edi, 0x50000
    mov eax, edi
    xor ecx, ecx
    xor edx, edx
! .byte 0x66, 0x0f, 0x78, 0xc0, 4, 4            # extrq xmm0, 4, 4
! .byte 0x66, 0x0f, 0x79, 0xc1                  # extrq xmm0, xmm1
! .byte 0xf2, 0x0f, 0x78, 0xc1, 4, 4            # insertq
! .byte 0xf2, 0x0f, 0x79, 0xc1
! .byte 0xf2, 0x0f, 0x2b, 0x07                  # movntsd
! .byte 0xf3, 0x0f, 0x2b, 0x07                  # movntss
! .byte 0x0f, 0x01, 0xfa                        # monitorx
! .byte 0x0f, 0x01, 0xfb                        # mwaitx
! .byte 0xf3, 0x0f, 0x01, 0xfa                  # mcommit
! .byte 0x0f, 0x01, 0xfc                        # clzero
! .byte 0x0f, 0x01, 0xfd                        # rdpru
! .byte 0x0f, 0x01, 0xfe                        # invlpgb
! .byte 0x0f, 0x01, 0xff                        # tlbsync
! .byte 0xf3, 0x0f, 0x01, 0xff                  # psmash
! .byte 0xf2, 0x0f, 0x01, 0xff                  # pvalidate
! .byte 0x0f, 0x0e                              # femms
! .byte 0x0f, 0x0f, 0xc1, 0x9e                  # pfadd mm0, mm1

## write_back_without_invalidation: a CPU without WBNOINVD takes it for WBINVD
%faults
    .byte 0xf3, 0x0f, 0x09
    inc ebx

## prefetch_of_a_register [patched]: 0F 0D names no memory, and is a NOP
%faults
    mov ebx, 5
    .byte 0x0f, 0x0d, 0xc8
    .byte 0x48, 0x0f, 0x0d, 0xff
    .byte 0xf2, 0xf3, 0x0f, 0x0d, 0xc1

## misaligned_mode_of_sse [patched hardware]: MXCSR has no bit 17, and FXSAVE says so
%faults #GP #GP #GP
    mov dword ptr [0x50000], 0x21f80
! ldmxcsr [0x50000]
    stmxcsr [0x50004]
    mov ebx, [0x50004]
    fxsave [0x50400]
    mov ecx, [0x5041c]
    or dword ptr [0x50418], 0x20000
! fxrstor [0x50400]
    xor dword ptr [0x50418], 0x90020000
! fxrstor64 [0x50400]
    stmxcsr [0x50004]
    mov edx, [0x50004]

## pointers_of_x87 [patched hardware]: kept for the handler of an exception, and else 0
%faults #MF
    fld1
    fld qword ptr [0x50200]
    fxsave64 [0x50400]
    mov rbx, [0x50408]
    mov rcx, [0x50410]
    movzx edx, word ptr [0x50406]
    fnstenv [0x50000]
    mov esi, [0x5000c]
    mov edi, [0x50014]
    fxsave [0x50400]                            # an image with a pending #Z of the instruction at `divided`
    mov dword ptr [0x50400], 0xb884037b
    mov byte ptr [0x50404], 0x80
    mov word ptr [0x50406], 0xb5
    lea rax, [rip + divided]
    mov [0x50408], rax
    mov qword ptr [0x50410], 0x50100
    fxrstor64 [0x50400]
    fxsave64 [0x50400]
    jmp over
divided:
    fdiv dword ptr [rbp + 0x100]
over:
    fnstenv [0x50000]
    fldenv [0x50000]
    fnsave [0x50000]
    mov rbp, [0x50408]
    sub rbp, rax
    mov r8d, [0x50014]
    mov r9d, [0x50010]
    mov r10d, [0x50000]
    mov r11d, [0x50008]
    frstor [0x50000]
! fwait
    fnclex

## reserved_bits_of_x87 [patched hardware]: in FCW they read as ever, ES and B as the exceptions have them
%faults
    mov rax, -1
    mov ecx, 4
    mov edi, 0x50000
    rep stosq
    fldenv [0x50000]
    fnstcw [0x50100]
    mov ebx, [0x50100]
    fnstsw ax
    mov ecx, eax
    fxsave [0x50400]
    mov dword ptr [0x50400], 0x80800000
    fxrstor [0x50400]
    fnstcw [0x50100]
    mov edx, [0x50100]
    fnstsw ax

## reserved_bits_loaded_alone [exact hardware]: the same by FLDCW
%faults
    mov dword ptr [0x50100], 0xffff
    fldcw [0x50100]
    fnstcw [0x50104]
    mov ebx, [0x50104]
    mov dword ptr [0x50100], 0xe080
    fldcw [0x50100]
    fnstcw [0x50104]
    mov ecx, [0x50104]

## stack_faults_of_x87 [exact hardware]: empty registers compare as unordered, and give the indefinite value
%faults #MF
    fninit
    fcomi st(0), st(1)
    pushfq
    pop rbx
    fucompi st(0), st(1)
    fnstsw ax
    mov ecx, eax
    fninit
    fadd st(0), st(1)
    fstp qword ptr [0x50000]
    mov rdx, [0x50000]
    fld1
    fst st(3)
    fstp qword ptr [0x50000]
    fxch st(2)
    fstp dword ptr [0x50000]
    fist word ptr [0x50008]
    fbstp [0x50010]
    mov rsi, [0x50008]
    mov rdi, [0x50012]
    fninit
    mov ecx, 9
fill:
    fldpi
    loop fill                                   # the ninth meets a register in use
    fnstsw ax
    mov ebp, eax
    fstp qword ptr [0x50000]
    mov r8, [0x50000]
    mov dword ptr [0x50100], 0x37e              # #I is not masked: nothing is popped
    fninit
    fldcw [0x50100]
    fstp qword ptr [0x50000]
    fnstsw ax
    mov r9d, eax
    mov r10, [0x50000]
! fwait
    fnclex

## overruled_prefixes [hardware]: of F2 and F3 the last counts, and either before 66
%faults
    mov rax, 0x4010000040000000
    movq xmm1, rax
    movaps xmm2, xmm1
    movaps xmm3, xmm1
    movaps xmm4, xmm1
    .byte 0xf2, 0xf3, 0x0f, 0x58, 0xd1          # addss xmm2, xmm1
    .byte 0xf3, 0xf2, 0x0f, 0x58, 0xd9          # addsd xmm3, xmm1
    .byte 0xf2, 0x66, 0x0f, 0x58, 0xe1          # addsd xmm4, xmm1
    movq rbx, xmm2
    movq rsi, xmm3
    movq rbp, xmm4
    mov edi, 0x50000
    mov ecx, 4
    mov eax, 1
    mov dword ptr [0x50004], eax
    .byte 0xf2, 0xf3, 0xaf                      # repe scasd
    mov r8d, ecx
    mov edi, 0x50000
    mov ecx, 4
    .byte 0xf3, 0xf2, 0xaf                      # repne scasd

## loops_with_rep [patched]: LOOPE and LOOPNE obey neither F2 nor F3
%faults
    mov ecx, 5
    xor eax, eax                                # ZF
    .byte 0xf2, 0xe1, 2                         # loope: taken
    ud2
    mov ebx, ecx
    .byte 0xf3, 0xe0, 2                         # loopne: not taken
    mov edx, ecx

## masked_store_anywhere [hardware]: MASKMOVDQU needs no alignment, and faults where a page is missing
%faults #PF(2)
    mov rax, -1
    movq xmm1, rax
    mov eax, 0x01020304
    movd xmm0, eax
    mov edi, 0x50003
    maskmovdqu xmm0, xmm1
    mov rbx, [0x50003]
    mov edi, 0x8003
! maskmovdqu xmm0, xmm1

## approximations [exact hardware]: reciprocals are the platform's
%faults
    mov dword ptr [0x50000], 0x40400000         # 3, 0, -1, infinity
    mov dword ptr [0x50008], 0xbf800000
    mov dword ptr [0x5000c], 0x7f800000
    rcpps xmm0, [0x50000]
    rsqrtps xmm1, [0x50000]
    rcpss xmm2, dword ptr [0x50001]
    rsqrtss xmm3, xmm0
    movq rbx, xmm0
    movhlps xmm0, xmm0
    movq rcx, xmm0
    movq rdx, xmm1
    movhlps xmm1, xmm1
    movq rsi, xmm1
    stmxcsr [0x50010]
    mov edi, [0x50010]

## mmx_and_x87 [exact hardware]: MMX takes over x87's registers, EMMS empties them
%faults
    fld1
    fldpi
    .byte 0x0f, 0x38, 0x1c, 0xc1                # pabsb mm0, mm1
    fnstsw ax
    mov ebx, eax
    emms
    fld1
    emms
    fnstsw ax
    mov ecx, eax
    fld1
    cvtpi2pd xmm0, qword ptr [0x50000]          # leaves x87 alone
    fnstsw ax
    mov edx, eax
    cvtpi2ps xmm0, qword ptr [0x50000]
    fnstsw ax
    emms

## short_frames [hardware=always]: ENTER and LEAVE of 16 bits change BP and SP alone
%faults
    mov rbp, 0x7654321000050200
    mov rdi, rsp
    .byte 0x66, 0xc8, 0x10, 0, 0                # enter 16, 0
    mov rbx, rbp
    sub rdi, rsp
    mov ecx, ebp
    sub ecx, esp
    add rsp, 0x12

## int1_again: INT1 after INT1, prefixed and at the beginning of a page
%faults #DB #DB #DB #DB
    .byte 0xf1, 0xf1, 0x48, 0xf1
    mov edi, 0x60000
    mov dword ptr [rdi], 0xc3f1                 # int1; ret
    call rdi
