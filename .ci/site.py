"""The documentation as a site: ``python .ci/site.py`` makes ``build/site`` of the Markdown files.

The pages keep their places, so that their links to each other hold; files that they link to are put
beside them. MkDocs is strict: a link or a heading that does not exist fails the build, and is named.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "pages"
_PAGE = re.compile(r"^ *- (?:[^:]+: )?(\S+\.md)$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)([^)]*)\)")
_CODE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^(`{3,}\w+) .*$", re.MULTILINE)
"""Our tests read more than the language there; the site's Markdown would not take it for code."""


def page(name: str, linked: set[Path]) -> str:
    """A page's text. Links to folders and hidden files, which a site does not have, become their words;
    other files that it links to are added to ``linked``."""
    folder = (ROOT / name).parent

    def change(link: re.Match[str]) -> str:
        words, target, _ = link.groups()
        if "://" in target:
            return link[0]
        path = (folder / target).resolve()
        if path.is_dir() or (path.is_file() and "/." in f"/{path.relative_to(ROOT)}"):
            return words
        if path.is_file():
            linked.add(path.relative_to(ROOT))
        return link[0]

    text = (ROOT / name).read_text(encoding="utf-8")
    pieces, at = [], 0
    for code in _CODE.finditer(text):
        pieces += [_LINK.sub(change, text[at : code.start()]), _FENCE.sub(r"\1", code[0], count=1)]
        at = code.end()
    return "".join([*pieces, _LINK.sub(change, text[at:])])


def main() -> int:
    config = Path(__file__).with_name("mkdocs.yml")
    names = _PAGE.findall(config.read_text(encoding="utf-8"))
    shutil.rmtree(PAGES, ignore_errors=True)
    linked: set[Path] = set()
    for name in names:
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(page(name, linked), encoding="utf-8")
    for path in linked - set(map(Path, names)):
        (PAGES / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, PAGES / path)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, check=False, env=quiet).returncode


if __name__ == "__main__":
    sys.exit(main())
