# x87 and SSE, and what CR0 and CR4 make of them (SDM vol. 3, 2.5 and 13)

## task_switched: CR0.TS makes both #NM until CLTS
%faults #NM #NM
    mov rax, cr0
    or eax, 8
    mov cr0, rax
! movaps xmm0, xmm1
! fld1
    nop
    clts
    movaps xmm0, xmm1
    fld1

## emulation: CR0.EM: SSE is #UD, x87 #NM
%faults #UD #NM
    mov rax, cr0
    or eax, 4
    mov cr0, rax
! movaps xmm0, xmm1
! fld1

## wait_under_monitor: FWAIT is #NM only with MP and TS
%faults #NM
    mov rax, cr0
    or eax, 8
    mov cr0, rax
! fwait
    and eax, -3
    mov cr0, rax
    fwait

## osfxsr: without CR4.OSFXSR SSE is #UD
%faults #UD #UD
    mov rax, cr4
    btr rax, 9
    mov cr4, rax
! movaps xmm0, xmm1
! pxor xmm0, xmm0

## lmsw_sets_ts: LMSW changes four bits of CR0, and cannot clear PE
%faults #NM
    mov eax, 0xb
    lmsw ax
    mov rbx, cr0
! fld1
    mov eax, 0
    lmsw ax
    mov rcx, cr0

## sse_arithmetic: scalars and vectors
    mov eax, 3
    cvtsi2sd xmm0, eax
    mov eax, 7
    cvtsi2sd xmm1, eax
    divsd xmm0, xmm1
    sqrtsd xmm2, xmm0
    mulsd xmm2, xmm2
    pxor xmm3, xmm3
    paddd xmm3, xmm0
    addps xmm3, xmm1
    stmxcsr [0x50000]
    mov ebx, [0x50000]
    cvttsd2si rcx, xmm1
    movq rdx, xmm0
    movq rsi, xmm3
    pshufd xmm4, xmm0, 0x1b
    movdqu [0x50010], xmm4
    pmovmskb edi, xmm0
    crc32 eax, byte ptr [0x50010]
    popcnt rbp, rdx

## sse_rounding: MXCSR decides the rounding
    mov dword ptr [0x50000], 0x7f80
    ldmxcsr [0x50000]
    mov eax, 10
    cvtsi2sd xmm0, eax
    mov eax, 3
    cvtsi2sd xmm1, eax
    divsd xmm0, xmm1
    movq rbx, xmm0
    mov dword ptr [0x50000], 0x3f80
    ldmxcsr [0x50000]
    mov eax, 10
    cvtsi2sd xmm0, eax
    divsd xmm0, xmm1
    movq rcx, xmm0
    mov dword ptr [0x50000], 0x1f80
    ldmxcsr [0x50000]

## mxcsr_reserved [exact]: reserved bits of MXCSR are #GP
%faults #GP
    mov dword ptr [0x50000], 0x10000
! ldmxcsr [0x50000]

## x87_arithmetic: the stack, the status word, stores
    fninit
    fld1
    fldpi
    faddp
    fsqrt
    fst qword ptr [0x50000]
    mov rbx, [0x50000]
    fld1
    fld st(1)
    fxch
    fcomip st(0), st(1)
    setb cl
    fstp st(0)
    fistp qword ptr [0x50008]
    mov rdx, [0x50008]
    fnstcw [0x50010]
    mov esi, [0x50010]

## fxsave: the whole state to memory and back
    mov eax, 0x55
    movd xmm5, eax
    fld1
    fxsave [0x50000]
    pxor xmm5, xmm5
    fninit
    fxrstor [0x50000]
    movd ebx, xmm5
    mov ecx, [0x50018]
    fstp qword ptr [0x50400]
    mov rdx, [0x50400]

## mmx: the old registers
    mov eax, 0x01020304
    movd mm0, eax
    paddb mm0, mm0
    movd ebx, mm0
    punpcklbw mm0, mm0
    movq [0x50000], mm0
    emms
    mov rcx, [0x50000]

## prefetches [hardware=always]: hints that touch nothing
    xor ecx, ecx
    prefetcht0 [rcx]
    prefetchnta [rcx + 0x123456]
    sfence
    lfence
    mfence
    pause
    clflush [rsp]
    movnti [0x50000], rax
    movntdq [0x50010], xmm0
