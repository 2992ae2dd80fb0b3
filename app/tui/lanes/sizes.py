"""How wide a lane is: by the width of the screen and the number of lanes, and nothing else."""

from __future__ import annotations

from functools import lru_cache

LEAST_WIDTH, LEAST_HEIGHT = 64, 16
"""A smaller screen asks to be made larger."""

_WIDTHS = ((96, 15), (110, 17), (140, 20), (180, 28))
"""(columns of the screen below which, cells of each of three lanes)."""
_WIDEST = 34


@lru_cache(maxsize=16)
def lane_width(width: int, count: int, *, alone: bool, own: bool) -> int:
    """Cells of a lane, with the blank before it. Two machines or one have wider lanes, four have
    narrower ones. alone, own: see ``Scene``."""
    if alone:
        return 8 if width < 110 else 14
    lane = next((cells for below, cells in _WIDTHS if width < below), _WIDEST)
    if count < 3:
        lane = min(_WIDEST, lane + lane // 3)
    elif count > 3:
        lane = min(lane, (width - 24) // count)
    if own:  # sixteen digits and a mark
        lane = max(lane, min(24, (width - 22) // count))
    return lane
