"""The palette: three themes, and what each kind of text looks like in them.

Widgets name a *role* ("dim", "changed", "exit"); only this file knows colours. Every role that
carries meaning has a weight or stands beside a symbol, so that the screen reads the same without
colour (NO_COLOR, a printout, a colour-blind eye).
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style
from textual.theme import Theme


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one theme, as #rrggbb."""

    background: str
    raised: str
    """Behind the next instruction and the chosen row."""
    text: str
    dim: str
    faint: str
    """Borders and rules."""
    title: str
    interpreter: str
    trap: str
    kvm: str
    changed: str
    bad: str
    good: str
    dark: bool


NIGHT = Palette(
    background="#10141a", raised="#1f2935", text="#cdd5de", dim="#8791a0", faint="#566273",
    title="#eef2f6", interpreter="#86aed6", trap="#dfb077", kvm="#8cc0a4",
    changed="#f0d9a0", bad="#ee8a84", good="#8cc0a4", dark=True,
)  # fmt: skip

DAY = Palette(
    background="#faf8f4", raised="#e9e6de", text="#2a3038", dim="#5b636e", faint="#929597",
    title="#0c1016", interpreter="#205c95", trap="#8f540c", kvm="#21694a",
    changed="#6f4600", bad="#b02a24", good="#21694a", dark=False,
)  # fmt: skip

CONTRAST = Palette(
    background="#000000", raised="#1c1c50", text="#ffffff", dim="#e0e0e0", faint="#b0b0b0",
    title="#ffffff", interpreter="#80d0ff", trap="#ffd000", kvm="#60ffa0",
    changed="#ffff60", bad="#ff9090", good="#60ffa0", dark=True,
)  # fmt: skip

PALETTES = {"ringscope-night": NIGHT, "ringscope-day": DAY, "ringscope-contrast": CONTRAST}
DEFAULT_THEME = "ringscope-night"


def themes() -> list[Theme]:
    """The palettes as Textual themes, for the parts of the screen that Textual draws itself."""
    return [
        Theme(
            name=name,
            primary=p.interpreter,
            secondary=p.trap,
            accent=p.trap,
            warning=p.trap,
            error=p.bad,
            success=p.good,
            foreground=p.text,
            background=p.background,
            surface=p.background,
            panel=p.raised,
            dark=p.dark,
            variables={
                "border": p.faint,
                "border-blurred": p.faint,
                "footer-key-foreground": p.trap,
                "input-selection-background": p.raised,
            },
        )
        for name, p in PALETTES.items()
    ]


def styles(theme: str) -> dict[str, Style]:
    """Role -> style. A role ending in "@" is the same text on the raised background; unknown
    themes (a user's choice of Textual's own) get the night palette's weights."""
    p = PALETTES.get(theme, NIGHT)
    plain = {
        "text": Style(color=p.text),
        "strong": Style(color=p.title, bold=True),
        "dim": Style(color=p.dim),
        "faint": Style(color=p.faint),
        "comment": Style(color=p.dim, italic=True),
        "interpreter": Style(color=p.interpreter, bold=True),
        "trap": Style(color=p.trap, bold=True),
        "kvm": Style(color=p.kvm, bold=True),
        "changed": Style(color=p.changed, bold=True),
        "read": Style(color=p.text, underline=True),
        "exit": Style(color=p.trap, bold=True),
        "bad": Style(color=p.bad, bold=True),
        "good": Style(color=p.good),
        "key": Style(color=p.trap),
        "bar": Style(color=p.trap),
        "screen": Style(color=p.text, bgcolor=p.raised),
    }
    ground = Style(bgcolor=p.background)
    raised = Style(bgcolor=p.raised)
    return {
        **{role: ground + style for role, style in plain.items()},
        **{role + "@": style + raised for role, style in plain.items()},
    }
