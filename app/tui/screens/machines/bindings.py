"""The keys of the session screen.

``time('step')`` calls ``step`` of the controller ``time`` (time.py); ``state`` and ``look`` are the
others (state.py, looking.py). Actions without arguments are the screen's own.
"""

from __future__ import annotations

from textual.binding import Binding, BindingType

from ...widgets.keys import Hint

HINTS: list[Hint] = [
    ("space", "run", "time('run')"),
    ("n", "step", "time('step')"),
    ("b", "back", "time('step_back')"),
    ("e", "next exit", "time('next_exit')"),
    ("↑↓", "pick a line", "look('select', 1)"),
    ("w", "view", "look('next_view')"),
    ("r", "registers", "look('registers')"),
    ("v", "guest's screen", "look('guest_screen')"),
    ("h", "home", "app.home"),
    ("m", "memory", "look('look_inside', 'memory')"),
    ("z", "program alone", "look('program')"),
    ("f", "run freely", "time('run_free')"),
    ("P", "projector", "look('projected')"),
]
"""The keys in the bottom row while paused, as many as fit."""

RUNNING: list[Hint] = [
    ("space", "pause", "time('run')"),
    ("n", "one step", "time('step')"),
    ("+ -", "faster, slower", "time('faster', 1)"),
    ("w", "view", "look('next_view')"),
    ("v", "guest's screen", "look('guest_screen')"),
]
FREE: list[Hint] = [
    ("space", "pause", "time('run_free')"),
    ("v", "guest's screen", "look('guest_screen')"),
    ("w", "view", "look('next_view')"),
    ("0", "from the start", "time('restart')"),
    ("↑↓", "pick a line", "look('select', 1)"),
    ("m", "memory", "look('look_inside', 'memory')"),
]
ENDED: list[Hint] = [
    ("0", "from the start", "time('restart')"),
    ("b", "back", "time('step_back')"),
    ("E", "last exit", "time('previous_exit')"),
    *HINTS[4:],
]
PICKED: list[Hint] = [
    ("↑↓", "another line", "look('select', 1)"),
    ("x", "break here", "look('break_here')"),
    ("u", "run until here", "look('run_here')"),
    ("Enter", "in full", "look('full')"),
    ("a", "memory here", "look('address')"),
    ("Esc", "let it go", "close"),
]
OWN: list[Hint] = [
    ("r", "all of it again", "look('registers')"),
    ("↑↓", "more", "look('select', 1)"),
    *HINTS[:4],
]
ALONE: list[Hint] = [("z", "all of it again", "look('program')"), *HINTS[:5]]
PROJECTOR: list[Hint] = [
    *HINTS[1:2], *HINTS[3:4], *HINTS[2:3], HINTS[0], ("P", "leave projector mode", "look('projected')"),
]  # fmt: skip
INSIDE: list[Hint] = [
    ("Esc", "closes it", "close"),
    ("↑↓", "more", "look('select', 1)"),
    ("a", "which address", "look('address')"),
    ("← →", "which machine", "look('choose_next', 1)"),
    *HINTS[:4],
]
LOG: list[Hint] = [
    *HINTS[:4], ("↑↓", "choose", "look('select', 1)"), ("Enter", "in full", "look('full')"),
    ("← →", "which machine", "look('choose_next', 1)"), HINTS[5],
]  # fmt: skip
LESSON: list[Hint] = [
    ("Backspace", "back", "lesson_back"),
    *HINTS[1:2], *HINTS[3:4],
    ("G", "glossary", "glossary"),
    ("w", "view", "look('next_view')"),
    ("j", "another step", "jump"),
    ("A", "plays by itself", "autoplay"),
]  # fmt: skip

BINDINGS: list[BindingType] = [
    Binding("space", "time('run')", "Run or pause"),
    Binding("n", "time('step')", "Step"),
    Binding("b", "time('step_back')", "Step back"),
    Binding("e", "time('next_exit')", "Next exit"),
    Binding("E,shift+e", "time('previous_exit')", "Previous exit"),
    Binding("f", "time('run_free')", "Run freely"),
    Binding("g", "time('ask_where')", "Go to instruction"),
    Binding("d", "time('go_to_divergence')", "Go to where the machines parted"),
    Binding("0", "time('restart')", "Begin anew"),
    Binding("plus,equals_sign", "time('faster', 1)", "Faster"),
    Binding("minus", "time('faster', -1)", "Slower"),
    Binding("w", "look('next_view')", "Next view: three ways, conversation, reasons, log"),
    Binding("H", "look('hot')", "Where the guest was left most: lines, functions"),
    Binding("r", "look('registers')", "Each machine's own registers"),
    Binding("z", "look('program')", "The program alone"),
    Binding("P", "look('projected')", "Projector mode"),
    Binding("1", "look('lane', 1)", "First machine"),
    Binding("2", "look('lane', 2)", "Second machine"),
    Binding("3", "look('lane', 3)", "Third machine"),
    Binding("4", "look('lane', 4)", show=False),
    Binding("left", "look('choose_next', -1)", "Exits of the machine before"),
    Binding("right", "look('choose_next', 1)", "Exits of the next machine"),
    Binding("up", "look('select', -1)", "Pick a line, up"),
    Binding("down", "look('select', 1)", "Pick a line, down"),
    Binding("pageup", "look('select', -20)", "A page up"),
    Binding("pagedown", "look('select', 20)", "A page down"),
    Binding("home", "look('select_first')", "The first line, or exit"),
    Binding("end", "look('select_last')", "The last line, or exit"),
    Binding("enter", "look('full')", "The instruction in full"),
    Binding("x", "look('break_here')", "Set or clear a breakpoint"),
    Binding("X", "time('clear_breakpoints')", "Clear all breakpoints"),
    Binding("u", "look('run_here')", "Run until the picked line"),
    Binding("m", "look('look_inside', 'memory')", "Memory"),
    Binding("t", "look('look_inside', 'pages')", "Page tables"),
    Binding("T", "look('look_inside', 'tables')", "Descriptor tables"),
    Binding("R", "look('look_inside', 'rings')", "Rings"),
    Binding("D", "look('look_inside', 'devices')", "Devices"),
    Binding("N", "look('look_inside', 'network')", "Network"),
    Binding("a", "look('address')", "Look at an address"),
    Binding("p", "state('edit')", "Change a register or memory"),
    Binding("v", "look('guest_screen')", "The guest's screen"),
    Binding("k", "state('type')", "Type on the guests' keyboard"),
    Binding("i", "edit", "Edit the program"),
    Binding("L", "state('disk')", "Load a disk image"),
    Binding("S", "state('save')", "Save the session"),
    Binding("W", "look('draw_exits')", "Save the world switch as a diagram"),
    Binding("f9", "state('debugger')", "Let GDB connect to this session"),
    Binding("G", "glossary", "Glossary"),
    Binding("question_mark,f1", "help", "Help"),
    Binding("h", "app.home", "Home; the session is kept"),
    Binding("escape", "close", "Close what was opened last"),
]
