"""Pure functions of the native trap engine: string instructions, signals, the seccomp filter."""

from __future__ import annotations

import pytest

from cores.engines.ptrace import stops, stub


@pytest.mark.parametrize(
    ("vector", "rip", "before", "behind", "starts"),
    [
        pytest.param(1, 0x100001, "f1", "9090", (0x100000,), id="int1: RIP behind it, by the SDM"),
        pytest.param(1, 0x100000, "90", "f190", (0x100000,), id="int1: RIP at it, seen on AMD"),
        pytest.param(1, 0x100000, "", "66f1", (0x100000,), id="int1 with a prefix, first of its page"),
        pytest.param(1, 0x100001, "f1", "48f1", (0x100000, 0x100001), id="int1 twice: both fit"),
        pytest.param(3, 0x100001, "cc", "f1", (0x100000,), id="int3"),
        pytest.param(3, 0x100002, "03", "90", (0x100000,), id="int 3"),
        pytest.param(4, 0x100002, "04", "90", (0x100000,), id="int 4"),
    ],
)
def test_where_a_trap_began(
    vector: int, rip: int, before: str, behind: str, starts: tuple[int, ...]
) -> None:
    """The position of INT1 is found from a stop as seen on an AMD CPU under a hypervisor, and from one
    derived from SDM vol. 3, 6.4.4 and 6.5 (a trap: RIP behind it)."""
    assert stops.trap_starts(vector, rip, bytes.fromhex(before), bytes.fromhex(behind)) == starts


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("f3aa", 2), ("f348ab", 3), ("6667f3a5", 4), ("f266a7", 3), ("f3f2ae", 3), ("64f3a4", 3),
        ("aa", 0), ("f390", 0), ("ebfe", 0), ("f3ebfd", 0), ("48f3aa", 3), ("f3", 0), ("f348", 0),
    ],
)  # fmt: skip
def test_repeated_string_instructions(code: str, length: int) -> None:
    """Repeated string instructions are recognized behind prefixes in any order; a REX that is not last
    is ignored."""
    assert stops.repeated_string_length(bytes.fromhex(code)) == length


def test_every_exception_of_ring_3_has_its_signal() -> None:
    """A signal from kill(1) is foreign, whatever its number."""
    for number in range(1, 65):
        assert stops.vector(number, 0) == stops.vector(number, -6) == stops.FOREIGN
    assert stops.vector(11, 1) == 14
    assert stops.vector(7, 1) == 17


def test_filter_jumps_stay_inside_and_its_default_is_refusal() -> None:
    """The seccomp program has forward jumps only, and its last statement refuses."""
    program = stub.seccomp_program()
    assert program[-1] == (0x06, 0, 0, 0x00030000)
    for at, (_, yes, no, _) in enumerate(program):
        assert at + 1 + max(yes, no) < len(program) or at == len(program) - 1
