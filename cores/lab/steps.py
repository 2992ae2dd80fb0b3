"""The eight steps of the hypervisor lab."""

from __future__ import annotations

from dataclasses import dataclass

from cores.lab.cases import Case


@dataclass(frozen=True, slots=True)
class Step:
    """number: from 1. title; task: what the VMM has to learn, in a sentence or two. sources: where the
    manual says it. guests: the names of its guests. points: for all of its cases. strict: the exits
    have to be ours; else only what the guest has shown and how it ended, since the times of
    interrupts, or the pages that are mapped ahead, may lawfully differ."""

    number: int
    title: str
    task: str
    sources: str
    guests: tuple[str, ...]
    points: int
    strict: bool = True

    def cases(self, seed: int) -> tuple[Case, ...]:
        """What is run: each guest as it stands, then each with values drawn from ``seed``."""
        shown = tuple(Case(name) for name in self.guests)
        return (*shown, *(Case(name, seed, hidden=True) for name in self.guests))


STEPS = (
    Step(1, "Enter and leave",
         "Enter the guest; when it comes back at IN or OUT, ask the device, and enter it again.",
         "SDM vol. 1, 19.5.1; vol. 2, IN, OUT", ("greet", "ports"), 12),
    Step(2, "CPUID, RDTSC, HLT",
         "Answer who the CPU is and what time it is, and let the guest sleep.",
         "SDM vol. 2, CPUID, RDTSC, HLT; vol. 3, 18.17", ("identity", "clock"), 12),
    Step(3, "Why trapping is not enough",
         "Keep an interrupt flag for the guest. CLI and STI trap; PUSHF and POPF do not.",
         "SDM vol. 2, CLI, STI, PUSHF, POPF; vol. 1, 3.4.3", ("mask", "nested"), 12),
)  # fmt: skip


def step_of(number: int) -> Step:
    """Raises KeyError."""
    return {step.number: step for step in STEPS}[number]
