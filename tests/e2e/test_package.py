"""The wheel, built from this tree and installed beside another package called ``app``."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("hatchling", "hatch_fancy_pypi_readme")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

BUILD = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
FOREIGN = "raise RuntimeError('the app of another project was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-P", "-c", BUILD, str(folder)], cwd=ROOT, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return folder / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, its dependencies, and another package called app."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([str(python), "-c", where], check=True, capture_output=True, text=True)
    packages = Path(found.stdout.strip())
    with zipfile.ZipFile(wheel) as archive:  # as pip unpacks a wheel of pure Python
        archive.extractall(packages)
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)))
    (packages / "app").mkdir()
    (packages / "app" / "__init__.py").write_text(FOREIGN)
    return python


def ringscope(python: Path, folder: Path, *words: str, text: str = "") -> str:
    """The output of the command, run in a project with an app/ folder of its own on PYTHONPATH."""
    (folder / "app").mkdir(exist_ok=True)
    (folder / "app" / "__init__.py").write_text(FOREIGN)
    done = subprocess.run(
        [str(python), "-m", "ringscope", *words], cwd=folder, input=text, capture_output=True,
        text=True, check=False, env=os.environ | {"PYTHONPATH": ".", "RINGSCOPE_CONFIG": str(folder)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_name_at_the_top(wheel: Path) -> None:
    """All files are under ``ringscope``, the command leads there, and there are no caches or tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"ringscope"}
    assert "ringscope = ringscope.__main__:main" in entry
    assert {"ringscope/py.typed", "ringscope/_src/assets/guests/hello.s"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_the_readme_on_a_package_index(wheel: Path) -> None:
    """The metadata has no link or picture that needs the repository."""
    metadata = _metadata(wheel)
    readme = str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# Ringscope" in readme
    assert "](" not in readme.replace("](http", "")


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_a_guest_on_every_core(python: Path, tmp_path: Path) -> None:
    """`compare hello` from the wheel finds shipped guests and images, and the cores agree."""
    report = json.loads(ringscope(python, tmp_path, "compare", "hello", "--json"))
    assert report["equivalent"] is True
    ran = [core for core in report["cores"] if core["available"]]
    assert {core["console"] for core in ran} == {"Hello from ring 0, or so I believe.\n"}


def test_what_needs_processes_of_its_own(python: Path, tmp_path: Path) -> None:
    """The doctor's probes, a lesson and the assembler's child process work from the wheel."""
    assert "interpreter" in ringscope(python, tmp_path, "doctor")
    assert "two-ways" in ringscope(python, tmp_path, "lessons")
    if importlib.util.find_spec("keystone") is not None:
        source = "mov al, 65; out 0xe9, al; out 0xf4, al"
        told = ringscope(
            python, tmp_path, "compare", "-", "--cores", "interpreter", "--json", text=source
        )
        assert json.loads(told)["cores"][0]["console"] == "A"


def test_it_starts_itself_again(python: Path, tmp_path: Path) -> None:
    """The command for a second process (recording, benchmarks) starts the installed program."""
    code = (
        "import subprocess, sys; from ringscope.__main__ import main; from app.main import again;"
        "sys.exit(subprocess.run(again('--version')).returncode)"
    )
    done = subprocess.run(
        [str(python), "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": "."},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ringscope ")


def untracked() -> str | None:
    """The reason why pyroma cannot run here: check-manifest needs the files that git tracks."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return "this is no git checkout"
    status = ["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=normal"]
    told = subprocess.run(status, capture_output=True, text=True, check=False)
    return "files that git does not know lie in the tree" if "??" in told.stdout else None


@pytest.mark.full
@pytest.mark.parametrize("tool", ["check_wheel_contents", "pyroma"])
def test_the_tools_of_packagers(tool: str, wheel: Path) -> None:
    """check-wheel-contents finds nothing; pyroma, which asks check-manifest, gives 9 of 10.

    The tenth point is for an address to write to and a page to visit; there are none to name yet.
    """
    pytest.importorskip(tool, reason=f"{tool} is not installed")
    command = [str(wheel)]
    if tool == "pyroma":
        pytest.importorskip("check_manifest", reason="check-manifest is not installed")
        if reason := untracked():
            pytest.skip(reason)
        command = ["--min=9", str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-m", tool, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
def test_installed_by_pip(tmp_path: Path) -> None:
    """`pip install FOLDER`, with all it fetches: the command runs."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", str(ROOT)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr or "Failed to establish" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    command = [str(venv / "bin" / "ringscope"), "compare", "hello", "--cores", "interpreter"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello from ring 0" in done.stdout
