"""Completion scripts and the examples of --help: they know the commands that there are."""

from __future__ import annotations

import importlib
import shlex
import shutil
import subprocess

import pytest

from app.commands.completion import SHELLS, whole_parser
from app.examples import EXAMPLES, examples
from app.main import COMMANDS, Parser, main

COMPLETE = """
source /dev/stdin
COMP_WORDS=(ringscope "$@"); COMP_CWORD=$#; COMP_LINE="ringscope $*"; COMP_POINT=${#COMP_LINE}
$(complete -p ringscope | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_in_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script names each command and the options that it has, and the shell itself can read it."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert not [name for name in COMMANDS if name not in script]
    assert "perfetto" in script
    if (found := shutil.which(shell)) is not None:
        subprocess.run([found, "-n"], input=script, text=True, check=True)


def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    """Bash, given the script, completes a command and an option."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("bash is not installed")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def completed(*words: str) -> set[str]:
        command = [bash, "-c", COMPLETE, "bash", *words]
        done = subprocess.run(command, input=script, text=True, capture_output=True, check=True)
        return set(done.stdout.split())

    assert completed("comp") == {"compare", "completion"}
    assert completed("trace", "--for") == {"--format"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_examples_can_be_read(command: str) -> None:
    """The command's own parser takes the words of its examples; no other command has any."""
    assert EXAMPLES.keys() == {"", *COMMANDS}
    for words, _ in EXAMPLES[command]:
        first, *rest = shlex.split(words.partition(" >")[0])
        assert command in ("", first)
        module = importlib.import_module(f"app.commands.{command.replace('-', '_') or 'open'}")
        parser = Parser(command, "")
        module.add_arguments(parser)
        parser.parse_args(rest if command else [first, *rest])
    assert examples(command).startswith("examples:\n  ringscope ")


def test_help_ends_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows the examples."""
    assert main(["heat", "--help"]) == 0
    assert capsys.readouterr().out.endswith(examples("heat") + "\n")
    assert whole_parser().format_help()
