"""The Python API: what docs/api.md shows, run; and its refusals."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from machine_lab import needs_assembler, require

from cores import api

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python(?: file=(\S+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PACKAGE = str(ROOT / ".ci" / "package")


@needs_assembler
def test_the_page_runs(tmp_path: Path) -> None:
    """All examples of docs/api.md run in order, in a folder of their own, by the one public name."""
    require("interpreter")
    script = []
    for file, block in BLOCKS:
        if file:
            (tmp_path / file).write_text(block)
        else:
            script.append(block)
    code = f"import sys; sys.path.append({PACKAGE!r})\n" + "\n".join(script)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["True", "0"]
    assert lines[-6:] == ["3 3", "b903000000", "3 A", "8 None", "0 None", "3"], done.stdout


@needs_assembler
def test_one_core_is_changed() -> None:
    """What is set on one core alone parts the machines, and the session says in what."""
    require("trap:portable")
    program = api.Program.assemble("mov ecx, 5\nadd eax, ecx\nmov al, 0\nout 0xf4, al\n")
    with api.Session(program, ["interpreter", "trap:portable"]) as session:
        session.step()
        session.set("rcx", 9, core="interpreter")
        assert session.run("divergence") == "divergence"
        assert session.divergence is not None
        assert "rax" in session.divergence.differs or "rcx" in session.divergence.differs
        assert session["interpreter"]["rcx"] == 9
        assert "<td>rcx</td><td>0x9</td><td>0x5</td>" in session._repr_html_()


@needs_assembler
def test_refusals() -> None:
    """What cannot be is refused in a sentence, and nothing has changed."""
    require("interpreter")
    with pytest.raises(api.InputError, match="no such file"):
        api.Program("there-is-none.s")
    program = api.Program.assemble("here: jmp here")
    with api.Session(program, ["interpreter"]) as session:
        with pytest.raises(api.InputError, match="cannot be set"):
            session.set("cr3", 0)
        with pytest.raises(api.InputError, match="nothing is mapped at 0x0"):
            session.machines[0].read(0, 4)
        with pytest.raises(api.InputError, match=r"is no address, symbol or condition"):
            session.run("nonsense word")
        with pytest.raises(KeyError):
            session["kvm"]
        assert session.here == 0


def test_what_is_shown_is_escaped() -> None:
    """A guest's output cannot become part of a notebook's page."""
    core = api.Core(
        "interpreter", "x", available=True, reason=None, console="<script>alert(1)</script>"
    )
    assert "<script>" not in api.Comparison(True, None, (core,))._repr_html_()


def test_the_names() -> None:
    """The package exports what the module promises."""
    sys.path.insert(0, PACKAGE)
    try:
        import ringscope
    finally:
        sys.path.remove(PACKAGE)
    assert list(ringscope.__all__) == list(api.__all__)
    assert all(getattr(ringscope, name) is getattr(api, name) for name in api.__all__)


@pytest.mark.full
@needs_assembler
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/notebook.ipynb runs in a real Jupyter kernel; comparisons and exits show themselves."""
    pytest.importorskip("ipykernel")
    pytest.importorskip("pandas")
    client, form = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    require("trap:portable")
    monkeypatch.setenv("PYTHONPATH", PACKAGE)
    notebook = form.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert "The cores agree." in shown[0]["text/html"]
    assert "<td>cli</td>" in shown[1]["text/html"]
