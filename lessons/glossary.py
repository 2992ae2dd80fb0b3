"""The words of the course, each explained in a few plain sentences (glossary.md)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).resolve().parent / "glossary.md"


@cache
def terms() -> dict[str, str]:
    """Term -> its explanation in Markdown, in alphabetical order."""
    parts = re.split(r"^## (.+)$", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return dict(sorted((term.strip(), text.strip()) for term, text in pairs))


def explain(word: str) -> tuple[str, str] | None:
    """A term as the glossary has it, with its explanation; plural, case and hyphens do not matter."""
    wanted = _plain(word)
    for term, text in terms().items():
        if wanted in (_plain(name) for name in term.split(", ")):
            return term, text
    return None


def _plain(word: str) -> str:
    flat = " ".join(word.casefold().replace("-", " ").split())
    if flat.endswith(("ches", "shes", "xes")):
        return flat[:-2]
    return flat[:-1] if flat.endswith("s") and not flat.endswith("ss") else flat
