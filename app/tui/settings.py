"""Settings kept from one run to the next: theme, view, speed, the last program.

One small JSON file in the user's configuration directory. A file that is missing, broken or not
writable is no error: the settings then begin anew, or are not kept.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from platformdirs import user_config_path

from cores.atomic_file import replacing

LESSON = "lesson:"
"""Before a lesson's name, in ``last``."""


@dataclass
class Settings:
    """theme: a theme's name. view: of the world switches. speed: instructions a second, 0 for as
    fast as it goes. last: the program that was open last, or the lesson; "" for none."""

    theme: str = ""
    view: str = ""
    speed: float = 0.0
    last: str = ""

    def save(self) -> None:
        path = _path()
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(json.dumps(asdict(self), indent=1).encode() + b"\n")


def load() -> Settings:
    """Read the saved settings; unknown and mistyped entries are left out."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Settings()
    if not isinstance(found, dict):
        return Settings()
    settings = Settings()
    for field in fields(Settings):
        value = found.get(field.name)
        if isinstance(value, (int, float)) and field.name == "speed":
            settings.speed = float(value)
        elif isinstance(value, str) and field.name != "speed":
            setattr(settings, field.name, value)
    return settings


def _path() -> Path:
    """RINGSCOPE_CONFIG names another directory."""
    chosen = os.environ.get("RINGSCOPE_CONFIG")
    return (Path(chosen) if chosen else user_config_path("ringscope")) / "settings.json"
