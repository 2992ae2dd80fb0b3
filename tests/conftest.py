"""Selection of tests: the daily ones by default, on all CPUs; the slow ones with ``--full``.

Running few tests is not slowed by worker processes, which need two seconds to start: with ``-k``, or
with files or single tests named, one process does it all unless ``-n`` says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
HELPERS = [path for path in HERE.rglob("*.py") if not path.name.startswith(("test_", "__"))]
pytest.register_assert_rewrite(  # an assertion in a helper tells as much as one in a test
    *(path.stem for path in HELPERS),
    *(".".join(("tests", *path.relative_to(HERE).with_suffix("").parts)) for path in HELPERS),
)

from tests.differences import compared_in_words  # noqa: E402 - after what rewrites it

LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the slow tests too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: slow; runs with --full only")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """0 (no workers) where few tests are asked for; None leaves it to xdist: one for each CPU."""
    named = any("::" in word or word.endswith(".py") for word in config.args)
    few = named or config.option.keyword or config.option.collectonly
    return 0 if few else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow ones out, and say how many."""
    if config.getoption("--full"):
        return
    slow = [item for item in items if "full" in item.keywords]
    if not slow:
        return
    items[:] = [item for item in items if "full" not in item.keywords]
    config.stash[LEFT_OUT] = len(slow)
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = len(slow)
    config.hook.pytest_deselected(items=slow)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended: all of them have left out the same."""
    output = getattr(node, "workeroutput", {})
    if "left_out" in output:
        node.config.stash[LEFT_OUT] = output["left_out"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(LEFT_OUT, 0)
    if left_out:
        terminalreporter.write_line(f"{left_out:,} slow tests were left out: --full runs them.")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Tell registers that differ by name, and a divergence by what differs on which core."""
    return compared_in_words(left, right) if op in ("==", "is") else None
