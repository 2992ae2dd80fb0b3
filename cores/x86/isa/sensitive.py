"""The table of sensitive instructions, with the reason for each and what each core does about it.

An instruction is sensitive when it reads or changes what belongs to the machine and not to the program:
privileged registers, the interrupt flag, the descriptor tables, time, the CPU's identity. Popek and
Goldberg (1974): a virtual machine monitor can be built by trapping alone if every sensitive instruction
is privileged, that is, traps outside ring 0. On x86 many are not. Robin and Irvine (2000) listed those
of the Pentium (``listed`` below); the CPUs since then have added more.

decoder.py takes each instruction's class and exit reason from here, ``probe`` runs the samples at ring
3, ``explain`` prints an entry. They share one table, so that they cannot disagree.
Sources: SDM vol. 2 (the instruction's page), vol. 3, 5.9 (privileged instructions) and 2.5-2.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from cores.x86.isa.instruction import Reason, Sensitivity
from cores.x86.registers import Flag

PRIVILEGED, SILENT, ABSENT = Sensitivity.PRIVILEGED, Sensitivity.SILENT, Sensitivity.ABSENT

NEXT, STACK, FAR = -1, -2, -3
"""Placeholders in ``Entry.stack``: the address behind the sample, the stack pointer itself, and a far
pointer (32-bit offset, then selector 0x33) to the address behind the sample."""

_BY_KVM = (
    "KVM executes it on the guest's own state, without the VMM: the CPU in guest mode, or, where KVM"
    " has no hardware support, the host's kernel. `doctor` lists what such a KVM leaves to the VMM."
)
_STEPPED = "Stepped by KVM, on the guest's own state."
_TAKEN = (
    "Found before it runs, and completed by the VMM without an exit: a step, or this host, could change"
    " what it does."
)

_CORES = {
    PRIVILEGED: {
        "interpreter": "Executed in software at the guest's own ring.",
        "trap, exact": "Executed at ring 3, where it faults; the VMM emulates it and goes on.",
        "trap, free": "The same: the CPU itself finds it, at full speed and without patching.",
        "trap, --pure": "The same: this is what trap-and-emulate can do without help.",
    },
    SILENT: {
        "interpreter": "Executed in software at the guest's own ring.",
        "trap, exact": "Recognised before it runs, and emulated: it would not have come to the VMM.",
        "trap, free": "Found when its code is scanned, and patched to trap.",
        "trap, --pure": "Runs unseen: the guest gets what ring 3 gives here, and equivalence breaks.",
    },
    ABSENT: {
        "interpreter": "#UD in the guest, whatever the emulator could do.",
        "trap, exact": "Recognised before it runs: #UD in the guest.",
        "trap, free": "Found when its code is scanned, and patched to trap: #UD in the guest.",
        "trap, --pure": "Runs unseen where this host's CPU has it.",
    },
}
_ABSENT_EXACT = "Found before it runs: #UD in the guest."
_ABSENT_KVM = "#UD as far as the guest's CPUID can switch it off, else as this host's CPU has it."


@dataclass(frozen=True, slots=True)
class Entry:
    """One sensitive instruction, or one family that behaves alike.

    forms: what decoder.py looks up: mnemonics, or "mov cr, r" and the like. aliases: other spellings.
    sample: one encoding in 64-bit code, to be run at ring 3, b"" for none; legacy: the same in 32-bit
        code, where it is another one. registers, flags, stack: the values with which its effect shows
        (words from RSP up, of 64 bits; in 32-bit code of 32 bits where they fit).
    gives: where its result is then: a register's name, "memory" (at RSP - 16), "stack", "flags", or ""
        when it has none.
    why: why it is sensitive. rule: what the architecture says of its privilege.
    kvm: what happens on KVM in free mode. kvm_exact: in exact mode, for what the platform's CPU has.
    listed: it is on Robin and Irvine's list.
    """

    name: str
    forms: tuple[str, ...]
    sensitivity: Sensitivity
    reason: Reason
    sample: bytes
    why: str
    rule: str
    kvm: str = _BY_KVM
    kvm_exact: str = _TAKEN
    aliases: tuple[str, ...] = ()
    registers: dict[str, int] = field(default_factory=dict)
    stack: tuple[int, ...] = ()
    gives: str = ""
    listed: bool = False
    legacy: bytes | None = None
    flags: int = 0

    @property
    def legacy_sample(self) -> bytes:
        """The sample in 32-bit code, b"" where there is none: the same bytes, but for REX.W."""
        return self.sample.removeprefix(b"\x48") if self.legacy is None else self.legacy

    @property
    def privileged(self) -> bool:
        """Whether it always traps at ring 3."""
        return self.sensitivity is PRIVILEGED

    @property
    def cores(self) -> dict[str, str]:
        """The action of each core when the guest executes it, in words."""
        exact = _ABSENT_EXACT if self.sensitivity is ABSENT else self.kvm_exact
        return {**_CORES[self.sensitivity], "kvm, exact": exact, "kvm, free": self.kvm}


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


_IOPL = "Allowed while CPL <= IOPL, else #GP (SDM vol. 1, 19.5)."
_RING0 = "Privileged: #GP unless CPL = 0 (SDM vol. 3, 5.9)."
_UMIP = "Not privileged, unless the CPU has UMIP and CR4.UMIP is set: then #GP (SDM vol. 3, 2.5)."
_ANYWHERE = "Not privileged (SDM vol. 2)."
_HOST_GDT = "#GP only for what the host's table refuses (SDM vol. 3, 5.6)."
_NOT_IN_CPUID = "#UD where CPUID does not list it, and the platform's does not (SDM vol. 2)."
_KVM_IO = "An exit to the VMM, which asks the same device as on the other cores."
_KVM_IO_EXACT = "Found before it runs: the VMM asks the device, and counts it as the exit it is."
_HYPERCALL = (
    "To KVM it is a hypercall: the host's kernel answers it with an error code in RAX, unless `doctor`"
    " says that it does not come back."
)

_INPUT_OUTPUT = (
    Entry("in, out", ("in", "out"), PRIVILEGED, Reason.IO, _hex("e4 e9"),
          "Talks to a device. The machine's devices belong to whoever runs the machine.",
          _IOPL, _KVM_IO, _KVM_IO_EXACT, aliases=("in r", "out r"), gives="rax"),
    Entry("ins, outs", ("ins", "outs"), PRIVILEGED, Reason.IO, _hex("6e"),
          "Moves whole blocks between a device and memory; with REP one trap can serve them all.",
          _IOPL, _KVM_IO, _KVM_IO_EXACT, aliases=("insb", "insw", "insd", "outsb", "outsw", "outsd")),
    Entry("hlt", ("hlt",), PRIVILEGED, Reason.HLT, _hex("f4"),
          "Stops the CPU until an interrupt comes. A guest may stop its own CPU, never the host's.",
          _RING0, "An exit to the VMM, which lets time pass until the next device event.",
          "The same, found before it runs: virtual time jumps, and it counts as the exit it is."),
)  # fmt: skip

_FLAGS_AND_INTERRUPTS = (
    Entry("cli, sti", ("cli", "sti"), PRIVILEGED, Reason.FLAGS, _hex("fa"),
          "Switches interrupts off and on. Whoever could do that for real would keep the machine.",
          _IOPL, kvm_exact="Stepped by KVM; of STI the VMM takes care, since a step would lose"
          " that it holds interrupts off for one more instruction."),
    Entry("pushf", ("pushf",), SILENT, Reason.FLAGS, _hex("9c"),
          "Shows IF and IOPL. At ring 3 the host's are shown: a kernel that did cli reads IF = 1.",
          _ANYWHERE, aliases=("pushfq", "pushfd"), gives="stack", listed=True),
    Entry("popf", ("popf",), SILENT, Reason.FLAGS, _hex("9d"),
          "Should change IF and IOPL in ring 0. At ring 3 it leaves them alone and says nothing.",
          "Not privileged: outside ring 0 it ignores IF or IOPL instead of faulting (SDM vol. 2).",
          aliases=("popfq", "popfd"), stack=(0x2,), gives="flags", listed=True),
    Entry("stac, clac", ("stac", "clac"), PRIVILEGED, Reason.FLAGS, _hex("0f 01 cb"),
          "Opens and closes the kernel's access to user pages under CR4.SMAP, through RFLAGS.AC.",
          "Privileged: #UD unless CPL = 0 (SDM vol. 2). The platform lets CR4.SMAP be set, so it has"
          " them."),
    Entry("int n", ("int",), PRIVILEGED, Reason.INT, _hex("cd 20"),
          "Goes through the IDT. At ring 3 that is the host's IDT, not the guest's.",
          "#GP when the gate's DPL is below CPL (SDM vol. 3, 6.12.1.2), so most vectors trap; 0x80 is"
          " the host's own system call, which the ptrace engine stops.",
          aliases=("int",), listed=True),
    Entry("int3, int1", ("int3", "int1"), PRIVILEGED, Reason.EXCEPTION, _hex("cc"),
          "Raises #BP or #DB, which the host would take for a debugger's.",
          "Allowed everywhere: it is the host's debug trap that stops it (SDM vol. 3, 6.4.2).",
          aliases=("icebp",)),
    Entry("into", ("into",), PRIVILEGED, Reason.EXCEPTION, b"",
          "Raises #OF where OF is set, in 16- and 32-bit code: through the host's IDT.",
          "#GP when the gate's DPL is below CPL (SDM vol. 2, INT n); without OF it does nothing.",
          legacy=_hex("ce"), flags=Flag.OF),
    Entry("iret", ("iret",), SILENT, Reason.IRET, _hex("48 cf"),
          "Ends an interrupt and may change rings. To the selectors that the host itself uses for"
          " user code, 0x33 and 0x2b, it faults on no CPU: the guest changes rings unseen.",
          "Faults only for selectors the CPU refuses (SDM vol. 2, IRET).",
          aliases=("iretq", "iretd"), stack=(NEXT, 0x33, 0x202, STACK, 0x2B)),
)  # fmt: skip

_CONTROL = (
    Entry("mov cr", ("mov cr, r", "mov r, cr"), PRIVILEGED, Reason.CR, _hex("0f 20 c0"),
          "Control registers switch paging, protection and caches, and say where the page tables are.",
          _RING0, aliases=("mov cr0", "mov cr2", "mov cr3", "mov cr4", "mov cr8", "cr3"), gives="rax"),
    Entry("lmsw, clts", ("lmsw", "clts"), PRIVILEGED, Reason.CR, _hex("0f 06"),
          "Change CR0: the low four bits, or task-switched alone.", _RING0, kvm_exact=_STEPPED),
    Entry("smsw", ("smsw",), SILENT, Reason.CR, _hex("0f 01 e0"),
          "Shows CR0. It is the one door to a control register that stands open at ring 3.",
          _UMIP, kvm_exact=_STEPPED, gives="rax", listed=True),
    Entry("mov dr", ("mov dr, r", "mov r, dr"), PRIVILEGED, Reason.STATE, _hex("0f 21 c0"),
          "Debug registers hold breakpoints that fire in whatever code runs.", _RING0,
          aliases=("mov dr0", "mov dr6", "mov dr7"), gives="rax"),
    Entry("invlpg", ("invlpg",), PRIVILEGED, Reason.INVLPG, _hex("0f 01 3c 24"),
          "Drops a translation from the TLB. The guest's TLB is the VMM's shadow of its tables.",
          _RING0),
    Entry("wbinvd, invd", ("wbinvd", "invd"), PRIVILEGED, Reason.STATE, _hex("0f 09"),
          "Empties the caches of the whole machine; invd even without writing them back.", _RING0,
          aliases=("wbnoinvd",)),
    Entry("rdmsr, wrmsr", ("rdmsr", "wrmsr"), PRIVILEGED, Reason.MSR, _hex("0f 32"),
          "Model-specific registers say where system calls lead, and how the CPU works at all.",
          _RING0, registers={"rcx": 0xC0000080}, gives="rax"),
    Entry("swapgs", ("swapgs",), PRIVILEGED, Reason.MSR, _hex("0f 01 f8"),
          "Exchanges GS's base with the kernel's hidden one.", _RING0, legacy=b""),
    Entry("rdpmc", ("rdpmc",), PRIVILEGED, Reason.STATE, _hex("0f 33"),
          "Reads a performance counter of the host's. The platform has none: #GP.",
          "#GP outside ring 0 unless CR4.PCE is set (SDM vol. 3, 5.9).", gives="rax"),
)  # fmt: skip

_TABLES = (
    Entry("lgdt, lidt, lldt, ltr", ("lgdt", "lidt", "lldt", "ltr"), PRIVILEGED, Reason.DESCRIPTOR,
          _hex("0f 01 14 24"),
          "Say where the CPU finds its descriptors, interrupt gates and task state.", _RING0,
          kvm_exact=_STEPPED),
    Entry("sgdt", ("sgdt",), SILENT, Reason.DESCRIPTOR, _hex("0f 01 44 24 f0"),
          "Shows where the GDT is. At ring 3 it is the host's: once the famous way to notice a VMM.",
          _UMIP, kvm_exact=_STEPPED, gives="memory", listed=True),
    Entry("sidt", ("sidt",), SILENT, Reason.DESCRIPTOR, _hex("0f 01 4c 24 f0"),
          "Shows where the IDT is. At ring 3 it is the host's.", _UMIP, kvm_exact=_STEPPED,
          gives="memory", listed=True),
    Entry("sldt", ("sldt",), SILENT, Reason.DESCRIPTOR, _hex("0f 00 c0"),
          "Shows LDTR's selector, the host's at ring 3.", _UMIP, kvm_exact=_STEPPED, gives="rax",
          listed=True),
    Entry("str", ("str",), SILENT, Reason.DESCRIPTOR, _hex("0f 00 c8"),
          "Shows the task register's selector, the host's at ring 3.", _UMIP, kvm_exact=_STEPPED,
          gives="rax", listed=True),
    Entry("lar", ("lar",), SILENT, Reason.DESCRIPTOR, _hex("0f 02 c1"),
          "Reads a descriptor's access rights, out of the host's GDT and by the host's CPL.",
          _ANYWHERE, registers={"rcx": 0x10}, gives="rax", listed=True),
    Entry("lsl", ("lsl",), SILENT, Reason.DESCRIPTOR, _hex("0f 03 c1"),
          "Reads a descriptor's limit, out of the host's GDT. Linux hides the CPU's number in one.",
          _ANYWHERE, registers={"rcx": 0x7B}, gives="rax", listed=True),
    Entry("verr", ("verr",), SILENT, Reason.DESCRIPTOR, _hex("0f 00 e1"),
          "Asks whether a segment may be read, of the host's GDT and at the host's CPL.",
          _ANYWHERE, registers={"rcx": 0x18}, gives="flags", listed=True),
    Entry("verw", ("verw",), SILENT, Reason.DESCRIPTOR, _hex("0f 00 e9"),
          "Asks whether a segment may be written, of the host's GDT and at the host's CPL.",
          _ANYWHERE, registers={"rcx": 0x18}, gives="flags", listed=True),
    Entry("arpl", ("arpl",), SILENT, Reason.DESCRIPTOR, b"",
          "Raises a selector's RPL to another's, in 16- and 32-bit code; in real mode it is #UD. At"
          " ring 3 the CPU is never in real mode.",
          "Not privileged; #UD in real mode (SDM vol. 2, ARPL).",
          legacy=_hex("63 c8"), gives="rax"),
)  # fmt: skip

_SEGMENTS = (
    Entry("mov from segment", ("mov r, sreg",), SILENT, Reason.SEGMENT, _hex("8c c8"),
          "CS shows the real ring in its two low bits: a kernel at ring 3 reads 0x33 for 0x10.",
          _ANYWHERE, aliases=("mov ax, cs", "mov eax, cs"), gives="rax", listed=True),
    Entry("mov to segment", ("mov sreg, r",), SILENT, Reason.SEGMENT, _hex("8e d8"),
          "Loads a descriptor from the host's GDT. Selector 0x2b exists there, and loads unseen.",
          "#GP only for what the host's table refuses (SDM vol. 2, MOV).",
          aliases=("mov ds", "mov es", "mov ss", "mov fs", "mov gs", "mov ds, ax"),
          registers={"rax": 0x2B}, listed=True),
    Entry("push segment", ("push sreg",), SILENT, Reason.SEGMENT, _hex("0f a0"),
          "Shows a segment register, the host's at ring 3.", _ANYWHERE,
          aliases=("push fs", "push gs"), gives="stack", listed=True),
    Entry("pop segment", ("pop sreg",), SILENT, Reason.SEGMENT, _hex("0f a1"),
          "Loads a segment register from the host's GDT.", _HOST_GDT,
          aliases=("pop fs", "pop gs"), stack=(0x2B,), listed=True),
    Entry("lss, lfs, lgs", ("lss", "lfs", "lgs", "lds", "les"), SILENT, Reason.SEGMENT,
          _hex("0f b4 04 24"),
          "Load a register and a segment register at once, from the host's GDT.",
          _HOST_GDT, stack=(0x2B00000000,)),
    Entry("far call", ("lcall",), SILENT, Reason.SEGMENT, _hex("ff 1c 24"),
          "Changes CS, perhaps the ring, through the host's GDT; 0x33 is user code there.",
          "#GP only for what the host's table refuses (SDM vol. 2, CALL).",
          aliases=("call far",), stack=(FAR,), listed=True),
    Entry("far jmp", ("ljmp",), SILENT, Reason.SEGMENT, _hex("ff 2c 24"),
          "Changes CS through the host's GDT; with 0x23 the CPU would go on in 32-bit mode, unseen.",
          "#GP only for what the host's table refuses (SDM vol. 2, JMP).",
          aliases=("jmp far",), stack=(FAR,), listed=True),
    Entry("far ret", ("retf",), SILENT, Reason.SEGMENT, _hex("48 cb"),
          "Returns to another segment, perhaps to an outer ring; to the host's 0x33 unseen.",
          "#GP only for what the host's table refuses (SDM vol. 2, RET).",
          aliases=("retfq", "lret", "retf"), stack=(NEXT, 0x33), listed=True),
)  # fmt: skip

_SYSTEM_CALLS = (
    Entry("syscall", ("syscall",), PRIVILEGED, Reason.SYSCALL, _hex("0f 05"),
          "Enters the kernel. On the trap core that would be the host's kernel, not the guest's.",
          "Not privileged; ptrace stops it before the host does anything (PTRACE_SYSEMU).",
          registers={"rax": 0x1000}, legacy=b""),
    Entry("sysret", ("sysret",), PRIVILEGED, Reason.SYSRET, _hex("48 0f 07"),
          "Returns from the kernel to ring 3.", _RING0, aliases=("sysretq",), legacy=b""),
    Entry("syscall in 32-bit code", ("syscall in 32-bit code", "sysret in 32-bit code"), ABSENT,
          Reason.SYSCALL, b"",
          "The platform has syscall and sysret in 64-bit code only, as Intel's CPUs do. An AMD CPU that"
          " executes it in 32-bit code calls the host's kernel, which changes registers and the stack"
          " before ptrace stops it.", "#UD outside 64-bit mode (SDM vol. 2, SYSCALL); AMD's CPUs have"
          " it (APM vol. 3, SYSCALL).", _ABSENT_KVM, legacy=_hex("0f 05")),
    Entry("sysenter, sysexit", ("sysenter", "sysexit"), ABSENT, Reason.SYSCALL, _hex("0f 34"),
          "The older pair of syscall and sysret. The platform has no SEP bit.", _NOT_IN_CPUID,
          _ABSENT_KVM),
    Entry("vmcall", ("vmcall",), ABSENT, Reason.HYPERCALL, _hex("0f 01 c1"),
          "Calls the hypervisor under this kernel, which is none of the guest's.",
          "#UD outside VMX operation (SDM vol. 3, 31.3).", _HYPERCALL),
    Entry("vmmcall", ("vmmcall",), ABSENT, Reason.HYPERCALL, _hex("0f 01 d9"),
          "AMD's vmcall. Inside a virtual machine it reaches the outer hypervisor from ring 3, unseen.",
          "#UD unless a hypervisor intercepts it (APM vol. 3).", _HYPERCALL, gives="rax"),
)  # fmt: skip

_IDENTITY_AND_TIME = (
    Entry("cpuid", ("cpuid",), SILENT, Reason.CPUID, _hex("0f a2"),
          "Tells the CPU's name and abilities: the host's, where the guest should see the platform's.",
          "Not privileged; some CPUs can be told to fault (SDM vol. 2, CPUID; MSR 140H).",
          "The host's kernel answers it, from the table that the VMM gave to KVM.",
          gives="rax"),
    Entry("rdtsc, rdtscp", ("rdtsc", "rdtscp"), SILENT, Reason.TSC, _hex("0f 31"),
          "Shows real time, by which a guest can tell that it is being stopped.",
          "Privileged only while CR4.TSD is set (SDM vol. 3, 2.5), and at ring 3 the host's CR4 counts;"
          " prctl(PR_SET_TSC) asks Linux to set it.",
          "The host's counter, as KVM gives it to the guest.",
          "Found before it runs: the VMM gives virtual time, without an exit.", gives="rax"),
    Entry("rdpid", ("rdpid",), ABSENT, Reason.TSC, _hex("f3 0f c7 f8"),
          "Shows the number of the host's CPU.", _NOT_IN_CPUID, _ABSENT_KVM, gives="rax"),
    Entry("rdrand, rdseed", ("rdrand", "rdseed"), ABSENT, Reason.EXCEPTION, _hex("48 0f c7 f0"),
          "Gives random numbers, so that no two cores would agree.", _NOT_IN_CPUID, _ABSENT_KVM,
          gives="rax"),
    Entry("rdfsbase, wrfsbase, rdgsbase, wrgsbase",
          ("rdfsbase", "wrfsbase", "rdgsbase", "wrgsbase"), ABSENT, Reason.MSR,
          _hex("f3 48 0f ae c0"), "Reads and writes segment bases without the kernel.",
          "#UD unless CR4.FSGSBASE is set; at ring 3 the host's CR4 counts (SDM vol. 2).",
          _ABSENT_KVM, gives="rax", legacy=b""),
    Entry("xgetbv", ("xgetbv",), ABSENT, Reason.STATE, _hex("0f 01 d0"),
          "Shows which register state the host has enabled.",
          "#UD unless CR4.OSXSAVE is set; at ring 3 the host's CR4 counts.", _ABSENT_KVM,
          registers={"rcx": 0}, gives="rax"),
    Entry("xsetbv", ("xsetbv",), ABSENT, Reason.STATE, _hex("0f 01 d1"),
          "Switches register state on and off for the whole CPU.", _RING0, _ABSENT_KVM),
    Entry("xsave, xrstor", ("xsave", "xrstor", "xsaveopt", "xsavec", "xsaves", "xrstors"), ABSENT,
          Reason.STATE, _hex("48 0f ae 27"),
          "Saves the host's choice of register state, more than the platform has.", _NOT_IN_CPUID,
          _ABSENT_KVM),
    Entry("rdpkru, wrpkru", ("rdpkru", "wrpkru"), ABSENT, Reason.STATE, _hex("0f 01 ee"),
          "Reads and writes the rights of protection keys, with which the host may guard its stub.",
          "#UD unless CR4.PKE is set; at ring 3 the host's CR4 counts (SDM vol. 3, 2.7).",
          _ABSENT_KVM, registers={"rcx": 0}, gives="rax"),
    Entry("monitor, mwait", ("monitor", "mwait", "monitorx", "mwaitx"), ABSENT, Reason.STATE,
          _hex("0f 01 c8"), "Waits for a store to memory, and may put the CPU to sleep.",
          "#UD outside ring 0; AMD's monitorx and mwaitx run at ring 3, unseen (APM vol. 3).",
          _ABSENT_KVM),
    Entry("tzcnt, lzcnt", ("tzcnt", "lzcnt"), SILENT, Reason.STATE, _hex("f3 0f bc c1"),
          "On the platform's CPU, which lacks BMI, these bytes are bsf and bsr, as on any older CPU:"
          " other flags, and for lzcnt another result.", "Not privileged; the prefix is ignored where"
          " CPUID does not list BMI1 or LZCNT (SDM vol. 2).",
          "Runs as this host's CPU has it: no CPUID bit takes it away.", gives="rax",
          registers={"rcx": 8}),
)  # fmt: skip

_EXTENSIONS = (
    Entry("AVX, BMI and XOP", ("vector",), ABSENT, Reason.EXCEPTION, _hex("c5 f8 77"),
          "Everything with a VEX, EVEX or XOP prefix: AVX, AVX-512, FMA, F16C, BMI1, BMI2, XOP, TBM.",
          _NOT_IN_CPUID, _ABSENT_KVM, aliases=("vzeroupper", "avx", "bmi", "andn", "bextr")),
    Entry("AES, PCLMULQDQ, SHA", ("aes", "sha", "pclmulqdq"), ABSENT, Reason.EXCEPTION,
          _hex("66 0f 38 dc c1"), "Cryptographic extensions.", _NOT_IN_CPUID, _ABSENT_KVM,
          aliases=("aesenc", "aesdec", "aesimc", "sha1msg1")),
    Entry("movbe, adcx, adox", ("movbe", "adcx", "adox"), ABSENT, Reason.EXCEPTION,
          _hex("66 0f 38 f6 c1"), "Integer extensions that the platform's CPUID does not list.",
          _NOT_IN_CPUID, _ABSENT_KVM),
    Entry("clflush, clflushopt, clwb", ("clflush", "clflushopt", "clwb"), ABSENT, Reason.EXCEPTION,
          _hex("0f ae 3c 24"), "Writes back a cache line. CPUID has a bit of its own for each.",
          _NOT_IN_CPUID, _ABSENT_KVM),
    Entry("invpcid", ("invpcid",), ABSENT, Reason.EXCEPTION, _hex("66 0f 38 82 04 24"),
          "Drops translations by address space number, which the platform has not.", _NOT_IN_CPUID,
          _ABSENT_KVM),
    Entry("VMX and SVM",
          ("vmlaunch", "vmresume", "vmxoff", "vmxon", "vmptrld", "vmptrst", "vmclear", "vmread",
           "vmwrite", "vmfunc", "invept", "invvpid", "vmrun", "vmload", "vmsave", "stgi", "clgi",
           "skinit", "invlpga"), ABSENT, Reason.EXCEPTION, _hex("0f 01 d8"),
          "Run a virtual machine with the CPU's help. The platform's CPU offers none.",
          _NOT_IN_CPUID, _ABSENT_KVM),
    Entry("getsec, rsm", ("getsec", "rsm"), ABSENT, Reason.EXCEPTION, _hex("0f aa"),
          "Enter measured mode and leave system management mode.",
          "#UD outside those modes (SDM vol. 2).", _ABSENT_KVM),
    Entry("x87 and SSE under CR0.TS or CR0.EM", (), SILENT, Reason.EXCEPTION, _hex("0f 57 c0"),
          "A kernel sets CR0.TS to learn by #NM when a task first uses them. At ring 3 the host's CR0"
          " counts, so nothing happens.", "#NM by the real CR0 (SDM vol. 3, 2.5).",
          kvm_exact="The VMM looks at the guest's CR0 before it is stepped, and raises #NM or #UD.",
          aliases=("#nm", "cr0.ts", "fpu", "sse")),
    Entry("alignment checks at virtual CPL 0", (), SILENT, Reason.EXCEPTION, _hex("48 8b 44 24 01"),
          "AC means #AC at ring 3 only. A guest's kernel is at ring 0, yet the real CPU sees ring 3:"
          " with AC in the real register it would fault where it must not.",
          "#AC when CR0.AM and RFLAGS.AC are set and CPL = 3 (SDM vol. 3, 6.15).", kvm_exact=_STEPPED,
          aliases=("#ac", "ac")),
)  # fmt: skip

TABLE: tuple[Entry, ...] = (
    *_INPUT_OUTPUT, *_FLAGS_AND_INTERRUPTS, *_CONTROL, *_TABLES, *_SEGMENTS, *_SYSTEM_CALLS,
    *_IDENTITY_AND_TIME, *_EXTENSIONS,
)  # fmt: skip

_BY_FORM = {form: entry for entry in TABLE for form in entry.forms}


def find(form: str) -> Entry | None:
    """The entry of a mnemonic, or of a form such as "mov cr, r"; None for ordinary instructions."""
    return _BY_FORM.get(form)


def _spellings() -> dict[str, Entry]:
    return {
        spelling.lower(): entry
        for entry in TABLE
        for spelling in (entry.name, *entry.name.split(", "), *entry.forms, *entry.aliases)
    }


_BY_SPELLING = _spellings()

PREFIXES = ("rep", "repe", "repz", "repne", "repnz", "lock")


def explain(name: str) -> Entry | None:
    """The entry of an instruction as a user writes it: "popfq", "mov cr3", "MOV CR0, RAX", "in al".

    None when the instruction is not sensitive, or unknown; ``suggestions`` then has near misses."""
    words = _words(name)
    return spelled(words) or _BY_SPELLING.get(words.partition(" ")[0])


def spelled(name: str) -> Entry | None:
    """The entry with exactly this spelling, or this form with other operands: not "popf banana"."""
    words = _words(name)
    return _BY_SPELLING.get(words) or _BY_SPELLING.get(_generalized(words))


def _words(name: str) -> str:
    words = " ".join(name.lower().replace(",", ", ").split()).replace(" ,", ",")
    return re.sub(rf"^(({'|'.join(PREFIXES)}) )+", "", words)


def suggestions(name: str, others: Iterable[str] = ()) -> list[str]:
    """Spellings of the table, and of ``others``, that are one edit away from ``name``: a letter too
    many, too few, another, or two exchanged. At most three, the table's first."""
    word = _words(name)
    if len(word) < 3:
        return []
    known = dict.fromkeys([*sorted(_BY_SPELLING), *sorted(others)])
    return [one for one in known if one != word and _is_a_slip(word, one)][:3]


def _is_a_slip(typed: str, meant: str) -> bool:
    """Whether they are at most one edit apart (Damerau-Levenshtein)."""
    if abs(len(typed) - len(meant)) > 1:
        return False
    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(typed, meant, strict=False)))
    one, other = typed[at:], meant[at:]
    return (
        one[1:] == other[1:] or one[1:] == other or one == other[1:]
        or (one[:2] == other[1::-1] and one[2:] == other[2:])
    )  # fmt: skip


_SEGMENT_NAME = re.compile(r"\b[cdefgs]s\b")
_CONTROL_NAME = re.compile(r"\b(?:(cr)[02348]|(dr)[0-7])\b")
_OPERAND = re.compile(
    r"[er]?[abcd]x|[abcd][hl]|[er]?(?:si|di|sp|bp)|(?:si|di|sp|bp)l|r(?:8|9|1[0-5])[bdw]?"
    r"|-?(?:0x[0-9a-f]+|[0-9]+)|[a-z0-9: ]*\[.+\]"
)
"""A general register, a number, or memory."""


def _generalized(words: str) -> str:
    """ "mov rax, cr3" -> "mov r, cr"; "mov ds, ax" -> "mov sreg, r"; "push fs" -> "push sreg"."""
    mnemonic, _, rest = words.partition(" ")
    operands = []
    for operand in rest.split(", ") if rest else []:
        operand = _CONTROL_NAME.sub(r"\1\2", _SEGMENT_NAME.sub("sreg", operand))
        operands.append("r" if _OPERAND.fullmatch(operand) else operand)
    return f"{mnemonic} {', '.join(operands)}".strip()
