"""`ringscope bench`: its output and the computation of its figures; never how fast anything is."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from app.bench import catalogue, density, execution, figures, guests, network, table
from app.bench.figures import Figure, Limit, Skipped, Spread
from app.main import main
from cores.engines import registry
from cores.x86.isa.decoder import decode, text


def test_the_guests_that_ping_are_as_their_measurement_knows_them() -> None:
    """Each way finds in the guest's source what it changes."""
    for way in network.WAYS:
        assert "PINGS   = 1234" in way.source(1234)


def test_each_measurement_is_where_the_catalogue_says() -> None:
    """Every name of the catalogue leads to a function that exists."""
    import importlib

    for measurement in catalogue.MEASUREMENTS.values():
        module = importlib.import_module(f"app.bench.{measurement.module}")
        assert callable(getattr(module, measurement.function))


def test_json_has_machine_figures_and_their_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    """`bench --json NAME` measures NAME only: value, baseline and ratio, each as median and spread."""
    assert main(["bench", "--json", "snapshot"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert set(answer["machine"]) == {"cpu", "cpus", "kernel", "python"}
    first = answer["figures"][0]
    assert first["name"] == "snapshot"
    assert first["unit"] == "ms"
    for spread in (first["value"], first["base"], first["ratio"]):
        assert spread["low"] <= spread["median"] <= spread["high"]


def test_a_group_and_a_wrong_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The group "exit" stands for all measurements exit:...; an unknown name is bad usage."""
    made: list[str] = []

    def measure(self: catalogue.Measurement, name: str) -> list[figures.Result]:
        made.append(name)
        return [Skipped(name, "not today")]

    monkeypatch.setattr(catalogue.Measurement, "measure", measure)
    assert main(["bench", "exit", "exit:kvm"]) == 0
    assert made == ["exit:native", "exit:kinds", "exit:portable", "exit:kvm"]
    assert "exit:kvm: not here: not today" in capsys.readouterr().out
    assert main(["bench", "speed"]) == 2
    assert "no measurement is called 'speed'" in capsys.readouterr().err


def test_pairs_are_taken_in_turn_and_the_first_is_thrown_away() -> None:
    """The ratio is the median of the pairs' ratios, so that a host that slows down halfway changes it
    little."""
    order: list[str] = []
    ours, base = iter([99.0, 2.0, 30.0, 4.0]), iter([1.0, 1.0, 10.0, 1.0])

    def run() -> float:
        order.append("ours")
        return next(ours)

    def bare() -> float:
        order.append("bare")
        return next(base)

    limit = Limit("ratio", 3)
    [figure] = figures.paired("n", "w", "s", run, {"bare": (bare, limit)}, times=3)
    assert isinstance(figure, Figure)
    assert order == ["ours", "bare"] * 4
    assert figure.ratio == Spread(3.0, 2.0, 4.0)
    assert limit.met(figure)
    assert not Limit("ratio", 4, least=True).met(figure)


def test_the_table_says_what_was_missed() -> None:
    """The table has a line for each figure, with its target and whether it is met."""
    slow = Figure("x", "a thing", "ms", Spread(12.0, 11.0, 13.5), limit=Limit("value", 10))
    shown = table.text({"cpu": "C", "cpus": 2, "kernel": "K", "python": "3"}, [slow])
    assert "12.0 ms (11.0-13.5)" in shown
    assert "≤ 10 missed" in shown


def test_every_table_says_what_could_not_be_measured() -> None:
    """A measurement that was skipped has a line with its reason, in text and in Markdown."""
    machine: dict[str, str | int] = {"cpu": "C", "cpus": 2, "kernel": "K", "python": "3"}
    for form in (table.text, table.markdown):
        lines = form(machine, [Skipped("exit:kvm", "there is no /dev/kvm")]).splitlines()
        assert lines[-1].removeprefix("- ") == "exit:kvm: not here: there is no /dev/kvm"


async def test_the_watched_interface_marks_machines_that_run_freely() -> None:
    """F12 shows the words that `bench screen` waits for, and takes them away."""
    from app.bench import watched

    app = watched.app()
    async with app.run_test() as pilot:
        for shown in (True, False):
            await pilot.press("f12")
            while isinstance(app.screen, watched.Mark) is not shown:
                await pilot.pause(0.01)
        assert app.worker is not None
        assert app.worker.snapshot is not None
        assert app.worker.snapshot.mode == "free"


def test_the_guests_are_what_their_text_says() -> None:
    """The benchmark guests decode to their text, the loop jumps to its beginning, and the counts add
    up."""
    for program, body in ((guests.spin(3), 2), (guests.speak(3), 10), (guests.compute(3), 5)):
        code, at, lines = program.segments[0].data, program.entry, []
        while code:
            insn = decode(code)
            lines.append(text(insn, at))
            code, at = code[insn.length :], at + insn.length
        assert lines[0] == "mov ecx, 3"
        if lines[-2:] == ["cli", "hlt"]:
            del lines[-2:]
        assert lines[-2:] == [f"jne {program.entry + 5:#x}", "out 0xf4, al"]
        assert len(lines) == body + 2


@pytest.mark.full
def test_peers_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each emulator that is installed comes to the guest's end, with an exit port or without."""
    from app.bench import mechanisms

    monkeypatch.setattr(mechanisms, "PEER_TURNS", 1000)
    for found in mechanisms.emulators():
        if isinstance(found, Skipped):
            assert "is not installed" in found.reason


@pytest.mark.skipif(
    not registry.availability("trap:native").available,
    reason=str(registry.availability("trap:native").reason),
)
def test_the_bare_loops_really_trap() -> None:
    """The baseline loops stop the process at each `out`, in Python and in C, or after each instruction,
    for the given number of rounds."""
    from app.bench import bare

    with bare.ptrace_exits() as loop:
        assert loop.python(10) > 0
        if bare.c_loops():
            assert loop.c(10) > 0
    with bare.ptrace_exits(bare.NOPS_FOR_EVER) as loop:
        assert loop.steps(10) > 0
        assert loop.place == 10 % 4  # three NOPs and a jump


def test_other_processes_do_not_change_what_a_turn_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The median of short batches counts: here a third of them is interrupted for 3 ms."""
    from app.bench import bare

    now, batches = 0.0, 0

    def loop(turns: int) -> None:
        nonlocal now, batches
        batches += 1
        now += turns * 40e-6 + (3e-3 if batches % 3 == 0 else 0)

    monkeypatch.setattr(bare, "perf_counter", lambda: now)
    assert bare.turn_cost(loop, 8_000) == pytest.approx(40)
    assert batches * bare.BATCH == 8_000


def test_cost_by_density_crosses_once() -> None:
    """Curves are put together by kind and core, it is said where they cross, and the chart has all."""

    def figures_of(core: str, costs: list[float]) -> list[Figure]:
        return [
            Figure(f"density:cli:{core}:{wanted}", "x", "ns", Spread.of([cost]))
            for wanted, cost in zip(density.DENSITIES, costs, strict=True)
        ]

    emulator, trap = [10.0] * 6, [1000.0, 100.0, 10.0, 1.0, 0.3, 0.2]
    results = [
        *figures_of("interpreter", emulator),
        *figures_of("trap:native", trap),
        *figures_of("kvm", [3000.0] * 6),
        Skipped("density", "no"),
    ]
    found = density.curves(results)["cli"]
    assert density.crossing(found["trap:native"], found["interpreter"]) == pytest.approx(1000)
    assert density.crossing(found["interpreter"], found["kvm"]) == 0
    assert density.sentences("cli", found) == [
        "trap:native is cheaper than the emulator where fewer than one instruction in about 1,000 is"
        " CLI.",
        "kvm is not cheaper than the emulator from any density on.",
    ]
    lines = density.chart("cli", found).splitlines()
    assert lines[0].endswith("e emulator, t trap, k kvm")
    assert {letter for line in lines[1:-2] for letter in line[12:]} == set("etk* ")
    assert max(map(len, lines)) < 80


def test_an_instruction_is_as_far_apart_as_said() -> None:
    """The guest of the density curves executes its instruction once in 2 * inner + ROUND."""
    machine = execution.machine(guests.apart(density.KINDS["out"], 5, 7), "interpreter")
    with closing(machine):
        steps = 0
        while machine.stop is None:
            machine.step()
            steps += 1
        assert steps == 7 * (10 + guests.ROUND) + 2
        assert len(machine.console()) == 7
