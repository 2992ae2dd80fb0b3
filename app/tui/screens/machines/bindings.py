"""The keys of the machines' screen.

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
    ("w", "view", "look('next_view')"),
    ("g", "go to", "time('ask_where')"),
    ("?", "help", "help"),
    ("h", "home", "app.home"),
    ("q", "quit", "app.quit"),
    ("c", "cursor", "look('toggle_cursor')"),
    ("x", "break", "look('break_here')"),
    ("m", "memory", "look('inside', 'memory')"),
    ("t", "pages", "look('inside', 'pages')"),
    ("R", "rings", "look('inside', 'rings')"),
    ("f", "free run", "time('run_free')"),
    ("r", "restart", "time('restart')"),
    ("v", "guest's screen", "look('guest_screen')"),
    ("1 2 3", "machines", "look('choose_next', 1)"),
]
"""The keys in the bottom row, as many as fit."""

BINDINGS: list[BindingType] = [
    Binding("space", "time('run')", "Run or pause"),
    Binding("n", "time('step')", "Step"),
    Binding("b", "time('step_back')", "Step back"),
    Binding("e", "time('next_exit')", "Next exit"),
    Binding("E,shift+e", "time('previous_exit')", "Previous exit"),
    Binding("f", "time('run_free')", "Run freely"),
    Binding("g", "time('ask_where')", "Go to instruction"),
    Binding("d", "time('go_to_divergence')", "Go to the divergence"),
    Binding("r", "time('restart')", "Restart"),
    Binding("w", "look('next_view')", "Next view of the world switches"),
    Binding("plus,equals_sign", "time('faster', 1)", "Faster"),
    Binding("minus", "time('faster', -1)", "Slower"),
    Binding("1", "look('pane', 1)", "First machine"),
    Binding("2", "look('pane', 2)", "Second machine"),
    Binding("3", "look('pane', 3)", "Third machine"),
    Binding("left", "look('choose_next', -1)", "Previous machine"),
    Binding("right", "look('choose_next', 1)", "Next machine"),
    Binding("up", "look('select', -1)", "Older exit"),
    Binding("down", "look('select', 1)", "Newer exit"),
    Binding("pageup", "look('select', -20)", "A page of exits back"),
    Binding("pagedown", "look('select', 20)", "A page of exits on"),
    Binding("home", "look('select_first')", "The first exit"),
    Binding("end", "look('select_last')", "The newest exit"),
    Binding("enter", "look('card')", "The exit's card"),
    Binding("c", "look('toggle_cursor')", "A cursor in the code"),
    Binding("H", "look('run_here')", "Run to the cursor"),
    Binding("m", "look('inside', 'memory')", "Memory"),
    Binding("t", "look('inside', 'pages')", "Page tables"),
    Binding("T", "look('inside', 'tables')", "Descriptor tables"),
    Binding("R", "look('inside', 'rings')", "Rings"),
    Binding("D", "look('inside', 'devices')", "Devices"),
    Binding("a", "look('address')", "Look at an address"),
    Binding("x", "look('break_here')", "Set or clear a breakpoint"),
    Binding("X", "time('clear_breakpoints')", "Clear all breakpoints"),
    Binding("p", "state('edit')", "Change a register or memory"),
    Binding("v", "look('guest_screen')", "The guest's screen"),
    Binding("k", "state('type')", "Type on the guests' keyboard"),
    Binding("i", "edit", "Edit the program"),
    Binding("L", "state('disk')", "Load a disk image"),
    Binding("S", "state('save')", "Save the session"),
    Binding("G", "glossary", "Glossary"),
    Binding("question_mark,f1", "help", "Help"),
    Binding("h", "app.home", "Home; the session is kept"),
    Binding("escape", "close", "Close what was opened last"),
]
