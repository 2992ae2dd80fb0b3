"""``ringscope manual``: all commands and options, as a man page and as text."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from app.commands import manual
from app.commands.completion import whole_parser
from app.main import COMMANDS, main


def test_the_manual_has_all_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has its part in the text, with each of its options, within the lines' width."""
    assert main(["manual"]) == 0
    text = capsys.readouterr().out
    body = text.partition("\nCOMMANDS\n")[2].partition("\nEXIT STATUS\n")[0]
    parts = dict(re.findall(r"^  (\S+)\n(.*?)(?=^  \S|\Z)", body, re.M | re.S))
    assert set(parts) == set(COMMANDS)
    for action in whole_parser()._actions:
        for name, parser in (action.choices or {}).items() if isinstance(action.choices, dict) else ():
            for option in parser._actions:
                told = option.help not in ("==SUPPRESS==", "show this help message and exit")
                missing = [word for word in option.option_strings if told and word not in parts[name]]
                assert missing == [], name
    assert max(map(len, text.splitlines())) <= 100
    assert text.rstrip().endswith("progress in the course")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_roff_finds_nothing_to_complain_about() -> None:
    """The man page is read without a warning, and nothing in it is taken for a command of roff's."""
    command = ["groff", "-man", "-ww", "-Tascii", "-P-cbou"]
    done = subprocess.run(command, input=manual.page(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout
    assert all(f"  {name}\n" in done.stdout for name in COMMANDS)
