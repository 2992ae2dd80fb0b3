"""The table of sensitive instructions agrees with the decoder, and is found by users' spellings."""

from __future__ import annotations

import pytest

from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Sensitivity
from cores.x86.isa.sensitive import TABLE, Entry, explain, find, spelled, suggestions


@pytest.mark.parametrize("entry", TABLE, ids=lambda e: e.name)
def test_sample_is_what_the_entry_says(entry: Entry) -> None:
    """The samples that probe runs, in 64- and in 32-bit code, are one instruction of its entry."""
    samples = {64: entry.sample, 32: entry.legacy_sample}
    assert any(samples.values())
    for bits, sample in samples.items():
        if sample:
            insn = decode(sample, bits)
            assert insn.code == sample
            if entry.forms:
                assert (insn.sensitivity, insn.reason) == (entry.sensitivity, entry.reason)


@pytest.mark.parametrize("entry", TABLE, ids=lambda e: e.name)
def test_entries_explain_themselves(entry: Entry) -> None:
    """Each entry says why, by which rule, and what every core does."""
    assert entry.why.endswith(".")
    assert entry.rule.endswith(".")
    assert set(entry.cores) == {
        "interpreter", "trap, exact", "trap, free", "trap, --pure", "kvm, exact", "kvm, free",
    }  # fmt: skip
    assert entry.privileged == (entry.sensitivity is Sensitivity.PRIVILEGED)
    assert explain(entry.name) is entry


def test_no_form_stands_twice() -> None:
    """Each instruction has one entry."""
    forms = [form for entry in TABLE for form in entry.forms]
    assert len(forms) == len(set(forms))


def test_robin_and_irvine() -> None:
    """Every name of the list of 2000 is in the table, and marked."""
    listed = {form for entry in TABLE if entry.listed for form in entry.forms}
    assert listed >= {
        "sgdt", "sidt", "sldt", "smsw", "pushf", "popf", "lar", "lsl", "verr", "verw", "pop sreg",
        "push sreg", "lcall", "ljmp", "int", "retf", "str", "mov r, sreg", "mov sreg, r",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "form"),
    [("popfq", "popf"), ("mov cr3", "mov cr, r"), ("MOV  RAX,CR3", "mov r, cr"), ("in", "in"),
     ("out dx, al", "out"), ("mov ds, ax", "mov sreg, r"), ("push fs", "push sreg"),
     ("iretq", "iret"), ("rdtscp", "rdtscp"), ("vmlaunch", "vmlaunch"), ("int 0x80", "int"),
     ("rep outsb", "outs"), ("jmp far", "ljmp"), ("mov dr7, rax", "mov dr, r")],
)  # fmt: skip
def test_explain_finds_what_people_type(typed: str, form: str) -> None:
    """Mnemonics with suffixes, operands, prefixes and capitals lead to the same entry."""
    assert explain(typed) is find(form) is not None


def test_near_misses() -> None:
    """A typing error gives suggestions; an ordinary instruction gives no wrong ones."""
    assert explain("sgtd") is None
    assert suggestions("sgtd") == ["sgdt"]
    assert suggestions("hltt", ["halt", "hlt"]) == ["hlt"]
    assert suggestions("banana") == suggestions("eax") == suggestions("in") == []
    assert explain("mov rax, rbx") is None
    assert explain("") is None
    assert find("add") is None


@pytest.mark.parametrize(
    "typed", ["popf banana", "mov cr3, banana", "mov cr99", "int banana", "sti cli"]
)
def test_no_form_is_guessed(typed: str) -> None:
    """A word that only begins like an instruction is not completed to it."""
    assert spelled(typed) is None
    assert spelled("mov cr3, rax") is spelled("mov cr3") is find("mov cr, r")
