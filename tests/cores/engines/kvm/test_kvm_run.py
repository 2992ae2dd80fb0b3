"""Free running on KVM: the exits, and the state at each."""

from __future__ import annotations

import gc
import os
import threading
from struct import pack

import pytest
from kvm_lab import ENTRY, MakeGuest, start

from cores.engines.base import (
    Halted,
    Intercept,
    Interrupted,
    MmioRead,
    MmioWrite,
    PortRead,
    PortWrite,
    Shutdown,
    Stepped,
)  # fmt: skip
from cores.engines.kvm import KvmEngine, capabilities
from cores.engines.kvm.exit_errors import NO_GIBIBYTE_PAGES
from cores.pc.platform import INITIAL_FPU, PML4
from cores.x86.registers import CS, RCX, RSP, Efer, Flag

RING_0_CPUID = "cpuid in ring 0 is the platform's"


def test_ports_come_back_with_their_data(guest: MakeGuest) -> None:
    """OUT exits with its bytes, and IN completes with the answer."""
    g = guest("mov eax, 0x1234; out 0xe9, ax; in eax, 0x60; mov rbx, rax; hlt")
    assert g.run() == PortWrite(0xE9, 2, b"\x34\x12")
    assert g.run() == PortRead(0x60, 4, 1)
    g.engine.complete(b"\x78\x56\x34\x12")
    assert g.run() == Halted()
    assert g.cpu.gpr[3] == 0x12345678


def test_string_input_moves_a_block(guest: MakeGuest) -> None:
    """REP INSW exits for many words at once, and they are stored in RAM."""
    g = guest("mov edx, 0x1f0; mov edi, 0x30000; mov ecx, 256; cld; rep insw; hlt")
    sector, got, exits = os.urandom(512), 0, 0
    while isinstance(exit := g.run(), PortRead):
        size = exit.size * exit.count
        g.engine.complete(sector[got : got + size])
        got, exits = got + size, exits + 1
    assert exit == Halted()
    assert (got, g.memory.read(0x30000, 512)) == (512, sector)
    assert exits < 12


def test_device_memory_comes_back(guest: MakeGuest) -> None:
    """Loads and stores outside RAM exit, in the hole and behind RAM."""
    g = guest("mov edi, 0xb8000; mov word ptr [rdi], 0x741; mov ax, [rdi+2]; hlt")
    assert g.run() == MmioWrite(0xB8000, b"\x41\x07")
    assert g.run() == MmioRead(0xB8002, 2)
    g.engine.complete(b"\x22\x11")
    assert g.run() == Halted()
    assert g.cpu.gpr[0] == 0x1122


def test_settling_finishes_the_instruction_and_no_more(guest: MakeGuest) -> None:
    """After ``settle`` the state is that between IN and the next instruction."""
    g = guest("in al, 0x60; mov ebx, 7; hlt")
    assert isinstance(g.run(), PortRead)
    g.engine.complete(b"\x55")
    assert g.engine.settle(g.cpu) is None
    assert (g.cpu.rip, g.cpu.gpr[0], g.cpu.gpr[3]) == (ENTRY + 2, 0x55, 0)
    assert g.run() == Halted()
    assert g.cpu.gpr[3] == 7


def test_all_of_the_cpu_goes_in_and_comes_out(guest: MakeGuest) -> None:
    """The guest reads what the VMM writes, and the VMM reads what the guest writes."""
    g = guest(
        "mov rax, cr8; mov rbx, cr2; swapgs; str cx; sidt [rdi]; mov dr0, rsi; mov ax, 0x28;"
        "mov fs, ax; cli; clts; stc; hlt"
    )
    cpu = g.cpu
    cpu.cr8, cpu.cr2, cpu.cr0 = 5, 0xABC000, cpu.cr0 | 8
    cpu.kernel_gs_base, cpu.segments[5].base = 0x111000, 0x222000
    cpu.idtr.base, cpu.idtr.limit, cpu.lstar = 0x20000, 0x1FF, 0x123456
    cpu.gpr[7], cpu.gpr[6], cpu.rflags = 0x30000, 0x4000, cpu.rflags | Flag.IF
    assert g.run() == Halted()
    assert (cpu.gpr[0] >> 16, cpu.gpr[3], cpu.gpr[1] & 0xFFFF) == (0, 0xABC000, 0x40)
    assert (cpu.kernel_gs_base, cpu.segments[5].base) == (0x222000, 0x111000)
    assert g.memory.read(0x30000, 10) == pack("<HQ", 0x1FF, 0x20000)
    assert (cpu.debug[0], cpu.segments[4].selector, cpu.lstar) == (0x4000, 0x28, 0x123456)
    assert not cpu.rflags & Flag.IF
    assert cpu.rflags & Flag.CF
    assert not cpu.cr0 & 8
    assert cpu.cr8 == 5
    assert cpu.segments[CS].attributes == 0xA09B


def test_the_platforms_cpuid_and_msrs(guest: MakeGuest) -> None:
    """CPUID has the platform's values; an MSR that the platform lacks is #GP, here a shutdown without a
    handler."""
    g = guest(
        "xor eax, eax; cpuid; mov esi, eax; mov ecx, 0xc0000080; rdmsr; hlt;"
        "mov ecx, 0x1b; rdmsr; hlt; mov ecx, 0x277; rdmsr; hlt"
    )
    assert g.run_on() == Halted()
    assert (g.cpu.gpr[6], g.cpu.gpr[3].to_bytes(4, "little")) == (1, b"Ring")
    assert g.cpu.gpr[0] == g.cpu.efer
    assert g.cpu.efer & Efer.SCE
    assert g.run_on() == Halted()
    assert (g.cpu.gpr[2] & 0xFFFFFFFF, g.cpu.gpr[0]) == (0, 0xFEE00900)
    assert isinstance(g.run_on(), Shutdown)


ABSENT_LEAVES = (2, 4, 0xB, 0x14, 0x1F, 0x40000001, 0x80000002, 0x80000005, 0x8000001F)


@pytest.mark.parametrize("leaf", ABSENT_LEAVES, ids=hex)
def test_leaves_that_the_platform_lacks_are_zero(guest: MakeGuest, leaf: int) -> None:
    """KVM left to itself answers leaf 1 for them."""
    if not {name: present for name, present, _ in capabilities.abilities()}[RING_0_CPUID]:
        pytest.skip("this host's KVM answers CPUID in ring 0 as it likes")
    g = guest(f"mov eax, {leaf:#x}; cpuid; or eax, ebx; or eax, ecx; or eax, edx; hlt")
    assert g.run_on() == Halted()
    assert g.cpu.gpr[0] == 0


@pytest.mark.parametrize("exact", [False, True])
def test_a_page_of_1_gib(guest: MakeGuest, exact: bool) -> None:
    """A guest maps one and uses it; where this host's KVM has none it stops, and says so."""
    g = guest(f"mov dword ptr [{PML4 + 0x1008}], 0x83; mov dword ptr [0x40030000], 0x55; hlt")
    exit = g.step() if exact else g.run_on()
    while exact and isinstance(exit, Stepped):
        exit = g.step()
    if capabilities.gibibyte_pages():
        assert isinstance(exit, Intercept if exact else Halted)
        assert g.memory.read(0x30000, 1) == b"\x55"
    else:
        assert exit == NO_GIBIBYTE_PAGES


def test_a_triple_fault_is_a_shutdown(guest: MakeGuest) -> None:
    """A null pointer without an IDT is a shutdown, with the registers at the fault, or those of the
    last exit and a note that they are lost."""
    g = guest("mov eax, 5; out 0xe9, al; mov eax, 7; xor edi, edi; mov [rdi], eax")
    assert isinstance(g.run(), PortWrite)
    g.engine.settle(g.cpu)
    before = g.cpu.copy()
    exit = g.run()
    assert isinstance(exit, Shutdown)
    if exit.lost:
        assert g.cpu.state() == before.state()
    else:
        assert (g.cpu.gpr[0], g.cpu.rip) == (7, ENTRY + 14)
    assert g.cpu.cr3 == before.cr3


def test_a_machine_that_was_shut_down_can_be_gone_back_with(guest: MakeGuest) -> None:
    """After a shutdown an earlier state can be restored and runs."""
    g = guest("mov ebx, 5; xor edi, edi; cmp esi, 1; je on; mov [rdi], eax; on: hlt")
    before = g.cpu.copy()
    assert isinstance(g.run(), Shutdown)
    g.cpu.assign(before)
    g.cpu.gpr[6] = 1
    g.engine.memory_changed()
    assert g.run() == Halted()
    assert (g.cpu.gpr[3], g.cpu.cr3, g.cpu.efer) == (5, before.cr3, before.efer)


def test_floating_point_state_is_carried(guest: MakeGuest) -> None:
    """x87, XMM and MXCSR are read back as they were written."""
    g = guest("hlt")
    assert g.engine.read_fpu() == INITIAL_FPU
    image = bytearray(INITIAL_FPU)
    image[24:28] = pack("<I", 0x3F80)
    image[32:42] = b"0123456789"
    image[160:416] = os.urandom(256)
    g.engine.write_fpu(bytes(image))
    assert g.run() == Halted()
    assert g.engine.read_fpu() == bytes(image)


INTERRUPTIBLE = """
    lea rax, [rip+handler]
    mov [rbx+0x20*16], ax
    mov word ptr [rbx+0x20*16+2], 0x10
    mov word ptr [rbx+0x20*16+4], 0x8e00
    shr rax, 16
    mov [rbx+0x20*16+6], ax
    hlt
    sti
spin:
    jmp spin
handler:
    mov ecx, 0x77
    out 0xe9, al
    iretq
"""


def test_an_interrupt_waits_for_its_window(guest: MakeGuest) -> None:
    """With IF clear an interrupt is refused; ``run`` returns when the guest can take it."""
    g = guest(INTERRUPTIBLE)
    g.cpu.gpr[3], g.cpu.idtr.base, g.cpu.idtr.limit = 0x20000, 0x20000, 0xFFF
    assert g.run() == Halted()
    assert not g.engine.inject(g.cpu, lambda: 0x20)
    assert g.run() == Interrupted()
    assert g.cpu.rflags & Flag.IF
    assert not g.cpu.interrupt_shadow
    assert g.engine.inject(g.cpu, lambda: 0x20)
    assert g.run() == PortWrite(0xE9, 1, g.cpu.gpr[0].to_bytes(8, "little")[:1])
    assert g.cpu.gpr[1] == 0x77


def test_an_interrupt_that_is_withdrawn_asks_for_no_window(guest: MakeGuest) -> None:
    """After a refused ``inject`` whose interrupt is withdrawn, the guest sets IF and runs on."""
    g = guest("cli; mov ecx, 1000; sti; again: dec ecx; jnz again; out 0xe9, al; hlt")
    assert not g.engine.inject(g.cpu, lambda: 0x20)
    exits = [g.run() for _ in range(3)]
    assert PortWrite(0xE9, 1, b"\0") in exits


def test_cpuid_after_a_store_to_apic_base(guest: MakeGuest) -> None:
    """CPUID's APIC bit follows IA32_APIC_BASE.EN with the next instruction."""
    g = guest(
        "mov ecx, 0x1b; xor edx, edx; mov eax, 0xfee00100; wrmsr; mov eax, 1; cpuid; mov edi, edx;"
        "mov ecx, 0x1b; xor edx, edx; mov eax, 0xfee00900; wrmsr; mov eax, 1; cpuid; out 0xe9, al; hlt"
    )
    assert isinstance(g.run_on(), PortWrite)
    assert (g.cpu.gpr[7] >> 9 & 1, g.cpu.gpr[2] >> 9 & 1) == (0, 1)


def test_a_spinning_guest_can_be_interrupted_from_another_thread(guest: MakeGuest) -> None:
    """`cli; jmp $` is interrupted repeatedly, also when a worker thread runs it."""
    spun: list[object] = []

    def work() -> None:
        g = start("cli; spin: inc rax; jmp spin")
        try:
            for _ in range(20):
                kick = threading.Timer(0.001, g.engine.interrupt)
                kick.start()
                spun.append(g.run())
                kick.join()
        finally:
            g.close()

    guest("nop")  # skips where there is no KVM
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert spun == [Interrupted()] * 20


def test_a_closed_guest_leaves_the_others_interruptible(guest: MakeGuest) -> None:
    """An engine that is closed on the same thread, whether older or younger, takes no kick from
    another: lessons and the interface replace machines so."""
    older, kept, younger = (guest("cli; spin: jmp spin") for _ in range(3))
    older.engine.close()
    younger.engine.close()
    for _ in range(3):
        kick = threading.Timer(0.001, kept.engine.interrupt)
        kick.start()
        assert kept.run() == Interrupted()
        kick.join()


def test_an_interrupt_before_the_run_is_not_lost(guest: MakeGuest) -> None:
    """``interrupt`` outside a run ends the next run at once."""
    g = guest("spin: jmp spin")
    g.engine.interrupt()
    assert g.run() == Interrupted()


def test_replaced_memory_is_seen(guest: MakeGuest) -> None:
    """After ``memory_changed`` the guest uses the new code and page tables."""
    g = guest("mov rax, [0x30000]; hlt")
    g.memory.view[0x30000] = 1
    assert g.run() == Halted()
    assert g.cpu.gpr[0] == 1
    g.memory.view[0x30000], g.memory.view[0x31000] = 2, 3
    g.memory.view[0x15000 + 0x30 * 8 + 1] = 0x10 | g.memory.view[0x15000 + 0x30 * 8 + 1] & 0xF
    g.engine.memory_changed()
    g.cpu.rip = ENTRY
    assert g.run() == Halted()
    assert g.cpu.gpr[0] == 3


def test_a_state_restored_over_a_pending_access_counts(guest: MakeGuest) -> None:
    """A checkpoint before an IN can be restored while the IN is pending."""
    g = guest("nop; in al, 0x60; hlt")
    before = g.cpu.copy()
    assert isinstance(g.run(), PortRead)
    g.cpu.assign(before)
    g.engine.memory_changed()
    assert isinstance(g.run(), PortRead)
    g.engine.complete(b"\x11")
    assert g.run() == Halted()
    assert g.cpu.gpr[0] & 0xFF == 0x11


def test_exits_that_the_kernel_handled_are_counted(guest: MakeGuest) -> None:
    """The kernel's exit count, where it exists, is at least the number of exits to user space."""
    g = guest("out 0xe9, al; out 0xe9, al; hlt")
    for _ in range(3):
        g.run()
    counted = g.engine.kernel_exits()
    assert counted is None or counted["exits"] >= 3


def test_two_hundred_machines_leak_nothing(guest: MakeGuest) -> None:
    """Descriptors and mappings are released, also when a machine is closed twice."""
    guest("hlt").run()

    def open_things() -> tuple[int, int]:
        gc.collect()
        with open("/proc/self/maps") as maps:
            kvm = sum("kvm" in line or "guest-ram" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), kvm

    before = open_things()
    for _ in range(200):
        g = start("hlt")
        assert g.run() == Halted()
        g.close()
        g.engine.close()
    assert open_things() == before


def test_it_says_where_it_runs(guest: MakeGuest) -> None:
    """The headline names the device and the descriptor."""
    g = guest("hlt")
    assert g.engine.where() == f"vCPU 0 of /dev/kvm, descriptor {g.engine.fd}"
    assert KvmEngine.probe() is None


CALLS = """
    mov word ptr [rbx+6*16+2], 0x10
    mov word ptr [rbx+6*16+4], 0x8e00
    mov word ptr [rbx+0x80*16+2], 0x10
    mov word ptr [rbx+0x80*16+4], 0xee00
    lea rax, [rip+undefined]
    mov [rbx+6*16], ax
    shr rax, 16
    mov [rbx+6*16+6], ax
    lea rax, [rip+handler]
    mov [rbx+0x80*16], ax
    shr rax, 16
    mov [rbx+0x80*16+6], ax
    lea rax, [rip+syscalled]
    xor edx, edx
    mov ecx, 0xc0000082
    wrmsr
    xor eax, eax
    rdmsr
    out 0xe9, eax
    push 0x2b
    push 0x80000
    push 2
    push 0x33
    lea rax, [rip+user]
    push rax
    iretq
user:
    CALL
undefined:
    hlt
handler:
syscalled:
    mov eax, 0x77
    out 0xe9, al
    hlt
"""


@pytest.mark.parametrize("call", ["int 0x80", "syscall"])
def test_ring_3_calls_its_kernel(guest: MakeGuest, call: str) -> None:
    """SYSCALL and INT n reach the guest's kernel, or exit with state unchanged for the VMM."""
    g = guest(CALLS.replace("CALL", call))
    for table in range(PML4, PML4 + 0x4000, 0x1000):  # all pages are open to ring 3
        count = 512 if table == PML4 + 0x3000 else 1
        for entry in range(table, table + 8 * count, 8):
            g.memory.view[entry] |= 4
    g.memory.write(0x11084, pack("<Q", 0x90000))
    g.cpu.gpr[3], g.cpu.idtr.base, g.cpu.idtr.limit = 0x20000, 0x20000, 0xFFF
    g.cpu.star = 0x0020001000000000
    exit = g.run_on()
    assert isinstance(exit, PortWrite)
    syscalled = int.from_bytes(exit.data, "little")
    exit = g.run_on()
    g.engine.settle(g.cpu)  # MSRs are read when the exit is complete
    assert g.cpu.lstar == syscalled
    if isinstance(exit, Intercept):
        assert g.cpu.cpl == 3
        assert g.memory.read(g.cpu.rip, 2) == {"int 0x80": b"\xcd\x80", "syscall": b"\x0f\x05"}[call]
        assert exit.lacking
        assert g.cpu.rflags & ~Flag.IF == 2  # where SYSCALL is bridged, IF reads 1 in ring 3
        assert g.cpu.gpr[RSP] == 0x80000
        assert g.cpu.cr2 == 0
    else:
        assert exit == PortWrite(0xE9, 1, b"\x77")
        assert g.cpu.cpl == 0


def test_syscall_in_ring_0_goes_to_lstar(guest: MakeGuest) -> None:
    """A system call is made by the CPU, or left whole to the VMM; it leads nowhere else."""
    g = guest("syscall; hlt; handler: mov ebx, 7; hlt")
    g.cpu.star, g.cpu.lstar = 0x0020001000000000, ENTRY + 3
    exit = g.run_on()
    if isinstance(exit, Intercept):
        assert exit.lacking
        assert (g.cpu.rip, g.cpu.gpr[RCX], g.cpu.cpl) == (ENTRY, 0, 0)
        assert g.cpu.efer & Efer.SCE
    else:
        assert exit == Halted()
        assert (g.cpu.gpr[3], g.cpu.gpr[RCX]) == (7, ENTRY + 2)


def test_efer_is_what_the_guest_wrote(guest: MakeGuest) -> None:
    """EFER.SCE can be cleared and set, and is read back; a reserved bit is #GP, here a shutdown."""
    g = guest(
        "mov ecx, 0xc0000080; rdmsr; mov esi, eax; btr eax, 0; wrmsr; rdmsr; mov ebx, eax; hlt;"
        "bts eax, 0; wrmsr; rdmsr; hlt; bts eax, 2; wrmsr; hlt"
    )
    efer = g.cpu.efer
    assert g.run_on() == Halted()
    assert (g.cpu.gpr[6], g.cpu.gpr[3], g.cpu.efer) == (efer, efer & ~Efer.SCE, efer & ~Efer.SCE)
    assert g.run_on() == Halted()
    assert (g.cpu.gpr[0], g.cpu.efer) == (efer, efer)
    assert isinstance(g.run_on(), Shutdown)
