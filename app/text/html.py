"""A lesson's words as HTML, for handouts and the classroom; nothing is fetched from elsewhere."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from pathlib import Path

from app.text import lesson as lesson_text
from app.text.reports import clean
from lessons import glossary
from lessons.format.parser import TERM

_INLINE = re.compile(
    r"`([^`]+)`|\*\*([^*]+)\*\*|(?<!\*)\*([^*\n]+)\*|\[([^\]\n]+)\]\((https?://[^)\s]+)\)"
)


def picture(file: str, alt: str) -> str:
    """A picture with its data in it. alt: what it shows, in words."""
    kind = mimetypes.guess_type(file)[0] or "image/png"
    data = base64.b64encode(Path(file).read_bytes()).decode()
    return f'<figure><img alt="{escaped(alt)}" src="data:{kind};base64,{data}"></figure>'


def markup(markdown: str) -> str:
    """A paragraph, list, table or piece of code as HTML."""
    lines = markdown.split("\n")
    if lines[0].startswith("```"):
        return f"<pre><code>{escaped(chr(10).join(lines[1:-1]))}</code></pre>"
    if lines[0].startswith(("- ", "1. ")):
        tag = "ul" if lines[0].startswith("- ") else "ol"
        items = re.split(r"\n(?=- |\d+\. )", markdown)
        inner = "".join(f"<li>{inline(re.sub(r'^(- |[0-9]+[.] )', '', item))}</li>" for item in items)
        return f"<{tag}>{inner}</{tag}>"
    if lines[0].startswith("|"):
        return f"<pre>{escaped(lesson_text.plain(markdown))}</pre>"
    return f"<p>{inline(markdown)}</p>"


def inline(markdown: str) -> str:
    """Words with emphasis, code, links, and terms of the glossary with their meaning."""
    escaped = html.escape(clean(markdown), quote=False)
    marked = _INLINE.sub(_styled, escaped)
    return TERM.sub(_term, marked)


def _styled(found: re.Match[str]) -> str:
    code, strong, emphasis, words, address = found.groups()
    if code is not None:
        return f"<code>{code.replace('_', '&#95;')}</code>"
    if strong is not None:
        return f"<strong>{strong}</strong>"
    if emphasis is not None:
        return f"<em>{emphasis}</em>"
    return f'<a href="{html.escape(address)}" rel="noreferrer">{words}</a>'


def _term(found: re.Match[str]) -> str:
    meaning = glossary.explain(found.group(1))
    if meaning is None:
        return found.group(1)
    return f'<dfn title="{escaped(" ".join(meaning[1].split()))}" tabindex="0">{found.group(1)}</dfn>'


def escaped(text: str) -> str:
    """Text for HTML; control characters are shown, not sent."""
    return html.escape(clean(text))


def dedented(text: str) -> str:
    """The lines without the indent that all of them have."""
    lines = text.split("\n")
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)
