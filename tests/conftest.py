"""Selection of tests: the daily ones by default, on all CPUs; the slow ones with ``--full``.

Running few tests is not slowed by worker processes, which need two seconds to start: with ``-k``, or
with files or single tests named, one process does it all unless ``-n`` says otherwise.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

HERE = Path(__file__).parent
HELPERS = [path for path in HERE.rglob("*.py") if not path.name.startswith(("test_", "__"))]
pytest.register_assert_rewrite(  # an assertion in a helper tells as much as one in a test
    *(path.stem for path in HELPERS),
    *(".".join(("tests", *path.relative_to(HERE).with_suffix("").parts)) for path in HELPERS),
)

from tests import absences  # noqa: E402 - after what rewrites them
from tests.differences import compared_in_words  # noqa: E402

# What a shell starts in the background, or by nohup, ignores these, and so would every program that a
# test starts and interrupts.
for _number in (signal.SIGINT, getattr(signal, "SIGQUIT", None), getattr(signal, "SIGHUP", None)):
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )

LEFT_OUT = pytest.StashKey[int]()

QUICK = 16
"""``--quick`` runs one test in so many, the same ones each time."""

PORTABLE = (
    "cores/x86", "cores/pc", "cores/programs", "cores/m68k", "cores/machine/test_machine.py",
    "cores/machine/test_report.py", "contract", "lessons", "app/text", "app/tui", "test_",
)  # fmt: skip
"""What ``--portable`` runs, below tests/: the tests of all that a host without ptrace, KVM and Keystone
has. No other file is imported: many need modules that POSIX alone has."""


SAMPLED = {
    "tests/agreement/test_guests.py": 2, "tests/agreement/test_linux_programs.py": 3,
    "tests/agreement/test_mechanisms.py": 4,
    "tests/agreement/test_out_of_line.py": 3, "tests/agreement/test_slow.py": 2,
    "tests/app/recording": 2, "tests/app/tui/test_cursor.py": 2, "tests/app/tui/test_foreign.py": 3,
    "tests/app/tui/test_help.py": 2, "tests/app/tui/test_inside.py": 2,
    "tests/app/tui/test_screens.py": 2, "tests/cores/lockstep": 4, "tests/cores/test_deadline.py": 4,
    "tests/cores/vmm/test_exit_details.py": 3, "tests/cores/vmm/test_floating_exceptions.py": 3,
    "tests/e2e/test_host_faults.py": 3, "tests/e2e/test_hostile_guests.py": 4,
    "tests/fuzz/test_campaign.py": 4, "tests/lessons/test_course.py": 2,
}  # fmt: skip
"""Of each parametrized test in these places one case in so many runs daily, so that the daily run takes
less than 4 minutes on two CPUs; the first case always."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the slow tests too")
    parser.addoption("--quick", action="store_true", help="run a sample: under 30 seconds")
    parser.addoption(
        "--portable", action="store_true",
        help="run what needs no ptrace, KVM or Keystone, as on a host that has none of them",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: slow; runs with --full only")
    if config.getoption("--portable"):
        absences.begin()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """0 (no workers) where few tests are asked for; None leaves it to xdist: one for each CPU."""
    named = any("::" in word or word.endswith(".py") for word in config.args)
    few = named or config.option.keyword or config.option.collectonly
    return 0 if few else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--portable`` the other test files are not even imported."""
    if not config.getoption("--portable") or collection_path.is_dir():
        return None
    path = collection_path.relative_to(HERE).as_posix()
    return None if path.startswith(PORTABLE) or collection_path.name == "conftest.py" else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests not asked for, and report the number of slow ones."""
    wanted = items
    _leave_cases_to_the_full_run(items)
    if config.getoption("--quick"):
        wanted = [item for item in wanted if crc32(item.nodeid.encode()) % QUICK == 0]
    if not config.getoption("--full"):
        daily = [item for item in wanted if "full" not in item.keywords]
        config.stash[LEFT_OUT] = len(wanted) - len(daily)
        wanted = daily
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = config.stash.get(LEFT_OUT, 0)
    keep = set(wanted)
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = wanted


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Report the deselected tests once: every worker has deselected the same."""
    output = getattr(node, "workeroutput", {})
    if "left_out" in output:
        node.config.stash[LEFT_OUT] = output["left_out"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(LEFT_OUT, 0)
    if left_out:
        terminalreporter.write_line(f"{left_out:,} slow tests were left out: --full runs them.")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison: registers by name, a divergence by its cores and difference."""
    return compared_in_words(left, right) if op in ("==", "is") else None


def _leave_cases_to_the_full_run(items: list[pytest.Item]) -> None:
    cases: Counter[str] = Counter()
    for item in items:
        share = next((SAMPLED[place] for place in SAMPLED if item.nodeid.startswith(place)), 1)
        if share == 1 or "[" not in item.nodeid or "full" in item.keywords:
            continue
        test = item.nodeid.partition("[")[0]
        if cases[test] % share:
            item.add_marker(pytest.mark.full)
        cases[test] += 1
