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
    found = {term.strip(): text.strip() for term, text in pairs}
    return dict(sorted(found.items(), key=lambda pair: pair[0].casefold()))


def explain(word: str) -> tuple[str, str] | None:
    """A term as the glossary has it, with its explanation; plural, case and hyphens do not matter."""
    wanted = _plain(word)
    for term, text in terms().items():
        if wanted in (_plain(name) for name in term.split(", ")):
            return term, text
    return None


def occurring(text: str) -> list[str]:
    """The terms that a text uses, as the glossary has them, in the text's order; of two that begin at
    the same word the longer first."""
    words = f" {_plain(re.sub(r'[^0-9A-Za-z]+', ' ', text))} "
    places = {
        term: min((at for name in term.split(", ") if (at := _place(words, name)) >= 0), default=-1)
        for term in terms()
    }
    used = [term for term, at in places.items() if at >= 0]
    return sorted(used, key=lambda term: (places[term], -len(term)))


def _place(words: str, name: str) -> int:
    """Index at which a word or its plural begins; -1: nowhere."""
    found = re.search(rf" {re.escape(_plain(name))}(s|es)? ", words)
    return found.start() if found else -1


def _plain(word: str) -> str:
    flat = " ".join(word.casefold().replace("-", " ").split())
    if flat.endswith(("ches", "shes", "xes")):
        return flat[:-2]
    return flat[:-1] if flat.endswith("s") and not flat.endswith("ss") else flat
