"""The table of sensitive instructions (first cut: names, classes and reasons)."""

from __future__ import annotations

from dataclasses import dataclass

from .instruction import Reason, Sensitivity

PRIVILEGED, SILENT, ABSENT = Sensitivity.PRIVILEGED, Sensitivity.SILENT, Sensitivity.ABSENT


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    mnemonics: tuple[str, ...]
    sensitivity: Sensitivity
    reason: Reason


def _entries(sensitivity: Sensitivity, reason: Reason, *forms: str) -> list[Entry]:
    return [Entry(form, (form,), sensitivity, reason) for form in forms]


TABLE: tuple[Entry, ...] = (
    *_entries(PRIVILEGED, Reason.IO, "in", "out", "ins", "outs"),
    *_entries(PRIVILEGED, Reason.HLT, "hlt"),
    *_entries(PRIVILEGED, Reason.CR, "mov cr, r", "mov r, cr", "lmsw", "clts"),
    *_entries(SILENT, Reason.CR, "smsw"),
    *_entries(PRIVILEGED, Reason.MSR, "rdmsr", "wrmsr", "swapgs"),
    *_entries(PRIVILEGED, Reason.DESCRIPTOR, "lgdt", "lidt", "lldt", "ltr"),
    *_entries(SILENT, Reason.DESCRIPTOR, "sgdt", "sidt", "sldt", "str", "lar", "lsl", "verr", "verw"),
    *_entries(PRIVILEGED, Reason.FLAGS, "cli", "sti", "stac", "clac"),
    *_entries(SILENT, Reason.FLAGS, "pushf", "popf"),
    *_entries(SILENT, Reason.SEGMENT, "mov r, sreg", "mov sreg, r", "push sreg", "pop sreg", "lss",
              "lfs", "lgs", "lcall", "ljmp", "retf"),
    *_entries(PRIVILEGED, Reason.INT, "int"),
    *_entries(PRIVILEGED, Reason.EXCEPTION, "int3", "int1"),
    *_entries(SILENT, Reason.IRET, "iret"),
    *_entries(PRIVILEGED, Reason.SYSCALL, "syscall"),
    *_entries(PRIVILEGED, Reason.SYSRET, "sysret"),
    *_entries(SILENT, Reason.CPUID, "cpuid"),
    *_entries(PRIVILEGED, Reason.TSC, "rdtsc", "rdtscp"),
    *_entries(PRIVILEGED, Reason.INVLPG, "invlpg"),
    *_entries(PRIVILEGED, Reason.STATE, "wbinvd", "invd", "rdpmc", "mov dr, r", "mov r, dr"),
    *_entries(SILENT, Reason.STATE, "tzcnt", "lzcnt"),
    *_entries(ABSENT, Reason.MSR, "rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase"),
    *_entries(ABSENT, Reason.HYPERCALL, "vmcall", "vmmcall"),
    *_entries(ABSENT, Reason.STATE, "xgetbv", "xsetbv", "xsave", "xrstor", "xsaveopt", "xsavec",
              "xsaves", "xrstors", "rdpkru", "wrpkru", "monitor", "mwait", "monitorx", "mwaitx"),
    *_entries(ABSENT, Reason.TSC, "rdpid"),
    *_entries(ABSENT, Reason.SYSCALL, "sysenter"),
    *_entries(ABSENT, Reason.SYSRET, "sysexit"),
    *_entries(ABSENT, Reason.EXCEPTION, "vector", "rdrand", "rdseed", "movbe", "adcx", "adox",
              "clflush", "clflushopt", "clwb", "invpcid", "getsec", "rsm", "aes", "sha", "pclmulqdq"),
)  # fmt: skip

_BY_FORM = {form: entry for entry in TABLE for form in entry.mnemonics}


def find(form: str) -> Entry | None:
    """The entry of a mnemonic, or of a form such as "mov cr, r"; None for ordinary instructions."""
    return _BY_FORM.get(form)
