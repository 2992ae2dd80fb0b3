"""Guests to be measured, in machine code: nothing here waits for an assembler."""

from __future__ import annotations

import hashlib

from cores.programs.program import LOAD_ADDRESS, Program, Segment


def _program(name: str, code: str) -> Program:
    image = bytes.fromhex(code)
    segment = Segment(LOAD_ADDRESS, image, len(image))
    return Program(name, "flat", LOAD_ADDRESS, (segment,), hashlib.sha256(image).hexdigest())


def _count(number: int) -> str:
    return number.to_bytes(4, "little").hex()


def spin(turns: int) -> Program:
    """`mov ecx, turns; 1: dec ecx; jnz 1b; out 0xf4, al; cli; hlt`, the end for a peer without the exit
    port."""
    return _program("spin", f"b9 {_count(turns)} ffc9 75fc e6f4 faf4")


def forever() -> Program:
    """`1: jmp 1b`."""
    return _program("forever", "ebfe")


def speak(turns: int) -> Program:
    """`out 0xe9, al` eight times in a loop: 8 * turns exits, and one more."""
    return _program("speak", f"b9 {_count(turns)} {'e6e9' * 8} ffc9 75ec e6f4")


ROUND = 4
"""Instructions of a round of ``apart`` besides its inner loop."""


def apart(code: str, inner: int, rounds: int) -> Program:
    """`mov ecx, rounds; 2: mov edx, inner; 1: dec edx; jnz 1b`, the instruction, `dec ecx; jnz 2b`, and
    the end: it comes once in 2 * inner + ROUND instructions."""
    body = f"ba {_count(inner)} ffca 75fc {code}"
    back = 256 - len(bytes.fromhex(body)) - 4
    return _program("apart", f"b9 {_count(rounds)} {body} ffc9 75 {back:02x} e6f4")


def compute(turns: int) -> Program:
    """Five instructions in a loop: `add rax, rcx; xor rbx, rax; mov [rsp-8], rbx; dec ecx; jnz`."""
    return _program("compute", f"b9 {_count(turns)} 4801c8 4831c3 48895c24f8 ffc9 75f1 e6f4")


KINDS = {
    "out": "e6e9", "in": "e460", "cli; sti; nop": "fafb90", "pushf; popf": "9c9d",
    "cpuid": "89cf 31c0 0fa2 89f9", "rdtsc": "0f31", "mov rax, cr3": "0f20d8",
    "mov cr3": "0f22d8",
}  # fmt: skip
"""Instructions that leave the guest, by name. CPUID keeps ECX, which counts, in EDI. MOV to CR3 loads
what the guest has read before (``repeated``)."""


def repeated(code: str, turns: int) -> Program:
    """`mov rax, cr3; mov ecx, turns`, then eight times ``code`` in a loop."""
    body = bytes.fromhex(code) * 8
    back = (-(len(body) + 8) & 0xFFFFFFFF).to_bytes(4, "little").hex()
    return _program("repeated", f"0f20d8 b9 {_count(turns)} {body.hex()} ffc9 0f85 {back} e6f4")


PAGES = 512


def touch(rounds: int, *, store: bool) -> Program:
    """A page table of its own for 512 pages; each round touches them all, and loads CR3."""
    return _program(
        "touch",
        "0f20d8 488b18 4881e300f0ffff"  # mov rax, cr3; mov rbx, [rax]; and rbx, -4096
        "48c7430803000600 48c7042500000600 03100600"  # mov [rbx + 8], 0x60003; mov [0x60000], 0x61003
        "bf00100600 b803002000 b900020000"  # mov edi, 0x61000; mov eax, 0x200003; mov ecx, 512
        "488907 4883c708 0500100000 ffc9 75f0"  # 1: mov [rdi], rax; add rdi, 8; add eax, 4096; ...
        f"41bf{_count(rounds)} bf00000040 b900020000"  # mov r15d, rounds; 2: mov edi, 0x40000000; ...
        f"{'8807' if store else '8a07'} 81c700100000 ffc9 75f4"  # 3: mov [rdi], al; add edi, 4096; ...
        "0f20d8 0f22d8 41ffcf 75df e6f4",  # mov rax, cr3; mov cr3, rax; dec r15d; jnz 2b; out 0xf4, al
    )
