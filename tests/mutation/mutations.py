"""The mutations, and for each the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

DEVICES = "tests/cores/pc/devices"
X86 = "tests/cores/x86"
EXACT = "tests/agreement/test_mechanisms.py::test_exact"
FREE = "tests/agreement/test_mechanisms.py::test_free"
PTRACE = "tests/cores/engines/ptrace"
CONTAINMENT = "tests/e2e/test_containment_ptrace.py"
HOSTILE = "tests/e2e/test_hostile_guests.py::test_hostile_guest"


@dataclass(frozen=True)
class Mutation:
    """Replaces the one occurrence of ``old`` in ``file`` by ``new``. tests: arguments for pytest."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


MUTATIONS = (
    # Devices: a value, a bit
    Mutation(
        "PICs open at boot",
        "cores/pc/devices/pic.py",
        "self.imr = 0xFF  #",
        "self.imr = 0x00  #",
        (f"{DEVICES}/test_pic.py",),
    ),
    Mutation(
        "vector base off by a bit",
        "cores/pc/devices/pic.py",
        "value & 0xF8",
        "value & 0xF0",
        (f"{DEVICES}/test_pic.py",),
    ),
    Mutation(
        "UART never empty",
        "cores/pc/devices/uart.py",
        "0x01, 0x02, 0x60  # LSR",
        "0x01, 0x02, 0x20  # LSR",
        (f"{DEVICES}/test_uart.py",),
    ),
    Mutation(
        "PIT a little slow",
        "cores/pc/devices/pit.py",
        "FREQUENCY = 1_193_182",
        "FREQUENCY = 1_193_181",
        (f"{DEVICES}/test_pit.py",),
    ),
    Mutation(
        "latched status without its mode",
        "cores/pc/devices/pit.py",
        "self.access << 4 | self.mode << 1 | self.bcd",
        "self.access << 4 | self.bcd",
        (f"{DEVICES}/test_pit.py",),
    ),
    Mutation(
        "the battery is empty",
        "cores/pc/devices/cmos.py",
        "return 0x80 if index == REGISTER_D",
        "return 0x00 if index == REGISTER_D",
        (f"{DEVICES}/test_cmos.py",),
    ),
    Mutation(
        "another test result",
        "cores/pc/devices/keyboard.py",
        "ACK, RESEND, TEST_PASSED = 0xFA, 0xFE, 0xAA",
        "ACK, RESEND, TEST_PASSED = 0xFA, 0xFE, 0xAB",
        (f"{DEVICES}/test_keyboard.py",),
    ),
    Mutation(
        "the drive is never ready",
        "cores/pc/devices/storage/ata_drive.py",
        "0x80, 0x40, 0x10, 0x08, 0x01  # status",
        "0x80, 0x20, 0x10, 0x08, 0x01  # status",
        (f"{DEVICES}/storage/test_ata.py",),
    ),
    Mutation(
        "the disk's end forgotten",
        "cores/pc/devices/pv_console_disk.py",
        "lba + count > disk.sectors",
        "lba > disk.sectors",
        (f"{DEVICES}/test_pv_console_disk.py",),
    ),
    Mutation(
        "buffers outside RAM",
        "cores/pc/devices/pv_console_disk.py",
        "if not self._memory.is_ram(buffer, length):",
        "if buffer < 0:",
        (f"{DEVICES}/test_pv_console_disk.py",),
    ),
    Mutation(
        "power-off by any value",
        "cores/pc/devices/power.py",
        "SLEEP_ENABLE = 0x2000",
        "SLEEP_ENABLE = 0x1000",
        (f"{DEVICES}/test_board.py",),
    ),
    # The platform
    Mutation(
        "no WP at boot",
        "cores/x86/mmu/paging.py",
        "return page.writable or not write or not cpu.cr0 & _WP",
        "return page.writable or not write or not cpu.cr0",
        (f"{X86}/mmu/test_paging.py",),
    ),
    Mutation(
        "I/O map inside the TSS",
        "cores/pc/boot/long_mode.py",
        'struct.pack("<H", TSS_LIMIT + 1)',
        'struct.pack("<H", TSS_LIMIT)',
        ("tests/cores/pc/test_platform.py",),
    ),
    Mutation(
        "CPUID promises one more feature",
        "cores/pc/cpuid.py",
        "(0, 9, 13, 19, 20, 23, 31)",
        "(0, 9, 12, 13, 19, 20, 23, 31)",
        ("tests/cores/pc/test_platform.py",),
    ),
    # Paging and delivery: a bit
    Mutation(
        "user pages for everyone",
        "cores/x86/mmu/paging.py",
        "bool(rights & USER)",
        "True",
        (f"{X86}/mmu/test_paging.py",),
    ),
    Mutation(
        "reserved bits ignored",
        "cores/x86/mmu/paging.py",
        "if entry & (reserved_always |",
        "if entry & (0 |",
        (f"{X86}/mmu/test_paging.py",),
    ),
    Mutation(
        "dirty at each access",
        "cores/x86/mmu/paging.py",
        "marks = ACCESSED | DIRTY if write else ACCESSED",
        "marks = ACCESSED | DIRTY",
        (f"{X86}/mmu/test_paging.py",),
    ),
    Mutation(
        "no-execute of upper tables lost",
        "cores/x86/mmu/paging.py",
        "no_execute |= entry & form.no_execute",
        "no_execute = entry & form.no_execute",
        (f"{X86}/mmu/test_paging.py", f"{X86}/mmu/test_paging_random.py"),
    ),
    Mutation(
        "trap gates clear IF",
        "cores/x86/system/interrupts.py",
        "_CLEARED if trap_gate else _CLEARED | _IF",
        "_CLEARED | _IF",
        (f"{X86}/system/test_interrupts.py",),
    ),
    Mutation(
        "no RF in a fault's frame",
        "cores/x86/system/interrupts.py",
        "        image |= _RF\n",
        "        pass\n",
        (f"{X86}/system/test_interrupts.py",),
    ),
    Mutation(
        "page faults never double",
        "cores/x86/system/interrupts.py",
        "return second == Vector.PF or second in _CONTRIBUTORY",
        "return False",
        (f"{X86}/system/test_interrupts.py",),
    ),
    Mutation(
        "OF survives a shift",
        "cores/x86/isa/undefined_results.py",
        "undefined = AF if count == 1 else AF | OF\n    if",
        "undefined = AF\n    if",
        (f"{X86}/isa/test_undefined_results.py",),
    ),
    Mutation(
        "REP counted in bytes",
        "cores/x86/isa/accesses.py",
        "length = size * min(count, most)",
        "length = min(count, most)",
        (f"{X86}/isa/test_accesses.py",),
    ),
    # The VMM
    Mutation(
        "a fault counts as an instruction",
        "cores/vmm/delivery.py",
        "        guest.deliveries += 1\n",
        "        guest.deliveries += 1\n        guest.instructions += 1\n",
        ("tests/cores/vmm/test_vmm.py",),
    ),
    Mutation(
        "exits an instruction late",
        "cores/vmm/completion.py",
        "            guest.trace.record(n, rip, insn.code, reason, detail, why, ring, place)",
        "            guest.trace.record(n, cpu.rip, insn.code, reason, detail, why, ring, place)",
        ("tests/cores/vmm/test_vmm.py", "tests/app/test_cli.py"),
    ),
    Mutation(
        "STI without its shadow",
        "cores/vmm/emulate/flags.py",
        "e.shadows_next = not e.cpu.rflags & Flag.IF",
        "e.shadows_next = False",
        (f"{EXACT}[sti_shadow]", "tests/cores/x86/system/test_control_registers.py"),
    ),
    Mutation(
        "PUSHF pushes RF",
        "cores/vmm/emulate/flags.py",
        "image = e.cpu.rflags & ~(Flag.RF | Flag.VM)",
        "image = e.cpu.rflags & ~Flag.VM",
        (f"{EXACT}[resume_flag]", f"{EXACT}[iret_of_flags]"),
    ),
    Mutation(
        "stale shadow after INVLPG",
        "cores/vmm/state.py",
        "                self.shadow.drop(gva)\n",
        "                pass\n",
        ("tests/cores/vmm/test_shadow_tlb.py", f"{EXACT}[stale_translation]"),
    ),
    Mutation(
        "read-only pages are writable",
        "cores/vmm/shadow_tlb.py",
        "return page.writable or not self.cpu.cr0 & Cr0.WP",
        "return True",
        (f"{EXACT}[write_protect]",),
    ),
    Mutation(
        "silent instructions run unseen",
        "cores/vmm/patching/twin.py",
        "if insn.sensitivity in (Sensitivity.SILENT, Sensitivity.ABSENT):",
        "if False:",
        ("tests/cores/vmm/patching/test_patcher.py", f"{FREE}[pushf_popf]"),
    ),
    Mutation(
        "an indirect branch is trusted at once",
        "cores/vmm/patching/twin.py",
        "TRUST = 16",
        "TRUST = 1",
        ("tests/cores/vmm/patching/test_patcher.py",),
    ),
    Mutation(
        "code pages stay writable",
        "cores/vmm/shadow_tlb.py",
        "        if not code.guarded:\n",
        "        if False:\n",
        ("tests/e2e/test_hostile_guests.py::test_a_race_with_the_patcher_is_lost",),
    ),
    Mutation(
        "windows without end",
        "cores/vmm/faults/mmio_window.py",
        "if len(self._pages) == SCRATCH_PAGES:",
        "if False:",
        (f"{HOSTILE}[rep-mmio-exact]",),
    ),
    Mutation(
        "endless patience",
        "cores/deadline.py",
        "if perf_counter() > self._end:",
        "if False:",
        (f"{HOSTILE}[rep-ports-for-ever-exact]",),
    ),
    Mutation(
        "the console takes everything",
        "cores/pc/devices/slot.py",
        "MOST_CONSOLE = 64 << 20",
        "MOST_CONSOLE = 64 << 40",
        (f"{DEVICES}/test_board.py",),
    ),
    Mutation(
        "moved operands forget the immediate",
        "cores/x86/isa/relocate.py",
        "end = at + len(begin) + 4 + len(immediates)",
        "end = at + len(begin) + 4",
        (
            "tests/agreement/test_out_of_line.py::test_exact[relative_operands_and_immediates-trap:native]",
        ),
    ),
    Mutation(
        "bridged stores ask for no right to write",
        "cores/vmm/faults/out_of_line.py",
        "gpa = self.guest.mmu.translate(gva, write=self.store)",
        "gpa = self.guest.mmu.translate(gva)",
        ("tests/agreement/test_out_of_line.py::test_exact[write_protect-trap:native]",),
    ),
    # The cage
    Mutation(
        "the filter allows any mmap",
        "cores/engines/ptrace/stub.py",
        '(low + 8 * 3, 0xFFFFFFFF & ~_MMAP_FLAGS, "clear"),',
        "",
        (CONTAINMENT,),
    ),
    Mutation(
        "descriptors stay open",
        "cores/engines/ptrace/process.py",
        "linux.SYS_CLOSE_RANGE, stub.TWIN_FD + 1",
        "linux.SYS_CLOSE_RANGE, stub.TWIN_FD + 99",
        (CONTAINMENT,),
    ),
    Mutation(
        "it may dump core",
        "cores/engines/ptrace/process.py",
        "LIMITS = (resource.RLIMIT_CORE, ",
        "LIMITS = (",
        (f"{CONTAINMENT}::test_limits",),
    ),
    Mutation(
        "it may start processes",
        "cores/engines/ptrace/process.py",
        "resource.RLIMIT_NPROC, ",
        "",
        (f"{CONTAINMENT}::test_limits",),
    ),
    Mutation(
        "root's vCPU process keeps its capabilities",
        "cores/engines/ptrace/process.py",
        'self._demand("capset", linux.SYS_CAPSET, stub.CAPABILITIES, stub.CAPABILITIES + 8)',
        "pass",
        (f"{CONTAINMENT}::test_no_capabilities", f"{CONTAINMENT}::test_no_ambient_capabilities"),
    ),
    Mutation(
        "root's vCPU process keeps its bounding set",
        "cores/engines/ptrace/process.py",
        "for capability in range(linux.MOST_CAPABILITIES):",
        "for capability in range(0):",
        (f"{CONTAINMENT}::test_no_capabilities",),
    ),
    Mutation(
        "it may gain privileges",
        "cores/engines/ptrace/process.py",
        '        self._demand("prctl", linux.SYS_PRCTL, linux.PR_SET_NO_NEW_PRIVS, 1)\n',
        "",
        (f"{CONTAINMENT}::test_the_process_has_nothing_but_guest_ram",),
    ),
    Mutation(
        "no EXITKILL",
        "cores/engines/ptrace/linux.py",
        "PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)",
        "PTRACE_O_TRACESYSGOOD)",
        (CONTAINMENT,),
    ),
    Mutation(
        "signals from outside are the guest's",
        "cores/engines/ptrace/stops.py",
        "return _VECTORS.get((stop, code), FOREIGN)",
        "return _VECTORS.get((stop, code or linux.SI_KERNEL), FOREIGN)",
        ("tests/e2e/test_host_faults.py::test_a_storm_of_signals",),
    ),
    Mutation(
        "CPUID counted as time",
        "cores/x86/isa/sensitive.py",
        '("cpuid",), SILENT, Reason.CPUID',
        '("cpuid",), SILENT, Reason.TSC',
        (f"{X86}/isa/test_reasons.py",),
    ),
    Mutation(
        "tables of fetched code may change unnoticed",
        "cores/x86/mmu/paging.py",
        "                if words[index] != entry:\n",
        "                if words[index] < 0:\n",
        (f"{X86}/mmu/test_paging.py",),
    ),
    Mutation(
        "a HLT is planted where code was before it moved",
        "cores/vmm/planted_step.py",
        " or way.page != page\n",
        "\n",
        ("tests/cores/vmm/test_planted_step.py",),
    ),
    # Sessions and reports
    Mutation(
        "lockstep compares no outcome of a guest that runs",
        "cores/lockstep/comparison.py",
        "        running = first.vmm.stop is None  #",
        "        if first.vmm.stop is None:\n            return {}\n        running = False  #",
        ("tests/cores/lockstep/test_comparison.py",),
    ),
    Mutation(
        "lockstep compares no registers",
        "cores/lockstep/comparison.py",
        "        if _are_equal(states):\n            return {}\n        columns",
        "        return {}\n        columns",
        ("tests/cores/lockstep/test_comparison.py", "tests/app/test_cli.py"),
    ),
    Mutation(
        "free mode forgets the exit status",
        "cores/lockstep/session.py",
        '        "exit_status": machine.vmm.exit_status,\n',
        "",
        ("tests/cores/lockstep/test_session.py",),
    ),
    Mutation(
        "divergence ends with 0",
        "app/commands/compare.py",
        "return DIVERGED if",
        "return OK if",
        ("tests/app/test_cli.py",),
    ),
    Mutation(
        "registers as bare numbers",
        "app/text/reports_json.py",
        "{n: hex(v) for n, v in registers.items()}",
        "dict(registers)",
        ("tests/app/test_cli.py",),
    ),
    Mutation(
        "an old save is overwritten in place",
        "cores/atomic_file.py",
        "regular = mode is None or stat.S_ISREG(mode)",
        "regular = mode is None",
        ("tests/e2e/test_host_faults.py::test_what_was_saved_stays", "tests/cores/test_atomic_file.py"),
    ),
    # Lessons
    Mutation(
        "an expectation that is false",
        "lessons/course/01-two-ways.md",
        '"each.rbx == 10"',
        '"each.rbx == 11"',
        ("tests/lessons/test_course.py::test_every_claim_holds",),
    ),
    Mutation(
        "an answer that is wrong",
        "lessons/course/01-two-ways.md",
        'when = "new.trap.exits == 0"',
        'when = "new.trap.exits == 1"',
        ("tests/lessons/test_course.py::test_every_claim_holds",),
    ),
    # Leading
    Mutation(
        "RAM not compared after a stretch",
        "cores/time_travel/fast_forward.py",
        "if led and self._lockstep",
        "if not led and self._lockstep",
        ("tests/cores/time_travel/test_fast_forward.py::test_ram_is_compared",),
    ),
    Mutation(
        "what was led is trusted at once",
        "cores/lockstep/leader.py",
        "        self._met = False\n        for",
        "        self._met = self._leading = False\n        for",
        ("tests/cores/time_travel/test_fast_forward.py::test_a_step_doubts_what_was_led",),
    ),
    Mutation(
        "a patched page's faults counted",
        "cores/vmm/shadow_tlb.py",
        "self.fresh = entry is None",
        "self.fresh = True",
        ("tests/agreement/test_led.py::test_led_as_stepped[code_behind_the_end]",),
    ),
    Mutation(
        "an undefined operand under TF",
        "cores/vmm/vmm.py",
        "insn, self.execute, self._completed)",
        "insn, self._complete, self._completed)",
        (f"{EXACT}[trap_flag_and_shld]",),
    ),
)
