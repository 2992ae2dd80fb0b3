"""The eight steps of the hypervisor lab."""

from __future__ import annotations

from dataclasses import dataclass

from cores.errors import InputError
from cores.lab.cases import KERNEL, Case


@dataclass(frozen=True, slots=True)
class Step:
    """number: from 1. title; task: what the VMM has to learn, in a sentence or two. sources: where the
    manual says it. guests: the names of its guests. points: for all of its cases. strict: the exits
    have to be ours; else only what the guest has shown and how it ended, since the times of
    interrupts, or the pages that are mapped ahead, may lawfully differ. typed: what each guest is run
    with, once each; () for once with nothing."""

    number: int
    title: str
    task: str
    sources: str
    guests: tuple[str, ...]
    points: int
    strict: bool = True
    typed: tuple[str, ...] = ()

    def cases(self, seed: int) -> tuple[Case, ...]:
        """What is run: each guest as it stands, then each with values drawn from ``seed``."""
        runs = [(name, typed) for name in self.guests for typed in self.typed or ("",)]
        shown = tuple(Case(name, typed=typed) for name, typed in runs)
        return (*shown, *(Case(name, seed, hidden=True, typed=typed) for name, typed in runs))


STEPS = (
    Step(1, "Enter and leave",
         "Enter the guest; when it comes back at IN or OUT, ask the device, and enter it again.",
         "SDM vol. 1, 19.5.1; vol. 2, IN, OUT", ("greet", "ports"), 12),
    Step(2, "CPUID, RDTSC, HLT",
         "Answer who the CPU is and what time it is, and let the guest sleep.",
         "SDM vol. 2, CPUID, RDTSC, HLT; vol. 3, 17.17", ("identity", "clock"), 12),
    Step(3, "Why trapping is not enough",
         "Keep an interrupt flag for the guest. CLI and STI trap; PUSHF and POPF do not.",
         "SDM vol. 2, CLI, STI, PUSHF, POPF; vol. 1, 3.4.3", ("mask", "nested"), 12),
    Step(4, "Descriptor tables and exceptions",
         "Keep the guest's tables, and bring its exceptions to its own handlers.",
         "SDM vol. 3, 2.4, 6.10 to 6.14; vol. 2, LGDT, SGDT, INT, IRET, MOV",
         ("tables", "faults", "triple"), 12),
    Step(5, "Interrupts and a timer",
         "Give the guest its interrupts where it takes them, and hold them back where it does not.",
         "SDM vol. 3, 6.8.1, 6.8.3; vol. 2, STI, HLT", ("ticks", "busy"), 12, strict=False),
    Step(6, "User mode",
         "The guest's own ring 3: whose fault is it, and on which stack does the kernel take it?",
         "SDM vol. 3, 5.5, 6.12, 5.8.8, 6.14.4, 7.7; vol. 2, SYSCALL, SYSRET, SWAPGS",
         ("rings", "gate"), 12),
    Step(7, "Shadow page tables",
         "Map for the CPU what the guest's own tables say, page by page, and notice when they change.",
         "SDM vol. 3, 4.5 to 4.8, 4.10.4; vol. 2, INVLPG", ("pages", "spaces"), 12, strict=False),
    Step(8, "Boot the teaching kernel",
         "A whole system in 32-bit code: a shell, programs, a disk, the local APIC.",
         "SDM vol. 3, 3.4, 4.3, 6.11, 7.2, 10.4; assets/guests/pico/README.md", (KERNEL,), 12,
         strict=False, typed=("echo WORD\noff\n", "echo WORD | wc\ncrash cli\ngrow 9\noff\n")),
)  # fmt: skip


def step_of(number: int) -> Step:
    """Raises KeyError."""
    return {step.number: step for step in STEPS}[number]


def step_named(text: str) -> Step:
    """The step that a user means. Raises InputError."""
    try:
        return step_of(int(text))
    except (ValueError, KeyError):
        raise InputError(f"a step is a number from 1 to {len(STEPS)}, not {text[:40]!r}") from None
