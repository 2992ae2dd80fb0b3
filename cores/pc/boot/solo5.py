"""The boot state of a Solo5 unikernel (hvt): long mode, RDI at the boot information, an empty stack.

Source: Solo5, tenders/hvt/hvt_kvm_x86_64.c (hvt_vcpu_init). EFER.NXE is on, since the page tables here
forbid execution; Solo5's own hvt has its host's page tables do that.
"""

from __future__ import annotations

from collections.abc import Sequence

from cores.pc.devices.storage.disk import SECTOR, Disk
from cores.pc.network.link import Link
from cores.pc.physical_memory import PhysicalMemory
from cores.programs import solo5
from cores.programs.program import Program
from cores.x86.registers import CS, DS, ES, FS, GS, RDI, RSP, SS, Cr0, Cr4, Efer
from cores.x86.virtual_cpu import Segment, TableRegister, VirtualCpu

_CODE, _DATA = 0x08, 0x10


def boot(
    program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0,
    links: Sequence[Link] = (), disks: Sequence[Disk] = (),
) -> None:  # fmt: skip
    """Raises InputError where the manifest has a device, and the machine none for it."""
    for segment in program.segments:
        memory.view[segment.gpa : segment.gpa + len(segment.data)] = segment.data
    manifest = program.modules[0].data
    blocks = solo5.assigned(manifest, solo5.BLOCK, [disk.called for disk in disks], program.path)
    sizes = {handle: disks[number].sectors * SECTOR for handle, number in blocks.items()}
    found = solo5.assigned(manifest, solo5.NETWORK, [link.called for link in links], program.path)
    cards = {handle: links[number].mac for handle, number in found.items()}
    manifest = solo5.attached(manifest, sizes, SECTOR, cards)
    memory.view[solo5.MANIFEST_AT : solo5.MANIFEST_AT + len(manifest)] = manifest
    cpu.assign(_first_state(program.entry, memory.size - 8))


def _first_state(entry: int, stack: int) -> VirtualCpu:
    cpu = VirtualCpu(
        rip=entry, rflags=2, cr0=Cr0.PG | Cr0.WP | Cr0.NE | Cr0.ET | Cr0.PE, cr3=solo5.PML4,
        cr4=Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT, efer=Efer.LMA | Efer.LME | Efer.NXE,
        gdtr=TableRegister(solo5.GDT, 8 * len(solo5.GDT_ENTRIES) - 1), idtr=TableRegister(0, 0),
        ldtr=Segment(0, 0, 0, 0), tr=Segment(0, 0, 0, 0x8B),
    )  # fmt: skip
    cpu.gpr[RDI], cpu.gpr[RSP] = solo5.BOOT_INFORMATION, stack
    cpu.segments[CS] = Segment(_CODE, 0, 0xFFFFFFFF, 0xA099)
    for number in (ES, SS, DS, FS, GS):
        cpu.segments[number] = Segment(_DATA, 0, 0xFFFFFFFF, 0xC093)
    return cpu
