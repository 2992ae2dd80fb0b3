"""Help texts of each pane and view: its contents, how to read them, its keys."""

from __future__ import annotations

from dataclasses import dataclass

from app.tui.rows.glyphs import ASCII, Glyphs, plain


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
        ("up down", "choose; left, right: the lessons, the guests"),
        ("Enter", "run the guest, or play the lesson"),
        ("/", "find one by its name"),
        ("o", "open a file: a program, or a saved session"),
        ("i", "edit a copy of the guest"),
        ("c", "write a guest of your own"),
        ("l", "the hypervisor lab: a VMM of yours beside ours"),
        ("g", "the glossary: the words of the field, explained"),
        ("ctrl+p", "everything, by name; themes too"),
        ("q", "quit, asked first where something would be lost"),
    ),
)

MACHINES = Topic(
    "The machines",
    (
        "One program runs on all machines, line by line. The left part of the screen asks, or has a"
        " line of the program; each machine answers in its own column, its lane.",
        "The VMM (virtual machine monitor) is Ringscope itself: it does what a guest's kernel wants and"
        " may not do. An emulator needs none: it reads each instruction and computes what it does. Trap"
        " and emulate lets this CPU execute all of it, but in ring 3; what only a kernel may do is"
        " refused, and the VMM does it. KVM gives the guest a ring 0 of its own: in the CPU's guest"
        " mode where there is hardware support, else by software in the host's kernel.",
    ),
    marks=True,
)

PICKED = Topic(
    "A picked line",
    (
        "up and down pick a line of the program, so that you can say: stop here, run until here, tell"
        " me of this one. Beyond the source it is disassembly; where a program keeps data the lines"
        " mean nothing, since any bytes can be read as instructions.",
    ),
    (
        ("up down", "another line"),
        ("x", "set a breakpoint here, or clear it"),
        ("u", "run until here"),
        ("Enter", "this instruction in full, on every machine"),
        ("a", "look at the memory here"),
        ("Esc", "let it go"),
    ),
)

_EXIT = (
    "An exit: the guest is left, the host does something for it, the guest goes on. Exits are why"
    " virtual machines are slower than real ones, where they are slower."
)

CONVERSATION = Topic(
    "The conversation",
    (
        _EXIT,
        "The last instruction as a dialogue: the guest's OS asks, the CPU refuses or obeys, the host's"
        " OS does the rest. What they say is what happened, numbers included.",
    ),
    (
        ("w", "the next view"),
        ("left right", "of which machine"),
        ("e E", "the next exit, the last one"),
    ),
)

REASONS = Topic(
    "Why the guest was left",
    (
        _EXIT,
        "All of them by reason and machine: how often, and for how long altogether, both world"
        " switches included. A row in which a machine has no entry is work that it does without leaving"
        " the guest. While running freely: how many now, a second.",
    ),
    (("w", "the next view"),),
)

LOG = Topic(
    "The latest exits",
    (
        _EXIT,
        "A line for each, the newest below: how many instructions were done before it (none is given"
        " where the CPU ran on its own), where, why, the instruction, what it was about, and the time"
        " away.",
    ),
    (
        ("up down", "choose an exit"),
        ("Home End", "the first, the newest"),
        ("Enter", "the exit's card: all that is known of it"),
        ("W", "save its world switch as a sequence diagram (SVG)"),
        ("left right", "of which machine"),
        ("w", "the next view"),
    ),
)

REGISTERS = Topic(
    "Each machine's own registers",
    (
        "They are equal, or marked where they are not. What differs is where they live: in a CPU, in"
        " the VMM's memory, in an emulator's. Behind those that a guest in ring 3 only believes to"
        " have stands what the CPU has.",
    ),
    (("up down", "more of them"), ("r Esc", "back")),
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

NETWORK = Topic(
    "Inside: network",
    (
        "What the guest sends and receives, each packet in words, with its virtual time in µs."
        " Behind it is what it cost: the exits since the packet before, by reason; on the interpreter,"
        " which has none, the accesses to devices.",
        "A guest has a network where --net asks for one: user is a small network of its own, hub a"
        " cable to a second machine. Nothing leaves this computer.",
    ),
    (
        ("up down", "scroll; the newest come first"),
        ("left right", "of which machine"),
        ("N Esc", "close"),
    ),
)

LESSON = Topic(
    "The lesson",
    (
        "The text below speaks, moves the machines, and asks. The machines are real and they are"
        " yours: every key works. When you have looked around, Enter brings them back to where the"
        " lesson is. Marks and comments that would answer a question are shown once it is answered.",
    ),
    (
        ("Enter", "go on; answer; back to the lesson"),
        ("a b c d", "answer a question"),
        ("Backspace", "back in the lesson"),
        ("j", "jump to a step"),
        ("A", "let it play by itself, or pause it"),
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
    ("Go", (
        ("n  b", "one instruction on, one back"),
        ("e  E", "to the next, the last exit"),
        ("space", "run in lockstep, pause"),
        ("f", "run freely, at the CPU's own speed"),
        ("+ -", "faster, slower"),
        ("x  X", "break at the picked line, or where you say; clear all"),
        ("u", "run until the picked line"),
        ("g", "go to an instruction, by its number"),
        ("d", "go to where the machines parted"),
        ("0", "begin anew"),
    )),
    ("Look", (
        ("up down", "pick a line; scroll"),
        ("Enter", "this instruction in full, on every machine"),
        ("w", "three ways, conversation, reasons, log"),
        ("left right", "of which machine"),
        ("r", "registers: each machine's own"),
        ("H", "where the guest was left most: lines, functions"),
        ("z", "the program alone"),
        ("v", "the guest's screen"),
        ("m t T", "memory, page tables, descriptor tables"),
        ("R D N", "rings, devices, network"),
        ("a", "which address, or which register to follow"),
        ("1 2 3", "show, hide a machine"),
        ("P", "projector mode"),
        ("mouse", "rest on anything to have it explained"),
    )),
    ("Do", (
        ("p", "change a register, a flag or memory"),
        ("k", "type on the guests' keyboard"),
        ("i", "edit the program, assemble and run it"),
        ("L", "load a disk image, and start over"),
        ("S", "save the session, to go on another day"),
        ("s", "save a picture"),
        ("W", "save the world switch here as a diagram"),
    )),
    ("In a lesson", (
        ("Enter", "go on; after a look around, back to the lesson"),
        ("Backspace", "back in the lesson"),
        ("j", "jump to a step"),
        ("A", "let it play by itself, or pause it"),
    )),
    ("Leave", (
        ("Esc", "closes what is open, then nothing"),
        ("h", "home; the session is kept"),
        ("q", "quit, asked first; ctrl+c quits as well"),
        ("? F1", "help for what you look at"),
        ("G", "the glossary: the words of the field, explained"),
        ("ctrl+p", "everything, by name; themes too"),
    )),
)  # fmt: skip
"""The general keys of the machines' screen, by what they are for."""

VIEWS = {"conversation": CONVERSATION, "reasons": REASONS, "log": LOG}
INSIDE = {"memory": MEMORY, "pages": PAGES, "tables": TABLES, "rings": RINGS, "devices": DEVICES,
          "network": NETWORK}  # fmt: skip

TOPICS = (
    MACHINES, PICKED, *VIEWS.values(), REGISTERS, *INSIDE.values(), LESSON, EDITOR, GLOSSARY, HOME,
)  # fmt: skip
"""In the order in which left and right turn the pages."""


def marks(glyphs: Glyphs) -> tuple[tuple[str, str], ...]:
    signs = (
        ("│ green", "the CPU itself executes this line"),
        ("┊ blue", "software does: an emulator, or KVM without VT-x"),
        ("⇄ 3 40 µs", "the guest was left here, 3 times, for 40 µs together"),
        ("~", "sensitive, yet it would not trap: the VMM must find it"),
        ("?", "a question is open: the answer is hidden"),
        ("*  ≠", "changed by what was done last; the machines differ"),
        ("▸  ◆", "comes next; a breakpoint"),
    )
    return signs if glyphs is not ASCII else tuple((plain(sign), plain(words)) for sign, words in signs)
