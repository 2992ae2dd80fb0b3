"""The view of networks: the packets of a real guest, and what each cost it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from machine_lab import needs_assembler, require

from cores.debugging.live_session import LiveSession
from cores.inspection.network import NetworkView
from cores.inspection.views import NetworkQuery
from cores.lockstep.options import Options
from cores.pc.network import capture
from cores.pc.network.spec import NetSpec
from cores.programs.loader import assemble_program

SOURCE = (Path(__file__).parents[2] / "agreement" / "cable.s").read_text()


@needs_assembler
@pytest.mark.parametrize("core", ["interpreter", "trap:native"])
def test_packets_and_their_costs(core: str, tmp_path: Path) -> None:
    """What was sent and came stands in order; on a trap core the costs are all exits up to the last
    packet, by reason, and on the interpreter there are none. At the session's end they are written."""
    require(core)
    first, second = (
        assemble_program(f"FIRST = {i}\n{SOURCE}".encode(), "cable.s", 2 << 20) for i in (1, 0)
    )
    pcap = str(tmp_path / "hub.pcap")
    options = Options(cores=(core,), ram=2 << 20, nets=(NetSpec("hub", pcap=pcap),), other=second)
    with closing(LiveSession(first, options)) as session:
        session.run(60.0)
        view = session.query(NetworkQuery(core))
        assert isinstance(view, NetworkView)
        assert [(line.sent, line.words[-1]) for line in view.packets] == [
            (True, "A"), (False, "B"), (True, "C"), (False, "D"), (True, "E"), (False, "F"),
        ]  # fmt: skip
        assert (view.other, view.earlier) == ("ACE", 0)
        assert [state.name for state in view.cards] == ["NE2000"]
        machine = session.machines[0]
        total = sum(count for line in view.packets for _, count in line.exits or ())
        assert sum(line.accesses for line in view.packets) < machine.board.accesses
        if core == "interpreter":
            assert total == 0
        else:
            last = machine.board.networks[0].packets[-1].event
            uncounted = machine.vmm.trace.events[:last]
            assert total == sum(e.reason not in ("shadow", "scan") for e in uncounted) > 80
        here = session.instructions
        session.go_to(150)
        earlier = session.query(NetworkQuery(core))
        assert isinstance(earlier, NetworkView)
        assert earlier.packets == view.packets[: len(earlier.packets)]
        session.go_to(here)
    written = capture.read(pcap)
    assert [frame[14:15] for _, frame in written] == [b"A", b"B", b"C", b"D", b"E", b"F"]
    assert [at for at, _ in written] == [line.at for line in view.packets]
