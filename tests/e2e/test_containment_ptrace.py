"""Containment of hostile native code in the vCPU process: nothing of it reaches the host."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cores.engines.base import (
    INTERRUPTED,
    KERNEL_SPACE,
    STEPPED,
    SYSTEM_CALL,
    USER_SPACE,
    Failed,
    Fault,
)  # fmt: skip
from cores.engines.ptrace import linux, stub
from cores.engines.ptrace.engine import PtraceEngine
from cores.engines.ptrace.process import STOPPED_STEP, VcpuProcess
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import PAGE, Ram
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import assemble_program
from cores.x86.virtual_cpu import VirtualCpu
from tests.flat_cpu import flat_cpu

CODE, DATA = 0x100000, 0x200000
SYSCALL = b"\x0f\x05"
SIGSYS_STOP = (signal.SIGSYS << 8) | 0x7F
SIGILL_STOP = (signal.SIGILL << 8) | 0x7F
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    PtraceEngine.probe() is not None, reason=f"trap:native: {PtraceEngine.probe()}"
)


class Prison:
    """An engine with 1 MiB of RAM from CODE on, all of it writable and executable."""

    def __init__(self) -> None:
        self.ram = Ram(4 << 20)
        self.engine = PtraceEngine()
        self.engine.load(PhysicalMemory(self.ram))
        for space in (KERNEL_SPACE, USER_SPACE):
            self.engine.map(space, CODE, CODE, 2 << 20, writable=True, executable=True)
        self.cpu = flat_cpu(rip=CODE)

    @property
    def pid(self) -> int:
        return int(self.engine.where().split()[1].rstrip(","))

    def load(self, code: bytes, *registers: int) -> VirtualCpu:
        self.ram.view[CODE : CODE + len(code)] = code
        self.cpu.rip = CODE
        self.cpu.gpr[:] = [*registers, *[0] * (16 - len(registers))]
        self.cpu.gpr[4] = DATA + PAGE
        return self.cpu

    def host_side(self) -> tuple[list[str], list[str]]:
        """The host resources of the process: its mappings and descriptors."""
        with open(f"/proc/{self.pid}/maps") as file:
            return file.read().splitlines(), sorted(os.listdir(f"/proc/{self.pid}/fd"))


@pytest.fixture
def prison() -> Iterator[Prison]:
    prison = Prison()
    yield prison
    prison.engine.close()
    prison.ram.close()


def test_the_process_has_nothing_but_guest_ram(prison: Prison) -> None:
    """The process has RAM, the stub and the vsyscall page mapped, descriptors of RAM and its twin, and
    no environment."""
    maps, descriptors = prison.host_side()
    names = {line.split()[5] if len(line.split()) > 5 else "anonymous" for line in maps}
    assert names <= {"/memfd:guest-ram", "/memfd:ringscope-vcpu", "anonymous", "[vsyscall]"}
    for line in maps:
        start = int(line.split("-")[0], 16)
        assert start in stub.REGION or CODE <= start < CODE + (2 << 20) or "vsyscall" in line
    assert descriptors == ["0", "1"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{prison.pid}/status").read_text().splitlines()
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert "environ" in os.listdir(f"/proc/{prison.pid}")
    assert Path(f"/proc/{prison.pid}/environ").read_bytes() == b""


@pytest.mark.parametrize("limit", ["RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_FSIZE"])
def test_limits(prison: Prison, limit: str) -> None:
    """Core dumps, processes and file sizes have limits of zero that cannot be raised."""
    assert resource.prlimit(prison.pid, getattr(resource, limit)) == (0, 0)


def capabilities(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line[:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


def test_no_capabilities(prison: Prison) -> None:
    """The process has no capabilities, whoever starts it; started by root it cannot gain any either."""
    had, has = capabilities(os.getpid()), capabilities(prison.pid)
    assert (has["CapPrm"], has["CapEff"], has["CapInh"], has["CapAmb"]) == (0, 0, 0, 0)
    setpcap = 1 << 8
    assert has["CapBnd"] == (0 if had["CapEff"] & setpcap else had["CapBnd"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to hand on")
def test_no_ambient_capabilities() -> None:
    """A capability that survives an exec (a container's) does not reach the guest."""
    program = """
import ctypes, struct, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
raw = 1 << 13  # CAP_NET_RAW
status = Path("/proc/self/status").read_text()
permitted = int(status.split("CapPrm:")[1].split()[0], 16)
assert permitted & raw, "no CAP_NET_RAW here"
header = struct.pack("<Ii", 0x20080522, 0)
low, high = permitted & 0xFFFFFFFF, permitted >> 32
assert libc.capset(header, struct.pack("<6I", low, low, raw, high, high, 0)) == 0
assert libc.prctl(47, 2, 13, 0, 0) == 0  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE
from cores.engines.ptrace.engine import PtraceEngine
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
engine = PtraceEngine()
engine.load(PhysicalMemory(Ram(4 << 20)))
pid = int(engine.where().split()[1].rstrip(","))
print([l for l in Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("Cap")])
engine.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if "no CAP_NET_RAW here" in done.stderr:
        pytest.skip("this root has no CAP_NET_RAW to hand on")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("0000000000000000") == 5


@pytest.mark.parametrize("code", [SYSCALL, b"\xcd\x80"], ids=["syscall", "int 0x80"])
def test_no_system_call_of_any_number_happens(prison: Prison, code: bytes) -> None:
    """Every number, x32's and negative ones too, with plausible arguments is stopped without effect."""
    before = prison.host_side()
    numbers = [*range(480), *range(0x4000_0000, 0x4000_0000 + 560), (1 << 64) - 1, 1 << 63, 1 << 32]
    for number in numbers:
        cpu = prison.load(code + b"\xf4", number, DATA, 1, DATA, 0, 0, DATA, 1)
        assert prison.engine.run(cpu) == SYSTEM_CALL
        assert cpu.gpr[0] == (number if code == SYSCALL else number & 0xFFFFFFFF)
    assert prison.host_side() == before
    assert prison.engine.step(prison.load(b"\x90")) == STEPPED


def test_the_filter_alone_refuses_what_ptrace_would_let_through(prison: Prison) -> None:
    """Without SYSEMU (as if ptrace had failed) the guest's system calls, mmap too, end in SIGSYS."""
    with contextlib.closing(_Bare(prison)) as bare:
        before = bare.maps()
        for number in range(480):
            stop = bare.call(CODE, number, DATA, PAGE, 7, 0x11, 0, 0)
            if number in (335, 336) and stop != SIGSYS_STOP:
                # uretprobe, uprobe: newer kernels ask no filter, and refuse these by themselves
                refused = bare.process.tracee.get()[10] == (1 << 64) - errno.ENXIO
                assert stop == SIGILL_STOP or refused
            else:
                assert stop == SIGSYS_STOP, number
        assert bare.maps() == before


def test_the_filter_lets_through_only_mapping_of_guest_ram(prison: Prison) -> None:
    """At the stub's gate mmap of RAM and munmap pass, and no other call or mmap."""
    with contextlib.closing(_Bare(prison)) as bare:
        gate, fine = stub.GATE, (9, 0x500000, PAGE, 3, 0x11, 0, 0)
        assert bare.call(gate, *fine) == STOPPED_STEP
        assert bare.call(gate, 11, 0x500000, PAGE) == STOPPED_STEP
        for at, value in ((3, 0x11 | 8), (4, 0x32), (4, 0x10011), (5, 2), (5, 0xFFFFFFFF)):
            arguments = list(fine)
            arguments[at] = value
            assert bare.call(gate, *arguments) == SIGSYS_STOP, (at, value)
        for number in (0, 1, 2, 10, 25, 39, 56, 59, 62, 101, 157, 231, 435, 0x4000_0009):
            assert bare.call(gate, number, *fine[1:]) == SIGSYS_STOP


class _Bare:
    """A vCPU process resumed by PTRACE_CONT, which stops no system call by itself."""

    def __init__(self, prison: Prison) -> None:
        self.process = VcpuProcess(prison.ram.fd, prison.ram.fd, tsc_traps=True)
        prison.ram.view[CODE : CODE + 4] = b"\x0f\x05\xcc\xcc"
        self.process.syscall(linux.SYS_MMAP, CODE, PAGE, 7, 0x11, 0, CODE)

    def call(self, rip: int, number: int, *arguments: int) -> int:
        """Wait status after a `syscall` at ``rip`` that is followed by int3."""
        a = (*arguments, 0, 0, 0, 0, 0, 0)
        tracee = self.process.tracee
        linux.USER_REGS.pack_into(
            tracee.registers, 0, 0, 0, 0, 0, 0, 0, 0, a[3], a[5], a[4], number, 0, a[2], a[1], a[0],
            (1 << 64) - 1, rip, 0x33, 0x202, 0, 0x2B, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        tracee.put()
        tracee.resume(linux.PTRACE_CONT)
        return tracee.wait()

    def maps(self) -> str:
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def close(self) -> None:
        self.process.kill()


def test_sysenter_reaches_no_kernel(prison: Prison) -> None:
    """SYSENTER faults, is stopped, or ends the machine; the host's process table does not change."""
    before = prison.host_side()
    for number in (1, 2, 20, 120, 252):
        exit = prison.engine.step(prison.load(b"\x0f\x34\xf4", number, DATA, 0, 1, DATA, DATA))
        assert exit == SYSTEM_CALL or isinstance(exit, Fault)
    assert prison.host_side() == before
    assert isinstance(prison.engine.run(prison.load(b"\x0f\x34\xf4", 1)), Fault | Failed)


def test_the_vsyscall_page_answers_nothing(prison: Prison) -> None:
    """Calls and jumps to the vsyscall page with valid pointers are page faults there."""
    for page_offset in (0, 0x400, 0x800):
        target = 0xFFFF_FFFF_FF60_0000 + page_offset
        for code, pushed in ((b"\xff\xd0", 8), (b"\xff\xe0", 0)):
            prison.ram.view[DATA : DATA + PAGE] = bytes(PAGE)
            cpu = prison.load(code + b"\xf4", target, 0, DATA, 0, 0, 0, DATA, DATA)
            assert prison.engine.run(cpu) == Fault(14, None, target)
            assert (cpu.rip, cpu.gpr[4]) == (target, DATA + PAGE - pushed)
            assert not any(prison.ram.view[DATA : DATA + PAGE - 8])  # no time was written
            cpu = prison.load(code + b"\xf4", target, 0, 0, 0, 0, 0, DATA, DATA)
            assert prison.engine.step(cpu) == STEPPED
            assert prison.engine.step(cpu) == Fault(14, None, target)


def test_the_stub_cannot_be_entered(prison: Prison) -> None:
    """Jumps to every byte of the stub, with a system call's registers, are faults there."""
    before = prison.host_side()
    for target in [*range(stub.CODE, stub.CODE + 64), stub.DATA, stub.DATA + PAGE]:
        cpu = prison.load(b"\xff\xe3\xf4", 9, 7, 0x1000, target, 0, 0, 0x1000, 0x600000)
        exit = prison.engine.run(cpu)
        assert isinstance(exit, Fault)
        assert exit.vector in (13, 14)
        cpu.rip = target
        assert prison.engine.step(cpu) == prison.engine.run(cpu) == Fault(14, None, target)
    assert prison.host_side() == before


def test_wild_code(prison: Prison) -> None:
    """Random code, run and stepped, leaves the engine working, or Failed."""
    source = random.Random(1974)
    before = prison.host_side()
    for _ in range(1500):
        code = source.randbytes(64)
        registers = [source.choice((0, 1, DATA, CODE, 9, source.getrandbits(64))) for _ in range(16)]
        alarm = threading.Timer(0.2, prison.engine.interrupt)
        cpu = prison.load(code.ljust(PAGE, b"\xf4"), *registers)
        prison.engine.space = source.randrange(2)
        if source.randrange(2):
            exit = prison.engine.step(cpu)
        else:
            alarm.start()
            exit = prison.engine.run(cpu)
            alarm.cancel()
        if isinstance(exit, Failed):
            assert "64-bit mode" in exit.reason
            prison.engine.close()
            prison.__init__()  # type: ignore[misc]  # a fresh one, as the next machine would be
    prison.engine.space = KERNEL_SPACE
    while prison.engine.step(prison.load(b"\x90")) == INTERRUPTED:
        pass
    assert _shape(prison.host_side()[0]) == _shape(before[0])
    assert prison.host_side()[1] == before[1]


def _shape(maps: list[str]) -> list[str]:
    return [line.split()[0] + line.split()[1] for line in maps]


def test_storms(prison: Prison) -> None:
    """Endless int3, TF, AC and NT by popf, and a bad stack pointer cause only the guest's own
    faults."""
    for _ in range(300):
        assert prison.engine.run(prison.load(b"\xcc")) == Fault(3)
    for flags in (0x100, 0x40000, 0x4000, 0x44100, 0x254DD5):
        prison.ram.view[DATA : DATA + 8] = flags.to_bytes(8, "little")
        cpu = prison.load(b"\x9d\x90\x90\xf4")
        cpu.gpr[4] = DATA
        assert isinstance(prison.engine.run(cpu), Fault)
        assert prison.engine.step(prison.load(b"\x90")) == STEPPED
    for stack in (0, 8, 1 << 47, (1 << 64) - 8, 0xFFFF_8000_0000_0000, stub.FRAME_TOP):
        cpu = prison.load(b"\xf4")
        cpu.gpr[4] = stack
        assert prison.engine.run(cpu) == Fault(13, 0)


def _children() -> set[str]:
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found |= set(file.read().split())
    return found


def test_two_hundred_engines_leave_nothing() -> None:
    """Engines used in both spaces and closed leave no descriptors, threads, children or memory."""

    def cycle() -> None:
        prison = Prison()
        prison.engine.step(prison.load(b"\x90"))
        prison.engine.space = USER_SPACE
        prison.engine.step(prison.load(b"\x90"))
        prison.engine.close()
        prison.ram.close()

    def usage() -> tuple[int, int, set[str]]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), _children()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    cycle()
    gc.collect()  # what other tests have left
    before, size = usage(), resident()
    for _ in range(200):
        cycle()
    assert usage() == before
    assert resident() - size < 4 << 20


TRACER = """
import sys
sys.path.insert(0, {root!r})
from cores.engines.ptrace.engine import PtraceEngine
from cores.engines.base import USER_SPACE
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from tests.flat_cpu import flat_cpu
ram = Ram(2 << 20)
ram.view[0x100000:0x100002] = b"\\xeb\\xfe"
engine = PtraceEngine()
engine.load(PhysicalMemory(ram))
for space in (1, 0):
    engine.map(space, 0x100000, 0x100000, 4096, writable=True, executable=True)
print(*(v.process.pid for v in engine._vcpus.values()), flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "number"),
    [
        ("engine.run(flat_cpu(rip=0x100000))", signal.SIGKILL),
        ("engine.run(flat_cpu(rip=0x100000))", signal.SIGTERM),
        ("sys.stdin.read(1)", signal.SIGKILL),
        ("", None),
        ("raise RuntimeError", None),
        ("import os; os._exit(3)", None),
    ],
)
def test_no_process_survives_its_tracer(end: str, number: signal.Signals | None) -> None:
    """Both processes end with a tracer that is killed, ends or crashes, while the guest spins or is
    stopped."""
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER.format(root=str(ROOT), end=end)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert tracer.stdout is not None
    pids = [int(word) for word in tracer.stdout.readline().split()]
    assert len(pids) == 2
    watched = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # ended already
            watched.append(os.pidfd_open(pid))
    if number is not None:
        assert len(watched) == 2
        tracer.send_signal(number)
    for fd in watched:
        assert select.select([fd], [], [], 10)[0], "a vCPU process lives on"
        os.close(fd)
    tracer.communicate()


ALONE = """
from cores.engines.ptrace import process, stub
stub._BOOT = stub._BOOT.replace(bytes.fromhex("be09000000"), bytes.fromhex("be00000000"))
demand = process.VcpuProcess._demand
def without(self, name, number, *arguments):
    if name != "setitimer" and arguments[:1] != (process.linux.PR_SET_PDEATHSIG,):
        demand(self, name, number, *arguments)
process.VcpuProcess._demand = without
"""
"""Takes the parent's death signal and the timer away from the vCPU processes: nothing else would end
one that spins."""


def test_the_tracer_s_end_is_enough() -> None:
    """Without PR_SET_PDEATHSIG, PTRACE_O_EXITKILL alone ends the processes."""
    end = "engine.run(flat_cpu(rip=0x100000))"
    code = TRACER.replace("ram = Ram", ALONE.replace("{", "{{").replace("}", "}}") + "ram = Ram", 1)
    tracer = subprocess.Popen(
        [sys.executable, "-c", code.format(root=str(ROOT), end=end)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tracer.stdout is not None
    watched = [os.pidfd_open(int(word)) for word in tracer.stdout.readline().split()]
    assert len(watched) == 2
    tracer.kill()
    tracer.communicate()
    ended = [bool(select.select([fd], [], [], 10)[0]) for fd in watched]
    for fd in watched:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)
    assert all(ended), "a vCPU process lives on"


UNICORN = """
import sys
sys.path.insert(0, {root!r})
from cores.programs.program import Program, Segment
from cores.lockstep.options import Options
from cores.runs.compare import compare
code = bytes.fromhex({code!r})
program = Program("-", "flat", 0x100000, (Segment(0x100000, code, len(code)),), "")
for free in (False, True):
    (report,) = compare(program, Options(cores=("trap:native",), free=free)).cores
    print(report.stop, report.exit_status, report.bridged, "unicorn" in sys.modules)
"""
HIGH = """
_start: mov qword ptr [0x12ff8], 0x13003
mov rax, cr3
mov cr3, rax
mov rbx, 0xffffff8000060000
mov dword ptr [rbx], 40
add dword ptr [rbx], 2
push qword ptr [rbx]
pop rax
out 0xf4, al
"""


@pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
def test_unicorn_is_never_loaded() -> None:
    """Unicorn is not loaded, even for addresses that the host process cannot map."""
    code = assemble_program(HIGH.encode(), "high.s").segments[0].data.hex()
    command = [sys.executable, "-c", UNICORN.format(root=str(ROOT), code=code)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["exit 42 3 False"] * 2


def test_ctrl_c_is_not_for_the_guest(prison: Prison) -> None:
    """The vCPU process has a process group of its own, which the terminal's SIGINT does not reach."""
    assert os.getpgid(prison.pid) != os.getpgid(0)
