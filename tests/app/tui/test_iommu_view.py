"""The network view of a real guest with virtio devices: queue indices and the IOMMU's table."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from textual.pilot import Pilot

from app.programs import equipped
from app.tui.app import RingscopeApp, interface
from app.tui.rows import screenshot_svg
from app.tui.rows.network import network_rows
from cores.inspection.network import NetworkView
from cores.inspection.tables_devices import DeviceState
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.devices.virtio.device import VirtioDevice
from cores.programs.loader import load_program
from cores.programs.shipped import ASSETS


def facts_at_the_end() -> dict[str, tuple[tuple[str, str], ...]]:
    """What the devices of `dma` say when it has run, on a machine of its own."""
    program = load_program(str(ASSETS / "guests" / "dma.s"))
    options = equipped(Options(cores=("interpreter",)), program.path)
    with closing(start(program, "interpreter", options)) as machine:
        while machine.stop is None:
            machine.step()
        devices = [one for one in machine.board.devices if isinstance(one, VirtioDevice)]
        return {one.title: one.facts(machine.vmm.ticks) for one in devices}


async def shows(app: RingscopeApp, pilot: Pilot[int], words: str) -> str:
    for _ in range(4000):
        text = screenshot_svg.text(app)
        if app.worker is not None and app.worker.idle and words in text:
            return text
        await pilot.pause(0.005)
    raise AssertionError(f"{words!r} never came:\n{screenshot_svg.text(app)}")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_table_is_the_devices(size: tuple[int, int]) -> None:
    """Without a network, too, N shows each fact of each device, every mapping among them, whole and as
    the device has it; what does not fit is reached with the arrows."""
    os.environ["RINGSCOPE_CONFIG"] = os.devnull
    app = interface("dma", Options(cores=("interpreter",)))
    async with app.run_test(size=size) as pilot:
        await shows(app, pilot, "Who executes")
        await pilot.press("space")
        await shows(app, pilot, "has ended")
        await pilot.press("N")
        seen = await shows(app, pilot, "Virtio-blk")
        for _ in range(12):
            await pilot.press("down")
            seen += await shows(app, pilot, "Network  of")
    facts = facts_at_the_end()
    mappings = [value for name, value in facts["Virtio-iommu"] if name.startswith("domain")]
    assert [mapping.split()[0] for mapping in mappings] == ["0x20000", "0x30000", "0x32000"]
    for name, device in facts.items():
        assert name in seen
        for fact, value in device:
            assert f"{fact} {value}" in seen
    assert "The guest has no network" in seen


@pytest.mark.parametrize("width", [64, 80, 120])
def test_no_row_is_wider_than_the_screen(width: int) -> None:
    """However long its facts are, a device's rows keep within the width, and none is left out."""
    facts = tuple((f"domain {n}", f"{n:#x}000 to {n:#x}fff is 0x30000, rw") for n in range(20))
    view = NetworkView((), (DeviceState("Virtio-iommu", facts),), (), 0, 0, None)
    lines = ["".join(text for text, _ in line) for line in network_rows(view, width, counts_exits=True)]
    assert all(len(line) <= width for line in lines[:-1])
    assert all(any(f"{name} {value}" in line for line in lines) for name, value in facts)
