"""Pure parts of the native trap engine: string instructions, the filter, the stub."""

from __future__ import annotations

import pytest

from cores.engines.ptrace import stops, stub


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("f3aa", 2), ("f348ab", 3), ("6667f3a5", 4), ("f266a7", 3), ("f3f2ae", 3), ("64f3a4", 3),
        ("aa", 0), ("f390", 0), ("ebfe", 0), ("f3ebfd", 0), ("48f3aa", 0), ("f3", 0), ("f348", 0),
    ],
)  # fmt: skip
def test_repeated_string_instructions(code: str, length: int) -> None:
    """Prefixes in any order, REX last, a string opcode behind them; nothing else counts."""
    assert stops.repeated_string_length(bytes.fromhex(code)) == length


def test_every_exception_of_ring_3_has_its_signal() -> None:
    """What kill(1) sends is foreign, whatever its number."""
    for number in range(1, 65):
        assert stops.vector(number, 0) == stops.vector(number, -6) == stops.FOREIGN
    assert stops.vector(11, 1) == 14
    assert stops.vector(7, 1) == 17


def test_filter_jumps_stay_inside_and_its_default_is_refusal() -> None:
    """The seccomp program is well formed: forward jumps only, and the last statement refuses."""
    program = stub.seccomp_program()
    assert program[-1] == (0x06, 0, 0, 0x00030000)
    for at, (_, yes, no, _) in enumerate(program):
        assert at + 1 + max(yes, no) < len(program) or at == len(program) - 1
