# Guests on which cores once differed, as the steps of frame.s: a blank line ends a step. In brackets,
# what stands before them (privileged.Setup), or `source` for a whole program.

## alignment-of-enter [user]: ENTER on a misaligned stack is #AC in ring 3
push 0x25ec32
popfq

push 0x97cb9
.byte 0x66, 0x9d

enter 16, 1

## flags-of-a-faulting-repe: a REPE CMPS that faults midway leaves the flags as they were
mov esi, 0x3ffff8
mov edi, 0x3ffff8
mov ecx, 15
repe cmpsb

## half-a-store [tables]: a 16-byte store into a missing page stores nothing
mov ecx, 0x63ffa
add [rcx], rax

mov rax, 0x62000
mov [rip + pages + 0x320], rax
invlpg [0x64000]

mov ecx, 0x63ff8
movups [rcx], xmm1

## large-page-in-pieces [tables]: INVLPG forgets a large page that could not be mapped whole
mov rax, 0x87
mov [0x82018], rax
invlpg [0x600000]

mov rax, [0x660000]

mov rax, 0x202083
mov [0x82018], rax
invlpg [0x600000]

mov rax, [0x660000]

## operand-beyond-canonical: an operand that ends beyond the canonical half is #GP, before the #PF of its beginning
mov r8, 0x7ffffffffff8
movups xmm0, [r8]

## store-over-itself-read-only [tables timer=200/0xfe]: an instruction that stores over itself, in a page that is read-only
mov rax, 0x67001
mov [rip + pages + 0x338], rax
invlpg [0x67000]

mov ecx, 0x67000
mov byte ptr [rcx], 0xc3
call rcx

## stos-downwards [user]: STOS downwards from the screen faults where its last iteration is
push 0x2a56fe
.byte 0x66, 0x9d

mov esi, 0x3ffff8
mov edi, 0xb8000
mov ecx, 9
rep stosd

## two-pages-two-faults [tables timer=200/0xff]: ADD across two pages that miss asks for the first one, and to write
mov rax, 0x40000005
mov [rip + pages + 0x330], rax
invlpg [0x66000]

mov rax, 0x67000
mov [rip + pages + 0x338], rax
invlpg [0x67000]

mov ecx, 0x66ffb
add [rcx], rax


## null-segment-behind-gs [user tables ldt nested timer=1000/0xff]: a GS override holds whatever null segment follows
mov rbx, 0x300000
.byte 0x26, 0x65, 0x36, 0x48, 0xc6, 0x43, 0x08, 0x7f

## push-through-fs [tables]: a normalized PUSH of memory is no PUSH of a segment register
mov rbx, 0x300000
.byte 0x64, 0x26, 0xff, 0x33

## rex-r-of-an-extension [tables]: REX.R beside an opcode extension means nothing
mov r11, 0x300000
.byte 0x67, 0x4f, 0xc6, 0x43, 0x08, 0x7f

## level5-1032911788 [user tables ldt nested timer=50/0xfe]: after 84 instructions, fchs at 0x10300d: interpreter: rsp=0x3f0000, rip=0x10300f, cs=0x33, ss=0x2b, mem:0x97fd8=0x0, st0=0xbfffe2dfc48da77b553d; trap:native: rsp=0x97fd0, rip=0x100186, cs=0x10, ss=0x0, mem:0x97fd8=0xd, st0=0x3fffe2dfc48da77b553d; trap:portable: rsp=0x3f0000, rip=0x10300f, cs=0x33, ss=0x2b, mem:0x97fd8=0x0, st0=0xbfffe2dfc48da77b553d
fninit
mov word ptr [rbx], 0x35f
fldcw [rbx]
fldpi
fsqrt
fchs
fsqrt
fwait
fnclex
fninit

## level5-494189852 [user tables ldt nested timer=50/0xfe]: after 84 instructions, fdivp st(1) at 0x10300d: interpreter: fsw=0xb084, ftw=0xc0, st0=0x0; trap:native: fsw=0x3801, ftw=0x80, st0=0xffffc000000000000000; trap:portable: fsw=0xb084, ftw=0xc0, st0=0x0
fninit
mov word ptr [rbx], 0x37b
fldcw [rbx]
fldz
fldz
fdivp
fwait
fnclex
fninit

## level5-805987788 [user tables ldt nested timer=50/0xfe]: after 92 instructions, cvttss2si eax, xmm0 at 0x103040: interpreter: rsp=0x3f0000, rip=0x103044, cs=0x33, ss=0x2b, mem:0x97fd8=0x0; trap:native: rsp=0x97fd0, rip=0x100186, cs=0x10, ss=0x0, mem:0x97fd8=0x40; trap:portable: rsp=0x3f0000, rip=0x103044, cs=0x33, ss=0x2b, mem:0x97fd8=0x0
pxor xmm1, xmm1
movups xmm0, [rbx]
mov dword ptr [rbx], 0x1b80
ldmxcsr [rbx]
cvttss2si eax, xmm0
mov dword ptr [rbx], 0x1f80
ldmxcsr [rbx]

pxor xmm1, xmm1
movups xmm0, [rbx]
mov dword ptr [rbx], 0xf80
ldmxcsr [rbx]
cvttss2si eax, xmm0
mov dword ptr [rbx], 0x1f80
ldmxcsr [rbx]

## level5-3137139114 [user tables ldt nested timer=200/0xff]: after 83 instructions, divps xmm0, xmm1 at 0x103010: interpreter: rsp=0x3f0000, rip=0x103013, cs=0x33, ss=0x2b, mem:0x97fd8=0x0, xmm0=0xffc00000ffc00000ffc00000ffc00000; trap:native: rsp=0x97fd0, rip=0x100186, cs=0x10, ss=0x0, mem:0x97fd8=0x10, xmm0=0x0; trap:portable: rsp=0x3f0000, rip=0x103013, cs=0x33, ss=0x2b, mem:0x97fd8=0x0, xmm0=0xffc00000ffc00000ffc00000ffc00000
pxor xmm1, xmm1
movups xmm0, [rbx]
mov dword ptr [rbx], 0x1f00
ldmxcsr [rbx]
divps xmm0, xmm1
mov dword ptr [rbx], 0x1f80
ldmxcsr [rbx]
