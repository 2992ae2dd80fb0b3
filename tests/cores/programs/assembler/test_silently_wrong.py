"""Statements that Keystone cuts, drops or misreads silently are right, or refused with line and
reason."""

from __future__ import annotations

import pytest

from cores.errors import InputError
from cores.programs.assembler.keystone import assemble, installed

pytestmark = pytest.mark.skipif(not installed(), reason="Keystone has no package for this machine")

BASE = 0x100000


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("mov eax, [rbx+rsp]", "8b041c"),
        ("mov eax, [rsp+rbx]", "8b041c"),
        ("mov eax, [rbx*1+rsp]", "8b041c"),
        ("mov eax, [eax+esp]", "678b0404"),
        ("mov eax, [rax*1]", "8b040500000000"),
        ("mov eax, [eip+4]", "678b0504000000"),
        ("mov eax, [rbx+0xffffffff80000000]", "8b8300000080"),
        ("mov eax, 4[rbx][rcx*2]", "8b444b04"),
        ("mov eax, [rbx]+4", "8b4304"),
        ("mov ebx, [0x5000]", "8b1c2500500000"),
        ("mov dword ptr fs:[0x10], 1", "64c704251000000001000000"),
        ("ljmp [0x60000]", "ff2c2500000600"),
        ("movabs rax, [0x123456789a]", "48a19a78563412000000"),
        ("movabs al, [0x123456789a]", "a09a78563412000000"),
        ("mov [0x123456789a], eax", "a39a78563412000000"),
        ("mov eax, [0xfee00000]", "a10000e0fe00000000"),
        ("mov ax, gs:[0x1234567890]", "6566a19078563412000000"),
        ("nop dword ptr [rax]", "0f1f00"),
        ("nop word ptr [rax + r9*2 + 5]", "66420f1f444805"),
        ("nop eax", "0f1fc0"),
        ("push word 0x78", "666a78"),
        ("push word ptr 0x1234", "66683412"),
        ("pushw -1", "666aff"),
        ("push word -128; push qword -1", "666a806aff"),
        ("jmp far ptr gs:[r13*4+8]; call far fs:[rax]", "6542ff2cad0800000064ff18"),
        ("push 0xffff", "68ffff0000"),
        ("push -1", "6aff"),
        ("push -0x80000000", "6800000080"),
        ("pushf; popf; iret", "9c9dcf"),
        ("pushfq; popfq; iretq", "9c9d48cf"),
        ("lsl edx, ax; lsl rsi, rbx; lar rax, bx", "0f03d0480f03f3480f02c3"),
        ("movsx rax, dword ptr [rbx]", "486303"),
        ("movd xmm0, rax", "66480f6ec0"),
        ("pop [rdi]", "8f07"),
        ("outsw; rep insd; lods rax, gs:[rsi]; xlat fs:[ebx]", "666ff36d6548ad6467d7"),
        (".code32; movs byte ptr [edi], fs:[esi]; .code16; scas eax, [di]; stosd", "64a466af66ab"),
        ("nop; repnz scasb; finit; faddp; fstsw ax; outs dx, byte ptr [rsi]",
         "90f2ae9bdbe3dec19bdfe06e"),
        ("movsd xmm1, [rdi]; cmpsd xmm1, xmm2, 1", "f20f100ff20fc2ca01"),
        ("fcmovae st, st(1)", "dbc1"),
        (".octa 0x0102030405060708090a0b0c0d0e0f10", "100f0e0d0c0b0a090807060504030201"),
        (".byte -128, 255; .word -1; .float 1.5", "80ffffff0000c03f"),
        (r'.ascii "\x41\101\n\"é"', "41410a22c3a9"),
        (".code32; mov eax, [ebx]; pushf;"
         " .code16; mov ax, [bx+si+5]; pushf; jmp 8:0x1234; .code64; nop",
         "8b039c8b40059cea3412080090"),
    ],
)  # fmt: skip
def test_what_is_meant(statement: str, expected: str) -> None:
    """The bytes are those of the statement as written (GNU as agrees with each)."""
    assert assemble(statement, "x.s", BASE).code.hex() == expected


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("mov eax, [rsp+rsp]", "rsp cannot be an index"),
        ("mov eax, [rbx+rsp*2]", "rsp cannot be an index"),
        ("mov eax, [rbx+rsp*1]", "rsp cannot be an index"),
        ("mov eax, [rsp*2]", "rsp cannot be an index"),
        ("mov eax, [esp*2+eax]", "esp cannot be an index"),
        ("mov eax, [rip+rax]", "rip takes no other register and no scale"),
        ("mov eax, [rax+rip]", "rip takes no other register and no scale"),
        ("mov eax, [rip*2]", "rip takes no other register and no scale"),
        ("mov eax, [rax*3]", "a scale is 1, 2, 4 or 8"),
        ("mov eax, [rax+rbx+rcx]", "an address has at most two registers"),
        ("mov eax, [ebx+rcx]", "the registers of an address are of one size"),
        ("mov eax, [bx+si]", "there are no 16-bit addresses in 64-bit mode"),
        ("mov eax, [al]", "al is no part of an address"),
        ("mov eax, [xmm1 + cs]", "cs is no part of an address"),
        ("mov eax, [rbx+0x80000000]", "an address or displacement here has 32 bits, with its sign"),
        ("mov eax, [rbx-0x80000001]", "an address or displacement here has 32 bits, with its sign"),
        ("mov eax, [rbx+0x100000000]", "an address or displacement here has 32 bits, with its sign"),
        ("mov eax, [fs:rax]", "a segment stands before the bracket, as in fs:[rax]"),
        ("mov eax, [[rbx]", "unbalanced brackets"),
        ("mov eax, [rbx[rcx + 2]", "unbalanced brackets"),
        ("mov eax, [rbx]]", "unbalanced brackets"),
        ("mov eax, rcx[0x5000]", "a register belongs inside the brackets"),
        ("mov dx, short 5", "only a jump can be short"),
        ("lock lock inc dword ptr [rbx]", "the same prefix twice"),
        ("rep repe movsb", "the same prefix twice"),
        ("movq ecx, 5", "invalid operand"),
        ("mov eax, []", "nothing stands between the brackets"),
        ("mov al, 300", "0x12c does not fit into 8 bits"),
        ("mov al, -129", "-0x81 does not fit into 8 bits"),
        ("mov ax, 0x12345", "0x12345 does not fit into 16 bits"),
        ("mov eax, 4294967296", "0x100000000 does not fit into 32 bits"),
        ("mov ebx, 0x1122334455667788", "0x1122334455667788 does not fit into 32 bits"),
        ("mov dword ptr [rax], 0x123456789", "0x123456789 does not fit into 32 bits"),
        ("mov rax, 0x10000000000000000", "number out of range"),
        ("push 0x80000000", "a pushed number has 32 bits, with its sign"),
        ("push dword 5", "a push here has 16 or 64 bits"),
        ("ret 0x10000", "0x10000 does not fit into 16 bits"),
        ("enter 0x10000, 0", "0x10000 does not fit into 16 bits"),
        ("enter 5, 256", "0x100 does not fit into 8 bits"),
        ("imul ax, bx, 0x12345", "0x12345 does not fit into 16 bits"),
        (".byte 256", "value out of range of 8 bits"),
        (".long 0x100000000", "value out of range of 32 bits"),
        (".byte after", "target or value out of reach"),
        ("jmp short after + 1000", "target out of reach of a short jump"),
        ("movabs rbx, [0x123456789a]", "only al, ax, eax and rax reach a 64-bit address"),
        ("movabs rax, [rbx]", "movabs takes an address without registers"),
        ("mov eax, 0ffh", "a hexadecimal number is written 0xff, not 0ffh"),
        ("mov eax, 09", "a number that begins with 0 is octal: 09"),
        ("mov eax, 1 + 1 << 4", "C and the GNU assembler read this differently; parentheses decide"),
        ("mov eax, 5 == 5", "a comparison can only stand in .if"),
        ("mov eax, 7 / 0", "division by 0"),
        ("mov eax, dword 5", "only push takes a size before a number"),
        ("lock nop", "lock needs an instruction that changes memory and can be locked"),
        ("lock add eax, 5", "lock needs an instruction that changes memory and can be locked"),
        ("rep add eax, 5", "rep needs a string instruction"),
        ("into", "not an instruction in 64-bit mode"),
        ("jmp 8:0x1234", "64-bit mode has no far jump to a number; it takes a far pointer in memory"),
        ("fxsave dword ptr [rax]", "the operand in memory does not have 4 bytes"),
        ("cmpsb [rdi], [rsi]", "its operands can only be: cmpsb byte ptr [rsi], byte ptr [rdi]"),
        ("stos byte ptr fs:[rdi]", "the destination of a string instruction lies in es"),
        ("movs byte ptr [rdi], word ptr [rsi]",
         "its operands can only be: movsb byte ptr [rdi], byte ptr [rsi]"),
        ("lods [rsi]", "invalid operand (without a size, as in byte ptr [rdi])"),
        ("xlat [rax]", "its operand can only be: byte ptr [rbx]"),
        ("sysexit", "write sysexitq (to 64-bit code) or sysexitl (to 32-bit code)"),
        ("A = A + 1", "A is defined by itself, or by too many others"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(statement: str, reason: str) -> None:
    """A statement without an encoding gives its line and the reason, never bytes."""
    with pytest.raises(InputError) as caught:
        assemble(f"nop\n{statement}\nafter: nop\n", "x.s", BASE)
    assert str(caught.value) == f"x.s:2: {reason}: {statement}"
