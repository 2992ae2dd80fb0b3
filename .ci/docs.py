"""The API's documentation, made of the docstrings by pdoc: ``python .ci/docs.py OUTPUT``.

It is read in a browser, from OUTPUT/index.html. Nothing is fetched. A module that cannot be imported, a
name that cannot be resolved: every warning fails, and is said in a line.
"""

from __future__ import annotations

import sys
import warnings
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cores", "lessons", "app")
LEFT_OUT = (
    "app.__main__",  # runs the program when it is imported as a script
    "cores.programs.assembler.keystone_child",  # a process of its own, without these packages
    "cores.pc.boot.build_bootcode",
)
LIMITS_OF_PDOC = (
    r"Error parsing type annotation (VisualType|ClassVar\[list\[BindingType)",
    r"Error parsing type annotation ForwardRef\(.*\.__init__\. ",
    r"(Error parsing|Failed to run TYPE_CHECKING code while parsing)( type annotation)? pandas\.",
)
"""Not ours to mend: annotations that widgets have from Textual are evaluated in our modules, and those
of a NamedTuple in the module that ``collections`` makes for it; pandas need not be installed."""


def _is_shown(kind: type) -> bool:
    """What widgets inherit from Textual is documented there; here it would take 60 MB."""
    return kind.__module__.partition(".")[0] != "textual"


def main(output: Path) -> int:
    """Write the pages; gives the number of warnings, at most 125."""
    sys.path.insert(0, str(ROOT))
    import pdoc
    import pdoc.doc
    import pdoc.render

    pdoc.render.configure(footer_text="Ringscope", show_source=False, include_undocumented=False)
    inherited = pdoc.doc.Class._bases.func
    shown = cached_property(lambda cls: tuple(base for base in inherited(cls) if _is_shown(base)))
    shown.__set_name__(pdoc.doc.Class, "_bases")
    pdoc.doc.Class._bases = shown
    specs = [*PACKAGES, *(f"!{name}" for name in LEFT_OUT)]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for limit in LIMITS_OF_PDOC:
            warnings.filterwarnings("ignore", message=limit)
        pdoc.pdoc(*specs, output_directory=output)
    told = sorted({str(warning.message).strip() for warning in found})
    for words in told:
        print(f"warning: {words}", file=sys.stderr)
    pages = len(list(output.rglob("*.html")))
    print(f"{pages} pages in {output}")
    return min(len(told), 125)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
