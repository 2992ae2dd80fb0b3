"""The palette: three themes, and what each kind of text looks like in them.

Widgets name a *role* ("dim", "changed", "cpu"); only this file knows colours. Colour says who works,
and nothing else: the CPU itself, software, or the host while the guest is left. Each of these has a
sign, too, so that the screen reads the same without colour (NO_COLOR, a printout, a colour-blind
eye).
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
    soft: str
    """Software works."""
    cpu: str
    """The CPU itself works."""
    host: str
    """The guest was left: the host works."""
    changed: str
    bad: str
    dark: bool


NIGHT = Palette(
    background="#0f1318", raised="#1e2a38", text="#d3dae2", dim="#8c97a6", faint="#647080",
    title="#f4f7fa", soft="#8ab4e8", cpu="#7fcf9f", host="#f0b35f",
    changed="#f6e3a1", bad="#ff8f88", dark=True,
)  # fmt: skip

DAY = Palette(
    background="#fbf9f5", raised="#e3e9f0", text="#262c33", dim="#58616c", faint="#8b8880",
    title="#000000", soft="#1f5fae", cpu="#0f6b3f", host="#984e00",
    changed="#6f4600", bad="#b3211b", dark=False,
)  # fmt: skip

CONTRAST = Palette(
    background="#000000", raised="#1c1c50", text="#ffffff", dim="#e0e0e0", faint="#b0b0b0",
    title="#ffffff", soft="#80d0ff", cpu="#60ffa0", host="#ffd000",
    changed="#ffff60", bad="#ff9090", dark=True,
)  # fmt: skip

PALETTES = {"ringscope-night": NIGHT, "ringscope-day": DAY, "ringscope-contrast": CONTRAST}
DEFAULT_THEME = "ringscope-night"


def themes() -> list[Theme]:
    """The palettes as Textual themes, for the parts of the screen that Textual draws itself."""
    return [
        Theme(
            name=name,
            primary=p.soft,
            secondary=p.host,
            accent=p.host,
            warning=p.host,
            error=p.bad,
            success=p.cpu,
            foreground=p.text,
            background=p.background,
            surface=p.background,
            panel=p.raised,
            dark=p.dark,
            variables={
                "border": p.faint,
                "border-blurred": p.faint,
                "footer-key-foreground": p.host,
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
        "soft": Style(color=p.soft),
        "soft-bold": Style(color=p.soft, bold=True),
        "cpu": Style(color=p.cpu),
        "cpu-bold": Style(color=p.cpu, bold=True),
        "host": Style(color=p.host),
        "host-bold": Style(color=p.host, bold=True),
        "interpreter": Style(color=p.title, bold=True),
        "trap": Style(color=p.title, bold=True),
        "kvm": Style(color=p.title, bold=True),
        "changed": Style(color=p.changed, bold=True),
        "read": Style(color=p.text, underline=True),
        "exit": Style(color=p.host, bold=True),
        "bad": Style(color=p.bad, bold=True),
        "good": Style(color=p.cpu),
        "key": Style(color=p.title, bold=True),
        "bar": Style(color=p.host),
        "running": Style(color=p.background, bgcolor=p.host, bold=True),
        "cursor": Style(color=p.background, bgcolor=p.text),
        "screen": Style(color=p.text, bgcolor=p.raised),
    }
    ground = Style(bgcolor=p.background)
    raised = Style(bgcolor=p.raised)
    return {
        **{role: ground + style for role, style in plain.items()},
        **{role + "@": raised + style for role, style in plain.items()},
    }
