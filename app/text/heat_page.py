"""The heat of a program as one HTML page: what is hot is red, and nothing is fetched from elsewhere."""

from __future__ import annotations

from math import log

from app.text.heat import Heat, Spot
from app.text.html import escaped
from cores.plural import counted
from cores.programs.program import Program

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       background: #fff; color: #1b1b1f }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600 } th, td { padding: .1rem .6rem; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
code, pre { font: 14px/1.5 ui-monospace, monospace; white-space: pre-wrap }
tr.h { background: linear-gradient(90deg, hsl(8 85% calc(96% - var(--t) * 36%)), transparent 85%) }
@media (prefers-color-scheme: dark) {
  body { background: #16161a; color: #e6e6ea }
  tr.h { background: linear-gradient(90deg, hsl(8 70% calc(14% + var(--t) * 26%)), transparent 85%) } }
"""


def page(heat: Heat, by: str, program: Program, core: str, mode: str) -> str:
    """The whole file: the hottest places, and below them the source with its heat where it is known."""
    spots = heat.spots(by)
    exits, ns = sum(s.exits for s in spots), sum(s.ns for s in spots)
    hottest = max((s.exits for s in spots), default=0)
    rows = "".join(_row(heat, spot, exits, hottest) for spot in spots)
    title = f"Where {program.path} leaves its guest"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escaped(title)}</title><style>{_STYLE}</style></head>
<body><h1>{escaped(title)}</h1>
<p>{escaped(core)}, {escaped(mode)} mode: {counted(exits, "exit")}, {ns / 1e6:,.2f} ms of host time,
both world switches included. The redder, the more exits.</p>
<table><thead><tr><th>exits</th><th>share</th><th>time</th><th>{escaped(by)}</th><th>what stands
there</th><th>reasons</th></tr></thead><tbody>
{rows}</tbody></table>
{_listing(heat, program)}</body></html>
"""


def warmth(exits: int, hottest: int) -> float:
    """0 to 1 by the logarithm: a place that exits ten times less often is still to be seen."""
    return log(1 + exits) / log(1 + hottest) if hottest else 0.0


def _row(heat: Heat, spot: Spot, total: int, hottest: int) -> str:
    share = f"{100 * spot.exits / total:.1f} %" if total else ""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in spot.reasons.most_common())
    return (
        f'<tr class="h" style="--t:{warmth(spot.exits, hottest):.2f}"><td class="n">{spot.exits:,}</td>'
        f'<td class="n">{share}</td><td class="n">{spot.ns / 1000:,.0f} µs</td>'
        f"<td><code>{escaped(spot.place)}</code></td><td><code>{escaped(heat.text_of(spot))}</code></td>"
        f"<td>{escaped(reasons)}</td></tr>\n"
    )


def _listing(heat: Heat, program: Program) -> str:
    """The program's source, each line as hot as it is."""
    if not program.source:
        return ""
    by_line = {program.lines[s.address]: s for s in heat.spots("line") if s.address in program.lines}
    hottest = max((spot.exits for spot in by_line.values()), default=0)
    rows = []
    for number, text in enumerate(program.source, 1):
        spot = by_line.get(number)
        count = f"{spot.exits:,}" if spot is not None and spot.exits else ""
        warm = warmth(spot.exits, hottest) if spot is not None else 0
        mark = f' class="h" style="--t:{warm:.2f}"' if count else ""
        rows.append(
            f'<tr{mark}><td class="n">{count}</td><td class="n">{number}</td>'
            f"<td><code>{escaped(text)}</code></td></tr>\n"
        )
    return f"<h2>The source</h2><table><tbody>\n{''.join(rows)}</tbody></table>\n"
