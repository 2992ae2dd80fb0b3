"""Reasons and abilities that the engine reports for hosts where it cannot run, or lacks something."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kvm_lab import MakeGuest

from cores.engines import registry
from cores.engines.base import LACKING, Failed, Halted, RingZero
from cores.engines.kvm import KvmEngine, access, api, capabilities, eventfds, trial

_ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("number", "help"),
    [
        (errno.ENOENT, "modprobe"),
        (errno.EACCES, "kvm group"),
        (errno.ENODEV, "firmware"),
        (errno.EBUSY, "another hypervisor"),
        (errno.ENOMEM, "memory"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EOPNOTSUPP, "firmware"),
    ],
)
def test_each_refusal_is_a_sentence_of_its_own(number: int, help: str) -> None:
    """Every errno of /dev/kvm gives a sentence with a remedy."""
    assert help in access.in_words(OSError(number, os.strerror(number)))


def test_an_ordinary_user_is_told_of_the_group(guest: MakeGuest) -> None:
    """Without permission to open the device, ``probe`` names the group to join."""
    guest("hlt")
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody without the right")
    if os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip("everybody may open /dev/kvm here")
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from cores.engines.kvm import KvmEngine\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(KvmEngine.probe())"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, _ROOT], capture_output=True, text=True, check=True
    )
    assert "kvm group" in said.stdout


def test_every_ability_has_a_name_and_a_lack_a_consequence(guest: MakeGuest) -> None:
    """Each missing ability names its consequence."""
    guest("hlt")
    abilities = capabilities.abilities()
    assert len({name for name, _, _ in abilities}) == len(abilities)
    assert all(consequence for _, present, consequence in abilities if not present)


def test_sse_in_ring_0_runs_or_says_whose_fault_it_is(guest: MakeGuest) -> None:
    """SSE in ring 0 runs, or the error names the instruction and the host's KVM."""
    g = guest("addps xmm0, xmm1; hlt")
    exit = g.run()
    if {name: present for name, present, _ in capabilities.abilities()}["SSE in ring 0"]:
        assert exit == Halted()
    else:
        assert isinstance(exit, Failed)
        assert "addps xmm0, xmm1" in exit.reason
        assert "host" in exit.reason


def test_a_gap_that_the_vmm_can_fill_is_handed_to_it(guest: MakeGuest) -> None:
    """LAR in ring 0 runs on the CPU, or is left to the VMM untouched and counted as bridged."""
    g = guest("mov ebx, 0x10; lar eax, ebx; hlt")
    assert g.run() in (Halted(), LACKING)


def test_who_executes_ring_0_is_said_as_the_kernel_counts_it(guest: MakeGuest) -> None:
    """The caveat appears exactly where the kernel's counters show that it interprets ring 0."""
    g = guest("mov ecx, 5000; again: dec ecx; jnz again; hlt")
    before = g.engine.kernel_exits()
    if before is None:
        pytest.skip("this host's kernel does not count")
    g.run()
    after = g.engine.kernel_exits()
    assert after is not None
    interpreted = after["insn_emulation"] - before["insn_emulation"] > 5000
    assert bool(g.engine.caveat()) == interpreted
    abilities = {name: present for name, present, _ in capabilities.abilities()}
    assert abilities["ring 0 runs on the CPU"] != interpreted


def test_ring_0_is_interpreted_or_in_guest_mode_as_the_kernel_counts(guest: MakeGuest) -> None:
    """The engine's traits agree with the kernel's count of interpreted instructions."""
    g = guest("hlt")
    if g.engine.kernel_exits() is None:
        pytest.skip("this host's kernel does not count")
    interpreted = capabilities.interprets_kernel()
    assert capabilities.ring_zero() is (RingZero.INTERPRETED if interpreted else RingZero.GUEST_MODE)
    assert KvmEngine(capabilities.host()).traits.ring_zero is capabilities.ring_zero()


@pytest.mark.parametrize(
    ("module", "parameter", "word", "nested"),
    [
        ("kvm_intel", "ept", "Y", True), ("kvm_intel", "ept", "N", False),
        ("kvm_amd", "npt", "1", True), ("kvm_amd", "npt", "0", False),
    ],
)  # fmt: skip
def test_nested_paging_is_what_the_module_says(
    module: str,
    parameter: str,
    word: str,
    nested: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without counters, nested paging is read from each vendor's module parameter, in both spellings of
    yes and no."""
    folder = tmp_path / module / "parameters"
    folder.mkdir(parents=True)
    (folder / parameter).write_text(f"{word}\n")
    monkeypatch.setattr(capabilities, "SYS_MODULE", tmp_path)
    monkeypatch.setattr(capabilities, "counts", lambda: False)
    assert capabilities.nested_paging() is nested


def test_without_a_module_or_a_count_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without counters and module, both abilities are unknown."""
    monkeypatch.setattr(capabilities, "SYS_MODULE", tmp_path)
    monkeypatch.setattr(capabilities, "counts", lambda: False)
    monkeypatch.setattr(capabilities, "interprets_kernel", lambda: False)
    capabilities.ring_zero.cache_clear()
    try:
        assert capabilities.ring_zero() is RingZero.UNKNOWN
        assert capabilities.nested_paging() is None
    finally:
        capabilities.ring_zero.cache_clear()


def test_what_is_measured_is_what_the_modules_say(guest: MakeGuest) -> None:
    """The measured execution of ring 0 and nested paging agree with the module in use."""
    guest("hlt")
    if not capabilities.counts():
        pytest.skip("this host's kernel does not count")
    switches = map(Path, ("/sys/module/kvm_amd/parameters/npt", "/sys/module/kvm_intel/parameters/ept"))
    said = [switch.read_text().strip() for switch in switches if switch.exists()]
    assert (capabilities.ring_zero() is RingZero.GUEST_MODE) == bool(said)
    assert capabilities.nested_paging() == ("Y" in said)


def test_pages_that_the_kernel_fills_are_counted(guest: MakeGuest) -> None:
    """The first use of a page is counted by the kernel, and does not exit to the VMM."""
    g = guest("mov al, [0x30000]; mov al, [0x31000]; hlt")
    if not capabilities.counts():
        pytest.skip("this host's kernel does not count")
    if capabilities.ring_zero() is not RingZero.GUEST_MODE:
        pytest.skip("this host's KVM interprets ring 0, and fills nothing for it")
    before = g.engine.kernel_exits()
    assert g.run() == Halted()
    after = g.engine.kernel_exits()
    assert before is not None
    assert after is not None
    assert after["pf_fixed"] > before["pf_fixed"]


def test_eventfds(guest: MakeGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doorbells and interrupts by eventfds are listed as this KVM has them (KVM_CHECK_EXTENSION says
    the same), and a KVM without them is said to lack them."""
    guest("hlt")
    kvm = api.Kvm()
    kicks, line, split = (kvm.extension(capability) for capability in (36, 32, 121))
    kvm.close()
    bells, interrupts = capabilities._eventfds()
    assert bells.present == bool(kicks)
    assert interrupts.present == bool(line and split)
    assert interrupts.consequence == (
        "a virtio interrupt reaches a guest in free mode without an exit"
        if interrupts.present
        else "a virtio interrupt takes the guest's CPU in free mode"
    )

    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    for probe in (eventfds.doorbells, eventfds.irqfd):
        monkeypatch.setattr(eventfds, probe.__name__, probe.__wrapped__)
    monkeypatch.setattr(api.Vm, "doorbell", refuses)
    monkeypatch.setattr(api.Vm, "irqfd", refuses)
    bells, interrupts = capabilities._eventfds()
    assert not bells.present
    assert "an exit" in bells.consequence
    assert not interrupts.present
    assert "takes the guest's CPU" in interrupts.consequence
    monkeypatch.undo()
    monkeypatch.setattr(eventfds, "irqfd", eventfds.irqfd.__wrapped__)
    monkeypatch.setattr(api, "CAP_SPLIT_IRQCHIP", 9999)  # a capability that no kernel has
    assert not capabilities._eventfds()[1].present


def test_two_threads_probe_a_host_once(guest: MakeGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that ask for the host at once, one runs the small guests; an engine that is made
    later runs none."""
    guest("hlt")
    for probed in vars(capabilities).values():
        if hasattr(probed, "cache_clear"):
            probed.cache_clear()
    threads: list[int] = []

    def attempt(*arguments: Any, **options: Any) -> bool:
        threads.append(threading.get_ident())
        return trial.attempt(*arguments, **options)

    monkeypatch.setattr(capabilities, "attempt", attempt)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(registry.probe_hosts, ["kvm"]) for _ in range(2)]
    assert [one.exception() for one in both] == [None, None]
    attempts = len(threads)
    assert len(set(threads)) == 1
    registry.create("kvm").close()
    assert len(threads) == attempts
