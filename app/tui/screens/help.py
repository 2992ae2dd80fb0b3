"""What the keys do, and what the marks mean."""

from __future__ import annotations

from ..glyphs import Glyphs
from ..rows import EMPTY, Row, fit, row
from .sheet import Sheet

KEYS = (
    ("Time", (
        ("space", "run, pause"),
        ("n", "one instruction on every machine"),
        ("b", "one back"),
        ("e", "on to the next exit of any machine"),
        ("E", "back to the previous exit"),
        ("g", "go to an instruction, by its number"),
        ("d", "go to where the machines part"),
        ("f", "let each machine run freely, at full speed"),
        ("+ -", "faster, slower"),
        ("r", "restart"),
        ("x", "set or clear a stop: an address, an exit, a value"),
        ("X", "clear all breakpoints"),
        ("c", "a cursor in the code; x then sets a breakpoint there"),
        ("h", "run to the cursor; Enter does as well"),
    )),
    ("Looking", (
        ("w", "world switches: log, dialogue, chart"),
        ("up down", "choose an exit, or scroll; Enter opens the exit's card"),
        ("1 2 3", "show or hide a machine; on a narrow screen: which one"),
        ("left right", "whose exits are shown"),
        ("v", "the guest's whole screen and console"),
        ("m", "memory"),
        ("t", "page tables, the guest's and the shadow's, and a walk"),
        ("T", "descriptor tables: GDT, IDT, TSS"),
        ("R", "rings: what runs where, as believed and in truth"),
        ("D", "devices"),
        ("a", "which address, or which register to follow"),
    )),
    ("Doing", (
        ("p", "change a register, a flag or memory"),
        ("k", "type on the guests' keyboard"),
        ("i", "edit the program, assemble and run it"),
        ("L", "load a disk image, and start over"),
        ("S", "save the session, to go on another day"),
        ("s", "save a picture of this screen (SVG)"),
    )),
    ("In a lesson", (
        ("Enter", "go on; after a look around, back to the lesson"),
        ("Backspace", "back in the lesson"),
        ("j", "jump to a step"),
        ("P", "let it play by itself, or pause it"),
    )),
    ("Ringscope", (
        ("G", "the glossary: the words of the field, explained"),
        ("ctrl+p", "everything, by name; themes too"),
        ("Esc", "back to the first page"),
        ("q", "quit; ctrl+c does as well"),
    )),
)  # fmt: skip


WIDTH = 72
"""Cells of the whole sheet, its frame included."""


def marks(glyphs: Glyphs) -> tuple[tuple[str, str], ...]:
    return (
        (glyphs.next, "the next instruction"),
        (glyphs.exits + " 4", "leaves the guest here; it has, four times"),
        (glyphs.silent, "sensitive, but would not trap: the VMM must find it"),
        (glyphs.direct, "runs directly on the CPU"),
        (glyphs.breakpoint, "a breakpoint"),
        (glyphs.changed, "just changed"),
        (glyphs.read, "read by the next instruction"),
        (glyphs.unequal, "the machines differ in this"),
        ("ZF zf", "a flag that is set; one that is not"),
    )


def help_sheet(glyphs: Glyphs) -> Sheet:
    rows: list[Row] = []
    for title, keys in (*KEYS, ("Marks", marks(glyphs))):
        if rows:
            rows.append(EMPTY)
        rows.append(row((title, "strong")))
        rows += [row(("  " + fit(key, 12), "key"), words) for key, words in keys]
    return Sheet("Help", rows, WIDTH)
