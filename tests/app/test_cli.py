"""The command line: accepted input, refusals, and exit codes."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.main import COMMANDS, VERSION, again, main
from cores.engines import registry
from cores.programs.assembler import keystone

ROOT = Path(__file__).resolve().parents[2]
HELLO = str(ROOT / "assets/guests/hello.s")
GREETING = "Hello from ring 0, or so I believe.\n"


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """A flat guest that puts an A on the console and exits with 65."""
    path = tmp_path / "a.bin"
    path.write_bytes(bytes.fromhex("b041 e6e9 e6f4"))
    return str(path)


def spin(tmp_path: Path) -> str:
    path = tmp_path / "spin.bin"
    path.write_bytes(b"\xeb\xfe")
    return str(path)


def ringscope(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        again(*arguments),
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, timeout=240,
    )  # fmt: skip


def test_compare_json(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`compare --json` has the contract's keys, number formats and values."""
    assert main(["compare", guest, "--cores", "interpreter,trap", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"schema", "program", "mode", "equivalent", "divergence", "cores", "peers"}
    assert (report["schema"], report["mode"], report["equivalent"]) == (1, "exact", True)
    assert report["divergence"] is None
    program = report["program"]
    assert set(program) == {"path", "format", "entry", "size", "sha256"}
    assert (program["format"], program["entry"], program["size"]) == ("flat", "0x100000", 6)
    for core in report["cores"]:
        assert set(core) == {
            "core", "engine", "available", "reason", "stop", "exit_status", "instructions", "exits",
            "exits_by_reason", "device_accesses", "bridged", "console", "screen", "registers",
            "cpu_mode", "memory_sha256", "notes", "seconds",
        }  # fmt: skip
        assert (core["stop"], core["exit_status"], core["instructions"]) == ("exit", 65, 3)
        assert (core["console"], core["device_accesses"]) == ("A", 2)
        assert (core["registers"]["rax"], core["cpu_mode"]) == ("0x41", "long")
        assert re.fullmatch("[0-9a-f]{64}", core["memory_sha256"])
    assert [core["exits"] for core in report["cores"]] == [0, 2]
    assert report["cores"][1]["exits_by_reason"]["io"] == 2


def test_compare_plain(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The plain comparison fits 80 columns and contains the result."""
    assert main(["compare", guest, "--cores", "interpreter,trap:portable"]) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "Equivalent" in text
    assert "stand-in" in text
    assert "console:\n  A\n" in text


def test_one_core_has_nothing_to_compare(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With one core `equivalent` is null, and the exit code is 0."""
    assert main(["compare", guest, "--cores", "interpreter", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equivalent"] is None


def test_divergence_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --pure, plain and JSON output name the divergent pushf, and the exit code is 1."""
    path = tmp_path / "p.bin"
    path.write_bytes(bytes.fromhex("fa 9c 58 e6f4"))  # cli; pushfq; pop rax; out 0xf4, al
    arguments = ["compare", str(path), "--cores", "interpreter,trap", "--pure"]
    assert main(arguments) == 1
    assert "`pushfq` at 0x100001" in " ".join(capsys.readouterr().out.split())
    assert main([*arguments, "--json"]) == 1
    divergence = json.loads(capsys.readouterr().out)["divergence"]
    assert (divergence["instruction"], divergence["rip"]) == (1, "0x100001")
    assert set(divergence["values"]) == {"interpreter", registry.resolve("trap")}
    assert main(arguments[:-1]) == 0


def test_trace_json(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`trace --json --steps`: exits and instructions in order, each a line of JSON."""
    assert main(["trace", guest, "--core", "trap", "--steps", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    exits = [line for line in lines if "reason" in line]
    steps = [line for line in lines if "changed" in line]
    assert len(lines) == len(exits) + len(steps)
    assert set(exits[0]) == {
        "n", "rip", "bytes", "asm", "cpu_mode", "reason", "detail", "handled", "ring", "ns", "vmm_ns",
        "source",
    }  # fmt: skip
    assert (exits[0]["n"], exits[0]["bytes"], exits[0]["reason"]) == (1, "e6e9", "io")
    assert (exits[0]["cpu_mode"], exits[0]["source"]) == ("long", None)
    assert [(s["n"], s["rip"], s["bytes"]) for s in steps][:2] == [
        (0, "0x100000", "b041"),
        (1, "0x100002", "e6e9"),
    ]
    assert steps[0]["changed"] == {"rax": "0x41", "rip": "0x100002"}
    assert set(steps[0]) == {"n", "rip", "bytes", "asm", "changed"}


@pytest.mark.parametrize("mode", [(), ("--free",)], ids=["exact", "free"])
def test_an_exit_names_its_source_line(
    mode: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """`trace --json` has file and line of each instruction of an assembly program."""
    assert main(["trace", "hello", "--core", "trap", "--json", *mode]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    source = Path("assets/guests/hello.s").read_text().splitlines()
    for line in lines:
        if line["asm"].startswith("out "):
            file, _, number = line["source"].rpartition(":")
            assert (file, source[int(number) - 1].split()[0]) == ("hello", "out")


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` lists every core, with the reason where it cannot run."""
    found = functools.cache(registry.availability)  # seconds, where KVM interprets ring 0
    monkeypatch.setattr(registry, "availability", found)
    assert main(["doctor", "--json"]) == 0
    cores = json.loads(capsys.readouterr().out)["cores"]
    assert [core["core"] for core in cores] == list(registry.CORE_NAMES)
    assert all(core["available"] == (core["reason"] is None) for core in cores)
    assert main(["doctor"]) == 0
    assert "interpreter" in capsys.readouterr().out


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """`explain` knows sensitive instructions, ordinary ones, and near misses of names."""
    assert main(["explain", "mov", "rax,", "cr3"]) == 0
    assert "privileged" in capsys.readouterr().out
    assert main(["explain", "add"]) == 0
    assert "not sensitive" in capsys.readouterr().out
    assert main(["explain", "add", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sensitivity"] is None
    assert main(["explain", "in", "al"]) == 0
    assert "in, out: sensitive" in capsys.readouterr().out


@pytest.mark.skipif(not keystone.installed(), reason="Keystone tells whether operands fit")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["popfw"], "no instruction is called 'popfw'; did you mean popf"),
        (["banana"], "no instruction is called 'banana'\n"),
        (["popf", "banana"], "no such form of popf: invalid operand: popf banana\n"),
        (["mov", "cr3,", "banana"], "no such form of mov: "),
        (["mov cr1, rax"], "no such form of mov: "),
        (["cli\nsti"], "no such form of cli: invalid operand: cli sti\n"),
        (["cli;", "sti"], "no instruction is called 'cli; sti'; did you mean cli?\n"),
        (["cli", ";sti"], "no such form of cli: more than one statement: cli ;sti\n"),
        (["rep"], "'rep' is a prefix, no instruction"),
        ([""], "no instruction is named\n"),
        (["x" * 5000], "no instruction is called 'xxx"),
    ],
)
def test_explain_guesses_nothing(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word that is no instruction gets one line, and suggestions only if similar names exist."""
    assert main(["explain", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"ringscope explain: {reason}")
    assert len(err) < 300


def test_probe(capsys: pytest.CaptureFixture[str]) -> None:
    """`probe`: on every x86 CPU hlt traps at ring 3, and popf does not."""
    reason = registry.availability("trap:native").reason
    if reason is not None:
        pytest.skip(reason)
    assert main(["probe", "--json"]) == 0
    found = {f["name"]: f for f in json.loads(capsys.readouterr().out)["instructions"]}
    assert (found["hlt"]["outcome"], found["hlt"]["vector"]) == ("traps", "#GP")
    assert found["popf"]["outcome"] == "runs"
    assert found["syscall"]["outcome"] == "system call"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["comprae", "x"], "no command, lesson or program is called 'comprae'; did you mean"),
        (["compare"], "ringscope compare: the following arguments are required: PROGRAM"),
        (["compare", "no/such.s"], "ringscope compare: no/such.s: no such file"),
        (["compare", "."], "ringscope compare: .: this is a directory, not a program"),
        (["compare", HELLO, "--cores", "kvn"], "did you mean kvm?"),
        (["compare", HELLO, "--cores", ""], "no core is called ''"),
        (["compare", HELLO, "--coers", "x"], "there is no option --coers; did you mean --cores?"),
        (["compare", "--coers", "x"], "there is no option --coers; did you mean --cores?"),
        (["trace", HELLO, "--coer=kvm"], "there is no option --coer; did you mean --core?"),
        (["--fre"], "ringscope: there is no option --fre; did you mean --free?"),
        (["play", "1", "--plian"], "there is no option --plian; did you mean --plain?"),
        (["doctor", "--banana"], "ringscope doctor: there is no option --banana\n"),
        (["compare", HELLO, "--ram", "3M"], "3M: RAM is a multiple of 2 MiB"),
        (["compare", HELLO, "--ram", "2G"], "2G: RAM is a multiple of 2 MiB"),
        (["compare", HELLO, "--ram", "much"], "'much' is no size"),
        (["compare", HELLO, "--budget", "0"], "'0' is not a whole number of instructions"),
        (["compare", HELLO, "--budget", "1.5"], "'1.5' is not a whole number of instructions"),
        (["compare", HELLO, "--budget", "nan", "--free"], "'nan' is not seconds"),
        (["compare", HELLO, "--budget", "9" * 400], "is not a whole number of instructions"),
        (["compare", HELLO, "--disk", ""], "argument --disk: no file is named"),
        (["compare", "no/such\nfile\x1b.s"], r"no/such\nfile\x1b.s: no such file"),
        (["compare", HELLO, "a\nword"], r"unrecognized arguments: a\nword"),
        (["play", "\u00b2"], "no lesson is called"),
        (["play", "9" * 5000], "no lesson is called"),
        (["play", "two-ways", "--record", str(ROOT / "lessons/course/01-two-ways.md")],
         "the recording would overwrite the lesson"),
        (["new-lesson", "x" * 300], "File name too long"),
        (["new-lesson", ""], "ringscope new-lesson: no directory is named\n"),
        (["image", "hello", "-o", ""], "ringscope image: --output: no file is named\n"),
        (["image", "hello", "-o", "x", "--disk", ""], "ringscope image: --disk: no file is named\n"),
        (["play", "1", "--record", ""], "ringscope play: --record: no file is named\n"),
        (["play", "1", "--record", "x", "--notes"], "--notes and --record exclude each other"),
        (["check", ""], "ringscope check: no file is named\n"),
        (["doctor", ""], "ringscope doctor: unrecognized arguments: ''\n"),
        (["compare", "\udcff\udc80"], r"ringscope compare: \xff\x80: no such file"),
        (["compare", "x" * 5000], " ... "),
        (["compare", HELLO, "--disk-write"], "--disk-write needs --disk FILE"),
        (["compare", HELLO, "--disk-write", "--disk", "x"], "--disk-write needs exactly one core"),
        (["compare", HELLO, "--disk", "/no/disk", "--cores", "trap"], "/no/disk"),
        (["compare", HELLO, "--bogus"], "there is no option --bogus"),
        (["compare", HELLO, "--ram", "16_0M"], "'16_0M' is no size"),
        (["compare", HELLO, "--net", "tap0"], "'tap0' is no network; write [NAME=]MODE[,pcap:FILE]"),
        (["compare", HELLO, *["--net", "user"] * 5], "argument --net: the PC has room for 4 cards"),
        (["compare", HELLO, *["--net", "user"] * 2], "2 networks, and one card: the PC has one NE2000"),
        (["compare", HELLO, *["--net", "user"] * 3, "--virtio", "block"], "3 networks, and one card"),
        (["compare", HELLO, "--net", "hub"], "--net hub needs --with PROGRAM, the other machine's"),
        (["compare", HELLO, "--with", HELLO], "--with needs --net hub, the cable to the other machine"),
        (["compare", HELLO, "--net", "hub", "--with", "/nowhere"], "/nowhere: no such file"),
        (["trace", HELLO, "--virtio", "net,gpu"], "no virtio device is called 'gpu'; there are net,"),
        (["compare", HELLO, "--ram", "\uff11\uff16M"], "'\uff11\uff16M' is no size"),
        (["compare", HELLO, "--ram", " 16M"], "' 16M' is no size"),
        (["compare", HELLO, "--ram=-2M"], "'-2M' is no size"),
        (["compare", HELLO, "--ram", ""], "'' is no size"),
        (["compare", HELLO, "--ram", "0x100_0000"], "'0x100_0000' is no size"),
        (["compare", HELLO, "--budget", "1_000"], "'1_000' is not a whole number"),
        (["compare", HELLO, "--budget", "\uff15"], "'\uff15' is not a whole number"),
        (["compare", HELLO, "--budget", "1_0", "--free"], "'1_0' is not seconds"),
        (["compare", HELLO, "--budget", "inf", "--free"], "'inf' is not seconds"),
        (["play", "1", "--seed", "\uff15"], "'\uff15' is no whole number"),
        (["play", "1", "--seed", "9" * 5000], "is no whole number"),
        (["play", "1", "--speed", "1_0"], "'1_0' is no speed"),
        (["check", "x", "--seed", ""], "'' is no whole number"),
        (["trace", HELLO], "the following arguments are required: --core"),
        (["trace", HELLO, "--core", "trap", "--steps", "--free"], "exclude each other"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad usage and bad input give exit code 2 and one line on standard error, nothing else."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_a_saved_session_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal the message for a saved session does not recommend the command that was
    typed."""
    path = tmp_path / "a.ringscope"
    path.write_bytes(b"Ringscope session 2\n")
    monkeypatch.setenv("TERM", "dumb")
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == (
        f"ringscope: {path}: a saved session: the interface opens it, and there is no terminal for that"
        " here\n"
    )
    assert main(["compare", str(path)]) == 2
    assert "a saved session, not a program: at a terminal" in capsys.readouterr().err


def test_bad_source_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in assembly is reported with file and line."""
    if not keystone.installed():
        pytest.skip("Keystone has no package for this machine")
    path = tmp_path / "hello.s"
    path.write_text("nop\nmov rax, cr9\n")
    assert main(["compare", str(path)]) == 2
    assert capsys.readouterr().err == f"ringscope compare: {path}:2: invalid operand: mov rax, cr9\n"


@pytest.mark.parametrize("size", ["2M", "33554432", "0x2000000", "32MiB", "32768k"])
def test_sizes(size: str, guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """RAM sizes are accepted in bytes, in hexadecimal and with units."""
    assert main(["compare", guest, "--cores", "interpreter", "--ram", size, "--json"]) == 0
    stack = json.loads(capsys.readouterr().out)["cores"][0]["registers"]["rsp"]
    assert int(stack, 16) == (2 << 20 if size == "2M" else 32 << 20) - 8


def test_a_guest_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A shipped guest is found by its name."""
    assert main(["compare", "hello", "--cores", "interpreter", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cores"][0]["console"] == GREETING


def test_an_unavailable_core_ends_with_3(
    guest: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core asked for by name that cannot run gives exit code 3 and its reason; the JSON is still
    printed."""
    monkeypatch.setattr(registry, "_probe", lambda core: "there is none" if core == "kvm" else None)
    assert main(["compare", guest, "--cores", "interpreter,kvm", "--json"]) == 3
    out, err = capsys.readouterr()
    kvm = json.loads(out)["cores"][1]
    assert (kvm["available"], kvm["reason"], kvm["stop"]) == (False, "there is none", None)
    assert err == "ringscope compare: kvm: there is none\n"
    assert main(["compare", guest]) == 0
    assert "kvm cannot run here: there is none" in capsys.readouterr().out
    assert main(["trace", guest, "--core", "kvm"]) == 3


def test_without_a_terminal_the_first_guest_is_compared() -> None:
    """`ringscope` alone, in a pipe, prints the plain comparison and does not wait for keys."""
    done = ringscope()
    assert (done.returncode, done.stderr) == (0, "")
    assert GREETING in done.stdout


FULL = "ringscope: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("words", "stream", "code", "said"),
    [
        (["compare", "nosuch"], "stderr", 2, ""),
        (["--help"], "stdout", 2, FULL),
        (["compare", "--help"], "stdout", 2, FULL),
        (["explain", "popf"], "stdout", 2, FULL),
        (["probe", "--json"], "stdout", 2, FULL),
    ],
)
def test_no_room_for_words(words: list[str], stream: str, code: int, said: str) -> None:
    """A full disk as standard output is reported in one line; as standard error it changes no exit
    code."""
    with open("/dev/full", "w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        done = subprocess.run(again(*words), text=True, check=False, timeout=50, **streams)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout or "", done.stderr or "") == (
        (code, "", "") if stream == "stderr" else (code, "", said)
    )


@pytest.mark.skipif(os.name != "posix", reason="a working directory cannot be removed here")
def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    """In a deleted working directory commands that need none run; a relative file is reported as
    missing."""
    for words, code, said in (
        (["compare", "hello", "--cores", "interpreter"], 0, ""),
        (["compare", "a.s"], 2, "ringscope compare: a.s: no such file\n"),
        (["image", "hello", "-o", "a.img"], 2,
         "ringscope image: a.img: cannot be written: No such file or directory\n"),
        (["new-lesson", "a"], 2, "ringscope new-lesson: a: No such file or directory\n"),
    ):  # fmt: skip
        gone = tmp_path / "gone"
        gone.mkdir()
        command = shlex.join(again(*words))
        done = subprocess.run(
            ["sh", "-c", f"rmdir {shlex.quote(str(gone))}; exec {command}"],
            cwd=gone, capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, said)


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`ringscope trace ... | head -1` ends without an error message."""
    command = shlex.join(again("trace", spin(tmp_path), "--core", "interpreter", "--steps"))
    done = subprocess.run(
        ["sh", "-c", f"{command} --budget 100000 | head -1"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("mode", [[], ["--free", "--budget", "600"]])
def test_ctrl_c_ends_with_130(mode: list[str], tmp_path: Path) -> None:
    """Ctrl-C ends a spinning guest with exit code 130, no output, and no process left."""
    arguments = ["compare", spin(tmp_path), "--cores", "trap", "--budget", "100000000", *mode]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _INTERRUPT_ITSELF, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )  # fmt: skip
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out, err) == (130, b"", b"")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


_INTERRUPT_ITSELF = """
import os, signal, sys, threading
from app.main import main
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
raise SystemExit(main(sys.argv[1:]))
"""
"""The interrupt comes from a timer inside: from outside nobody could tell when the guest runs."""


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists every command; --version prints the package's version."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
    capsys.readouterr()
    assert main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"ringscope {VERSION}\n" == f"ringscope {project['version']}\n"


def test_help_imports_nothing_heavy() -> None:
    """--help, and a core's native engines, import neither Unicorn nor Keystone nor Textual."""
    probe = (
        "import sys; from app.main import main; main(['--help']);"
        "heavy = {'unicorn', 'capstone', 'keystone', 'textual', 'cores'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", probe], capture_output=True, check=False, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
