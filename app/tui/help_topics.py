"""Help texts of each pane and view: its contents, how to read them, its keys."""

from __future__ import annotations

from dataclasses import dataclass

from app.tui.rows.glyphs import Glyphs


@dataclass(frozen=True, slots=True)
class Topic:
    """text: one string a paragraph. keys: (as shown, what it does). marks: are the panes' marks
    explained too?"""

    title: str
    text: tuple[str, ...]
    keys: tuple[tuple[str, str], ...] = ()
    marks: bool = False


HOME = Topic(
    "Guests and lessons",
    (
        "A guest is a program that believes it has a computer to itself. A lesson runs guests for you"
        " and asks questions on the way. Begin with lesson 1.",
        "This computer: which machines can run a guest here, and by whom its instructions are executed;"
        " `ringscope doctor` says more.",
    ),
    (
        ("up down", "choose; left and right turn to the lessons and the guests"),
        ("Enter", "run the guest, or play the lesson"),
        ("/", "find one by its name"),
        ("o", "open a file: a program, or a saved session"),
        ("i", "edit a copy of the guest"),
        ("c", "write a guest of your own"),
    ),
)

MACHINES = Topic(
    "The machines",
    (
        "Each pane is a computer, and all of them run the same program. The emulator reads each"
        " instruction and computes what it does. Trap and emulate lets this CPU execute them, but in"
        " ring 3: what only a kernel may do is refused, and the host does it instead. KVM gives the"
        " guest a ring 0 of its own: in the CPU's guest mode where there is hardware support, else"
        " interpreted by the host's kernel. Its pane says which.",
        "In a pane, from above: who executes and where the registers are; the registers; the flags,"
        " in capitals where set; the ring the guest believes in, and the real one; the code, the next"
        " instruction marked; what the guest has printed; what has been counted.",
        "The column right of the code is the one to watch: which instructions leave the guest, and"
        " how often. In exact mode the rest is the same on every machine: if ever it is not, it is"
        " marked.",
    ),
    (
        ("1 2 3", "show or hide a machine; on a narrow screen: which one"),
        ("left right", "choose a machine: its exits are shown below"),
        ("c", "a cursor in the code"),
        ("v", "all that the guest has printed, or its screen"),
        ("mouse", "rest on anything to have it explained"),
    ),
    marks=True,
)

CURSOR = Topic(
    "The cursor in the code",
    (
        "It points at an instruction, so that you can say: stop here, or run to here. It goes on"
        " beyond what the pane shows. Where a program keeps data the lines mean nothing, since any"
        " bytes can be read as instructions.",
    ),
    (
        ("up down", "move it"),
        ("x", "set a breakpoint here, or clear it"),
        ("H Enter", "run to here"),
        ("a", "look at the memory here"),
        ("c Esc", "no cursor any more"),
    ),
)

_SWITCHES = (
    "A world switch: the guest is left, the host does something for it, the guest goes on. Each is an"
    " exit. They are why virtual machines are slower than real ones, where they are slower."
)
_SWITCH_KEYS = (
    ("w", "another view: log, dialogue, chart"),
    ("up down", "choose an exit"),
    ("Home End", "the first exit, the newest one"),
    ("Enter", "the exit's card: what happened, in full"),
    ("left right", "of which machine"),
    ("e E", "on to the next exit; back to the one before"),
)

LOG = Topic(
    "World switches: the log",
    (
        _SWITCHES,
        "A line for each, the newest below: how many instructions were done before it (uncounted,"
        " where the CPU ran on its own), where, why (the reason's name), the instruction, what it was"
        " about, and how long the guest stood still, both world switches included.",
    ),
    _SWITCH_KEYS,
)

DIALOGUE = Topic(
    "World switches: the dialogue",
    (
        _SWITCHES,
        "One exit as a dialogue: the guest's OS asks, the CPU refuses or"
        " obeys, the host's OS does the rest. What they say is what happened, numbers included.",
    ),
    _SWITCH_KEYS,
)

CHART = Topic(
    "World switches: the chart",
    (
        _SWITCHES,
        "All of them by reason: how many, how long the guest stood still for one on average, the"
        " VMM's part of that, and which share of all such time they had. The bar is the count: few"
        " exits can have most of the time.",
    ),
    _SWITCH_KEYS,
)

MEMORY = Topic(
    "Inside: memory",
    (
        "The guest's memory by the guest's own addresses: the address, sixteen bytes, and the same"
        " bytes as text. -- is where nothing is mapped. A mark behind a byte: it has just changed.",
        "It follows rsp, the stack, until you choose an address or another register.",
    ),
    (
        ("up down", "scroll"),
        ("a", "an address, a symbol, or a register to follow"),
        ("p", "change a byte, or a register"),
        ("m Esc", "close"),
    ),
)

PAGES = Topic(
    "Inside: page tables",
    (
        "How the CPU finds an address in memory: each table on the way has an entry that says where"
        " the next one is, and what is allowed (P present, W write, U user, A accessed, D dirty, PS a"
        " large page, XD no execution).",
        "Then all that the guest has mapped. On a trap core the real CPU cannot walk the guest's"
        " tables, so the VMM keeps a shadow of them: how much of each range it has so far. The"
        " emulator walks them itself. On KVM the CPU walks them and then a second set of tables"
        " (nested paging), or the host's kernel keeps a shadow of its own: the tab says which.",
    ),
    (
        ("a", "the walk of which address"),
        ("up down", "scroll"),
        ("left right", "of which machine"),
        ("t Esc", "close"),
    ),
)

TABLES = Topic(
    "Inside: descriptor tables",
    (
        "What the guest's kernel has told the CPU. The GDT names segments and their rings; the TSS"
        " has the stack for entering the kernel; the IDT says which code answers which exception or"
        " interrupt. On a trap core the real CPU never sees them: the VMM reads them when it delivers"
        " an interrupt.",
    ),
    (("up down", "scroll"), ("left right", "of which machine"), ("T Esc", "close")),
)

RINGS = Topic(
    "Inside: rings",
    (
        "Rings are the CPU's privilege levels: kernels in ring 0, programs in ring 3. Above, where the"
        " guest believes itself to be; below, where it really is. The mark is where it is now.",
        "On a trap core both rings of the guest are in ring 3 of this CPU, and only the VMM knows"
        " which is which. KVM with hardware support has a second set of rings for the guest, guest"
        " mode; without, the host's kernel interprets ring 0 and this CPU executes ring 3.",
    ),
    (("left right", "of which machine, where not all fit"), ("R Esc", "close")),
)

DEVICES = Topic(
    "Inside: devices",
    (
        "The guest's PC, but for CPU and memory: none of it exists. Each device is a few numbers in"
        " the host's memory, and a piece of code that answers when the guest reaches for it.",
    ),
    (("up down", "scroll"), ("left right", "of which machine"), ("D Esc", "close")),
)

LESSON = Topic(
    "The lesson",
    (
        "The text below speaks, moves the machines, and asks. The machines are real and they are"
        " yours: every key works. When you have looked around, Enter brings them back to where the"
        " lesson is.",
    ),
    (
        ("Enter", "go on; answer; back to the lesson"),
        ("a b c d", "answer a question"),
        ("Backspace", "back in the lesson"),
        ("j", "jump to a step"),
        ("P", "let it play by itself, or pause it"),
        ("G", "the words of this text, explained"),
    ),
)

EDITOR = Topic(
    "The editor",
    (
        "Write a guest in assembly, Intel syntax. It is entered at _start or start, in ring 0, in long"
        " mode. A byte to port 0xe9 is printed; one to port 0xf4 ends the machine. # begins a comment.",
        "The assembler answers in the row below the text; after a mistake the cursor is at its line.",
    ),
    (
        ("F5", "save, assemble and run"),
        ("F2", "assemble only"),
        ("F3", "begin from the next template"),
        ("ctrl+s", "save"),
        ("Esc", "leave"),
    ),
)

GLOSSARY = Topic(
    "The glossary",
    (
        "The words of the field, each in a few sentences. Those that stand on the screen now come"
        " first. Type to search: in the words first, then in what is said of them.",
    ),
    (("up down", "choose"), ("Esc", "close")),
)

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
        ("H", "run to the cursor; Enter does as well"),
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
        ("? F1", "help for what you look at"),
        ("G", "the glossary: the words of the field, explained"),
        ("ctrl+p", "everything, by name; themes too"),
        ("Esc", "close what was opened last"),
        ("h", "home; the session is kept"),
        ("q", "quit; ctrl+c does as well"),
    )),
)  # fmt: skip
"""The general keys, by what they are for."""

VIEWS = {"log": LOG, "dialogue": DIALOGUE, "chart": CHART}
INSIDE = {"memory": MEMORY, "pages": PAGES, "tables": TABLES, "rings": RINGS, "devices": DEVICES}

TOPICS = (
    MACHINES, CURSOR, *VIEWS.values(), *INSIDE.values(), LESSON, EDITOR, GLOSSARY, HOME,
)  # fmt: skip
"""In the order in which left and right turn the pages."""


def marks(glyphs: Glyphs) -> tuple[tuple[str, str], ...]:
    return (
        (glyphs.next, "the next instruction"),
        (glyphs.exits + " 4", "leaves the guest here; it has, four times"),
        (glyphs.silent, "sensitive, but would not trap: the VMM must find it"),
        (glyphs.direct, "runs directly on the CPU"),
        (glyphs.dot, "interpreted by KVM, which has no hardware support here"),
        (glyphs.breakpoint, "a breakpoint"),
        (glyphs.changed, "just changed"),
        (glyphs.read, "read by the next instruction"),
        (f"{glyphs.equal} {glyphs.unequal}", "agrees with the first machine; differs from it"),
        ("ZF zf", "a flag that is set; one that is not"),
    )
