"""KVM's ioctl numbers, struct sizes and offsets against the C headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cores.engines.kvm import api

_HEADER = Path("/usr/include/linux/kvm.h")

NUMBERS = {
    "KVM_GET_API_VERSION": api.GET_API_VERSION,
    "KVM_CREATE_VM": api.CREATE_VM,
    "KVM_CHECK_EXTENSION": api.CHECK_EXTENSION,
    "KVM_GET_VCPU_MMAP_SIZE": api.GET_VCPU_MMAP_SIZE,
    "KVM_CREATE_VCPU": api.CREATE_VCPU,
    "KVM_SET_USER_MEMORY_REGION": api.SET_USER_MEMORY_REGION,
    "KVM_X86_SET_MSR_FILTER": api.SET_MSR_FILTER,
    "KVM_RUN": api.RUN,
    "KVM_INTERRUPT": api.INTERRUPT,
    "KVM_NMI": api.NMI,
    "KVM_ENABLE_CAP": api.ENABLE_CAP,
    "KVM_CAP_X86_USER_SPACE_MSR": api.CAP_USER_SPACE_MSR,
    "KVM_MSR_EXIT_REASON_FILTER": api.MSR_EXIT_FILTER,
    "offsetof(struct kvm_run, msr.data) - offsetof(struct kvm_run, msr)": api.MSR.size - 8,
    "KVM_SET_SIGNAL_MASK": api.SET_SIGNAL_MASK,
    "KVM_SET_CPUID2": api.SET_CPUID2,
    "KVM_GET_REGS": api.GET_REGS,
    "KVM_SET_REGS": api.SET_REGS,
    "KVM_GET_SREGS": api.GET_SREGS,
    "KVM_SET_SREGS": api.SET_SREGS,
    "KVM_GET_MSRS": api.GET_MSRS,
    "KVM_SET_MSRS": api.SET_MSRS,
    "KVM_GET_XSAVE": api.GET_XSAVE,
    "KVM_SET_XSAVE": api.SET_XSAVE,
    "KVM_SET_GUEST_DEBUG": api.SET_GUEST_DEBUG,
    "KVM_GET_DEBUGREGS": api.GET_DEBUGREGS,
    "KVM_SET_DEBUGREGS": api.SET_DEBUGREGS,
    "KVM_SET_VCPU_EVENTS": api.SET_VCPU_EVENTS,
    "KVM_GET_STATS_FD": api.GET_STATS_FD,
    "KVM_IOEVENTFD": api.IOEVENTFD,
    "KVM_IRQFD": api.IRQFD,
    "sizeof(struct kvm_irqfd)": api._IRQFD.size,
    "KVM_IRQFD_FLAG_DEASSIGN": api.IRQFD_DEASSIGN,
    "KVM_SET_GSI_ROUTING": api.SET_GSI_ROUTING,
    "sizeof(struct kvm_irq_routing_entry)": api._ROUTE.size,
    "offsetof(struct kvm_irq_routing_entry, u.msi.data)": 24,
    "KVM_IRQ_ROUTING_MSI": api.ROUTE_MSI,
    "KVM_CAP_SPLIT_IRQCHIP": api.CAP_SPLIT_IRQCHIP,
    "KVM_GET_LAPIC": api.GET_LAPIC,
    "KVM_SET_LAPIC": api.SET_LAPIC,
    "sizeof(struct kvm_lapic_state)": api.LAPIC_SIZE,
    "KVM_GET_MP_STATE": api.GET_MP_STATE,
    "KVM_SET_MP_STATE": api.SET_MP_STATE,
    "KVM_MP_STATE_RUNNABLE": api.MP_RUNNABLE,
    "KVM_MP_STATE_HALTED": api.MP_HALTED,
    "KVM_CAP_IOEVENTFD": api.CAP_IOEVENTFD,
    "sizeof(struct kvm_ioeventfd)": api._IOEVENTFD.size,
    "offsetof(struct kvm_ioeventfd, flags)": 24,
    "(1 << kvm_ioeventfd_flag_nr_datamatch)": api.IOEVENTFD_DATAMATCH,
    "(1 << kvm_ioeventfd_flag_nr_deassign)": api.IOEVENTFD_DEASSIGN,
    "KVM_CAP_USER_MEMORY": api.CAP_USER_MEMORY,
    "KVM_CAP_SET_GUEST_DEBUG": api.CAP_SET_GUEST_DEBUG,
    "KVM_CAP_IMMEDIATE_EXIT": api.CAP_IMMEDIATE_EXIT,
    "KVM_CAP_SYNC_REGS": api.CAP_SYNC_REGS,
    "KVM_CAP_X86_MSR_FILTER": api.CAP_MSR_FILTER,
    "KVM_CAP_BINARY_STATS_FD": api.CAP_BINARY_STATS_FD,
    "KVM_SYNC_X86_REGS": api.DIRTY_GENERAL,
    "KVM_SYNC_X86_SREGS": api.DIRTY_SPECIAL,
    "KVM_SYNC_X86_EVENTS": api.DIRTY_EVENTS,
    "KVM_VCPUEVENT_VALID_SHADOW": api.EVENT_VALID_SHADOW,
    "KVM_GUESTDBG_ENABLE": api.DEBUG_ENABLE,
    "KVM_GUESTDBG_SINGLESTEP": api.DEBUG_STEP,
    "KVM_GUESTDBG_USE_HW_BP": api.DEBUG_HARDWARE,
    "KVM_INTERNAL_ERROR_EMULATION": api.ERROR_EMULATION,
    "KVM_EXIT_IO_OUT": api.IO_OUT,
    **{f"KVM_EXIT_{name}": number for number, name in api.EXIT_NAMES.items()},
    "sizeof(struct kvm_run)": api.RUN_SIZE,
    "sizeof(struct kvm_regs)": api.REGS_SIZE,
    "sizeof(struct kvm_sregs)": api.SREGS_SIZE,
    "sizeof(struct kvm_segment)": api.SEGMENT.size,
    "sizeof(struct kvm_dtable)": api.TABLE.size,
    "sizeof(struct kvm_vcpu_events)": api.EVENTS_SIZE,
    "sizeof(struct kvm_guest_debug)": api.GUEST_DEBUG.size,
    "sizeof(struct kvm_debugregs)": api.DEBUGREGS.size,
    "sizeof(struct kvm_debug_exit_arch)": api.DEBUG.size,
    "sizeof(struct kvm_xsave)": api.XSAVE_SIZE,
    "sizeof(struct kvm_stats_header)": api.STATS_HEADER.size,
    "sizeof(struct kvm_stats_desc)": api.STATS_DESCRIPTOR.size,
    "offsetof(struct kvm_run, request_interrupt_window)": api.REQUEST_INTERRUPT_WINDOW,
    "offsetof(struct kvm_run, immediate_exit)": api.IMMEDIATE_EXIT,
    "offsetof(struct kvm_run, exit_reason)": api.EXIT_REASON,
    "offsetof(struct kvm_run, ready_for_interrupt_injection)": api.READY_FOR_INTERRUPT,
    "offsetof(struct kvm_run, cr8)": api.CR8,
    "offsetof(struct kvm_run, io)": api.UNION,
    "offsetof(struct kvm_run, mmio.data)": api.MMIO_DATA,
    "offsetof(struct kvm_run, mmio.is_write)": api.UNION + 20,
    "offsetof(struct kvm_run, io.data_offset)": api.UNION + 8,
    "offsetof(struct kvm_run, kvm_valid_regs)": api.VALID_REGS,
    "offsetof(struct kvm_run, kvm_dirty_regs)": api.DIRTY_REGS,
    "offsetof(struct kvm_run, s.regs.regs)": api.SYNC_REGS,
    "offsetof(struct kvm_run, s.regs.sregs)": api.SYNC_SREGS,
    "offsetof(struct kvm_run, s.regs.events)": api.SYNC_EVENTS,
    "offsetof(struct kvm_sregs, cr0)": api.CONTROLS_AT,
    "offsetof(struct kvm_vcpu_events, interrupt)": api.EVENT_INTERRUPT,
    "offsetof(struct kvm_vcpu_events, interrupt.nr)": api.EVENT_INTERRUPT + 1,
    "offsetof(struct kvm_vcpu_events, interrupt.soft)": api.EVENT_INTERRUPT + 2,
    "offsetof(struct kvm_vcpu_events, interrupt.shadow)": api.EVENT_SHADOW,
    "offsetof(struct kvm_vcpu_events, flags)": api.EVENT_FLAGS,
}


def test_numbers_and_layouts_are_those_of_the_headers(tmp_path: Path) -> None:
    """Every constant of api.py equals what a C compiler makes of linux/kvm.h."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not _HEADER.exists():
        pytest.skip("no C compiler, or no linux/kvm.h (linux-libc-dev), to compare with")
    header = _HEADER.read_text()
    known = {  # an older header lacks the newest exits and capabilities
        expression: value
        for expression, value in NUMBERS.items()
        if "(" in expression or expression in header or "GUESTDBG_USE" in expression
        or expression.startswith(("KVM_SYNC_X86", "KVM_VCPUEVENT"))
    }  # fmt: skip
    lines = "\n".join(f'printf("%llu\\n", (unsigned long long)({e}));' for e in known)
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n#include <linux/kvm.h>\n"
        f"int main(void) {{\n{lines}\nreturn 0; }}\n"
    )
    program = tmp_path / "layout"
    subprocess.run([compiler, "-o", program, source], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    assert dict(zip(known, map(int, printed), strict=True)) == known
