"""What is looked at: a machine, a view, one of its exits, a line of the program, its inside."""

from __future__ import annotations

from app.text import narration
from app.tui.lanes import full, registers
from app.tui.lanes.hot import choices
from app.tui.lanes.log import Events
from app.tui.lanes.program import listing
from app.tui.lanes.scene import VIEWS, Lane, all_lanes, kind
from app.tui.lanes.ways import told
from app.tui.rows import places
from app.tui.rows.machine_parts import title as kind_title
from app.tui.rows.registers import program_counter
from cores.debugging import breakpoints
from cores.inspection.views import CodeQuery, CodeView, EventsQuery, EventsView, Query
from cores.machine.report import CodeLine, MachineSnapshot
from cores.vmm.trace import ExitEvent
from cores.x86.registers import STATE_NAMES

from ..ask import Ask
from ..pick import Pick
from ..sheet import ExitSheet, card_sheet, sheet_width
from .host import Host
from .inside import Inside
from .time import TimeController

EDGE = 8
"""Lines before the end of those at hand at which picking a line asks for more."""
FETCH = 200
"""Events fetched at a time, from a multiple of so many on."""


class LookingController:
    """chosen: the core whose exits and inside are shown, "" before there is one. hidden: cores without
    a lane. view: see ``Scene``. selected: number of the chosen exit, None: the newest. picked: address
    of the line that keys point at, None without one. own, alone, projector: see ``Scene``. aside: the
    lesson's page makes room for the session's views. first: rows of ``own`` scrolled over.
    pointed, pointed_at: registers and a place in the code that a lesson points at."""

    def __init__(self, host: Host, time: TimeController) -> None:
        self._host, self._time = host, time
        self.inside = Inside()
        self.chosen = ""
        self.hidden: set[str] = set()
        view = host.settings.view
        self.view = view if view in VIEWS else VIEWS[0]
        self.selected: int | None = None
        self.picked: int | None = None
        self.own = self.alone = self.projector = self.aside = False
        self.first = 0
        self.pointed: frozenset[str] = frozenset()
        self.pointed_at: int | None = None
        self._around = 0  # the address whose surroundings are picked from
        self._lines: tuple[CodeLine, ...] = ()

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever the screen has to be drawn anew."""
        return (
            self.chosen, frozenset(self.hidden), self.view, self.selected, self.picked, self.own,
            self.alone, self.projector, self.aside, self.first, self.pointed, self.pointed_at,
            self.inside.state,
        )  # fmt: skip

    @property
    def machine(self) -> MachineSnapshot | None:
        """The chosen one."""
        s = self._host.snapshot
        if s is None or not s.machines:
            return None
        if not any(m.core == self.chosen for m in s.machines):
            trap = next((m for m in s.machines if kind(m.core) == "trap"), s.machines[0])
            self.chosen = trap.core
        return next(m for m in s.machines if m.core == self.chosen)

    def lanes(self) -> tuple[Lane, ...]:
        """The columns in sight: at least one."""
        s = self._host.snapshot
        if s is None:
            return ()
        lanes = all_lanes(s)
        return tuple(lane for lane in lanes if lane.core not in self.hidden) or lanes[:1]

    def let_go(self) -> None:
        """The machines move: neither a chosen exit nor a picked line stays."""
        self.selected = None
        if self.picked is not None:
            self.pick(None)

    def close(self) -> bool:
        """Close what was opened last, one level; False where nothing is open."""
        if self.picked is not None:
            self.pick(None)
        elif self.selected is not None:
            self.selected = None
        elif self.inside.tab:
            self.inside.open("")
        elif self.own:
            self.own = False
        elif self.aside:
            self.aside = False
        elif self.alone or self.projector:
            self.alone = self.projector = False
        else:
            return False
        self._host.stale()
        return True

    @property
    def open(self) -> bool:
        """Is there anything for ``close``?"""
        return bool(
            self.picked is not None or self.selected is not None or self.inside.tab or self.own
            or self.aside or self.alone or self.projector
        )  # fmt: skip

    # -- views --------------------------------------------------------------------------------

    def next_view(self) -> None:
        """Three ways, conversation, reasons, log, and again. In a lesson the first press shows the
        present one in the place of the page."""
        if self._host.has_page and not self.aside:
            self.aside = True
        elif self.inside.tab or self.own:
            self.inside.open("")
            self.own = False
        else:
            s = self._host.snapshot
            views = VIEWS if s is None or s.mode == "exact" else ("reasons", "log")
            now = self.view if self.view in views else views[-1]
            self.view = views[(views.index(now) + 1) % len(views)]
            self._host.settings.view = self.view
        self.selected = None
        self._host.stale()

    def registers(self) -> None:
        """Each machine's own registers, and back."""
        self.own, self.first = not self.own, 0
        self.alone = self.projector = False
        self.inside.open("")
        self._host.stale()

    def program(self) -> None:
        """The program alone, and back."""
        self.alone = not self.alone
        self.own = self.projector = False
        self.inside.open("")
        self._host.stale()

    def projected(self) -> None:
        """For those at the back, and back."""
        self.projector = not self.projector
        self.own = self.alone = False
        self.inside.open("")
        self._host.stale()

    # -- machines and their exits -------------------------------------------------------------

    def lane(self, number: int) -> None:
        """Show or hide a machine. One stays."""
        s = self._host.snapshot
        if s is None:
            return
        lanes = all_lanes(s)
        core = next((lane.core for lane in lanes if lane.number == number), None)
        if core is None:
            return
        if core in self.hidden:
            self.hidden.discard(core)
        elif len(lanes) - len(self.hidden) > 1:
            self.hidden.add(core)
        self._host.stale()

    def choose(self, core: str) -> None:
        self.chosen, self.selected = core, None

    def choose_next(self, by: int) -> None:
        """Another machine's exits, or inside."""
        s = self._host.snapshot
        if s is None or self.machine is None:
            return
        cores = [m.core for m in s.machines]
        self.choose(cores[(cores.index(self.chosen) + by) % len(cores)])
        self._host.stale()

    def select(self, by: int) -> None:
        """Scroll what is open; choose an exit in the log; else pick a line of the program."""
        if self.inside.tab:
            self.inside.scroll(by)
        elif self.own:
            self._scroll_registers(by)
        elif self.view == "log" and self.picked is None and not self.alone and not self.projector:
            self._select_exit(by)
        else:
            self._pick_next(by)
            return
        self._host.stale()

    def select_first(self) -> None:
        self.select(-100_000)

    def select_last(self) -> None:
        self.select(100_000)

    def _scroll_registers(self, by: int) -> None:
        scene = self._host.scene()
        if scene is not None:
            self.first = max(0, min(self.first + by, registers.own_count(scene) - 5))

    def _select_exit(self, by: int) -> None:
        m = self.machine
        if m is None:
            return
        shown = Events(m, self.selected)
        if shown.current is None:
            return
        at = shown.current + by if self.selected is not None or by < 0 else shown.current
        self.selected = None if at >= shown.total else max(0, at)

    def events(self, m: MachineSnapshot) -> tuple[Events, frozenset[Query]]:
        """The exits to be shown, and what must be asked of the worker for them."""
        shown = Events(m, self.selected)
        if shown.here:
            return shown, frozenset()
        first = max(0, (shown.current or 0) // FETCH - 1) * FETCH
        fetch = EventsQuery(m.core, first, 3 * FETCH)
        view = self._host.worker.views.get(fetch)
        if isinstance(view, EventsView):
            shown = Events(m, self.selected, view.events, view.first)
        return shown, frozenset({fetch})

    def full(self) -> None:
        """The instruction in full, on every machine; of the chosen exit of the log its card."""
        if self.selected is not None:
            self._card()
            return
        scene = self._host.scene()
        width = sheet_width(self._host.columns, 104)
        found = None if scene is None else full.full_rows(scene, width - 4)
        if found is None:
            quiet = scene is not None and scene.quiet
            asks = "The lesson asks about this program: an answer, then all is told"
            self._host.say(asks if quiet else "n does one instruction; then there is something to tell")
            return
        title, rows = found
        self._host.open(ExitSheet(title, rows, width, self.draw_exits if self._exits() else None))

    def _card(self) -> None:
        """The chosen exit's card; what it changed is found by executing it once more."""
        m = self.machine
        if m is None:
            return
        shown, _ = self.events(m)
        number, event = shown.current, shown.event
        if number is None or event is None:
            return
        core = m.core
        s = self._host.snapshot
        place = "" if s is None else places.both(s, event.rip)
        sheet = card_sheet(
            narration.card(event, m, number + 1, place), self._host.columns, self.draw_exits
        )
        self._host.open(sheet)
        if s is not None and s.mode == "exact" and not s.running:
            answer = self._host.worker.ask(lambda session: session.around(core, number))
            self._host.when_done(answer, sheet.add_changes)

    def draw_exits(self) -> None:
        """Save the exits that are spoken of, as a sequence diagram of their world switches."""
        if not self._host.files.all:
            self._host.say("No picture can be saved in this session", warning=True)
            return
        exits = self._exits()
        if not exits:
            self._host.say("No guest was left here: e goes to the next exit, W draws it")
            return
        from app.text.sequence import diagram
        from app.tui import pictures

        try:
            path = pictures.save_svg(diagram(exits.items()))
        except OSError as error:
            self._host.say(f"{error.filename or pictures.folder()}: {error.strerror}", warning=True)
        else:
            self._host.say(f"The world switch on {' and on '.join(exits)} is saved as {path}")

    def _exits(self) -> dict[str, ExitEvent]:
        """By core: of the chosen exit that, else those of the instruction that is told of; running
        freely, where none is, the newest."""
        m, scene = self.machine, self._host.scene()
        if m is None or scene is None:
            return {}
        if self.selected is not None:
            chosen = self.events(m)[0].event
            return {} if chosen is None else {m.core: chosen}
        if not scene.free:
            it = told(scene)
            found = {} if it is None else it.events
        else:
            found = {x.core: x.events[-1] for x in scene.s.machines if x.events}
        return {core: event for core, event in found.items() if kind(core) != "interpreter"}

    # -- a line of the program ----------------------------------------------------------------

    def pick(self, address: int | None) -> None:
        """Point at the line there; None: at none."""
        self.picked = address
        if address is None:
            self._lines = ()
        self._host.stale()

    def _pick_next(self, by: int) -> None:
        m, scene = self.machine, self._host.scene()
        if m is None or scene is None:
            return
        addresses = [x.address for x in listing(scene).lines if x.address is not None]
        if not addresses:
            return
        now = self.picked if self.picked is not None else program_counter(m)
        if self.picked is None:
            self._around = now
        at = addresses.index(now) if now in addresses else len(addresses) // 2
        wanted = at + by
        at = min(max(0, wanted), len(addresses) - 1)
        if not EDGE <= wanted < len(addresses) - EDGE:  # look further on, from there
            self._around = addresses[at]
        self.pick(addresses[at])

    @property
    def code_query(self) -> CodeQuery | None:
        """The query to the worker that a picked line needs: disassembly further on."""
        m = self.machine
        return None if m is None or self.picked is None else CodeQuery(m.core, self._around)

    def code(self, m: MachineSnapshot) -> tuple[CodeLine, ...]:
        """The disassembly from which lines are picked, once the worker has seen it."""
        if self.picked is None:
            return m.code
        view = self._host.worker.views.get(CodeQuery(m.core, self._around))
        if isinstance(view, CodeView) and any(self.picked == line.address for line in view.lines):
            self._lines = view.lines
        return self._lines or m.code

    def break_here(self) -> None:
        """A breakpoint at the picked line; without one the user is asked where."""
        if self.picked is None:
            self._time.ask_breakpoint()
        else:
            self._time.toggle(breakpoints.AtAddress(self.picked))

    def run_here(self) -> None:
        """Run until the machines stand at the picked line."""
        if self.picked is None:
            self._host.say("Pick a line with up and down; u runs until the machines stand there")
        else:
            self._time.run_to(self.picked)

    def hot(self) -> None:
        """The lines and functions at which the chosen machine left its guest most, to pick one."""
        s, m = self._host.snapshot, self.machine
        if s is None or m is None:
            return
        width = sheet_width(self._host.columns, 110)
        rows = choices(s, m, width - 8)
        if not rows:
            emulator = kind(m.core) == "interpreter"
            words = "An emulator's guest is never left" if emulator else "It has not been left yet"
            others = ": left and right choose another machine" if len(s.machines) > 1 else ""
            self._host.say(words + others)
            return

        def chosen(name: str | None) -> None:
            if name is not None:
                self._around = rows[name]
                self.pick(rows[name])

        title = f"Where {kind_title(m.core)} left its guest most; Enter goes there"
        self._host.choose(Pick(title, list(rows), width=width), chosen)

    # -- inside -------------------------------------------------------------------------------

    def look_inside(self, tab: str) -> None:
        """Open the inside of the chosen machine at a tab; the same key closes it."""
        m = self.machine
        if m is not None:
            self.inside.core = m.core
        self.own = self.alone = self.projector = False
        self.inside.open("" if self.inside.tab == tab else tab)
        self._host.stale()

    def address(self) -> None:
        """Have memory and page tables follow an address, or a register."""
        s = self._host.snapshot
        if s is None:
            return
        symbols = places.named(s)

        def answered(text: str) -> None:
            name = text.strip()
            if not name:
                return
            at = breakpoints.address(name, symbols)
            if name.lower() in STATE_NAMES:
                self.inside.follow(name.lower())
            elif at is not None:
                self.inside.follow(at)
            else:
                self._host.say(f"{name!r} is no address, symbol or register", warning=True)
            if self.inside.tab not in ("memory", "pages"):
                self.look_inside("memory")
            self._host.stale()

        hint = "An address, a symbol, or a register to follow"
        now = str(self.inside.where) if self.picked is None else f"{self.picked:x}"
        self._host.ask(Ask("Look where?", "rsp", now, hint), answered)

    # -- the guest ----------------------------------------------------------------------------

    def guest_screen(self) -> None:
        """The guest's terminal, which takes the keyboard."""
        self._host.terminal()
