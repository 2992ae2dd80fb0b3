"""Failures of the host give one clear message and the right exit code, lose no data, and leave no
process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.main import again
from cores.debugging import saved_session as saved
from cores.debugging.live_session import LiveSession
from cores.engines import registry
from cores.errors import InputError
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.pc.stop import Stop
from cores.programs.program import Program, Segment
from tests.sampling import all_but

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
SPIN = b"\xeb\xfe"
HELLO = "hello"

needs_native = pytest.mark.skipif(
    not registry.availability("trap:native").available,
    reason=f"trap:native: {registry.availability('trap:native').reason}",
)


@contextlib.contextmanager
def ringscope(
    *words: str, limit: Callable[[], None] | None = None, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """The command line as a process of its own; ``limit`` runs in it before it begins."""
    with subprocess.Popen(
        again(*words), stdout=stdout, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=limit,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a process; fails at a traceback."""
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    return process.returncode, out or "", err


def vcpus(process: subprocess.Popen[str], at_least: int = 1) -> list[int]:
    """The vCPU processes, once there are so many, and the guest has begun to run in one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [pid for pid in children(process.pid) if is_running_vcpu(pid)]
        if len(found) >= at_least:
            return found
    raise AssertionError("no vCPU process ever ran")


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def is_running_vcpu(pid: int) -> bool:
    """Has the process used 20 ms of CPU? The one that only probes the host never does."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return is_vcpu(pid) and sum(map(int, stat.rpartition(")")[2].split()[11:13])) >= 2


def is_vcpu(pid: int) -> bool:
    """A vCPU process has neither a command line nor a name, but the guest's RAM."""
    try:
        return "guest-ram" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"


@pytest.fixture
def spin(tmp_path: Path) -> str:
    path = tmp_path / "spin.bin"
    path.write_bytes(SPIN)
    return str(path)


def how(free: bool) -> list[str]:
    return ["--free", "--budget", "3600"] if free else ["--budget", "100000000"]


# Processes


@needs_native
@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_vcpu_process_killed(free: bool, spin: str) -> None:
    """A process killed from outside gives "error" with the reason, the JSON, and exit code 3, and
    leaves no process."""
    with ringscope("compare", spin, "--cores", "trap:native", "--json", *how(free)) as process:
        (pid,) = vcpus(process)
        os.kill(pid, signal.SIGKILL)
        code, out, err = ended(process)
    assert code == 3
    core = json.loads(out)["cores"][0]
    assert (core["stop"], core["reason"]) == ("error", "the vCPU process was killed (signal 9)")
    assert err == "ringscope compare: trap:native: the vCPU process was killed (signal 9)\n"


@needs_native
def test_vcpu_process_killed_beside_others(spin: str) -> None:
    """The other machines go on and are compared; the core was not named."""
    program = Program("-", "flat", 0x100000, (Segment(0x100000, SPIN, 2),), "")
    with contextlib.closing(Session(program, Options(budget=20_000))) as session:
        session.step()
        native = next(m for m in session.machines if m.core == "trap:native")
        match = re.search(r"process (\d+)", native.engine.where())
        assert match is not None
        os.kill(int(match[1]), signal.SIGKILL)
        session.run_to_end()
        assert native.stop is Stop.ERROR
        assert session.divergence is None
        assert {m.stop for m in session.machines if m is not native} == {Stop.BUDGET}


@needs_native
@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_a_storm_of_signals(free: bool, tmp_path: Path) -> None:
    """Signals from outside, also fatal and stopping ones, neither reach the guest nor end it."""
    budget = ["--free", "--budget", "3"] if free else ["--budget", "300000000"]
    guest = tmp_path / "count.bin"
    guest.write_bytes(b"\x48\xff\xc0\xeb\xfb")  # inc rax; jmp: no two passes of it are the same
    words = ["compare", str(guest), "--cores", "interpreter,trap:native", "--json", *budget]
    with ringscope(*words) as process:
        storm = [signal.SIGSEGV, signal.SIGTRAP, signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT,
                 signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGSYS]  # fmt: skip
        (pid,) = vcpus(process)
        for number in storm * 20:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        code, out, _ = ended(process)
    assert code == 0
    report = json.loads(out)
    assert report["equivalent"] is True
    assert [core["stop"] for core in report["cores"]] == ["budget", "budget"]


@needs_native
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_ended_by_a_signal(number: signal.Signals, free: bool, spin: str) -> None:
    """Ctrl-C gives 130; SIGTERM, SIGHUP and SIGKILL end the program by the signal; no process is
    left."""
    with ringscope("compare", spin, "--cores", "trap:native", *how(free)) as process:
        pids = vcpus(process)
        process.send_signal(number)
        code, out, err = ended(process)
    assert code == (130 if number == signal.SIGINT else -number)
    assert (out, err) == ("", "")
    wait_until(lambda: all(map(gone, pids)), "the end of the vCPU processes")


@needs_native
@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_stopped_and_continued(free: bool, spin: str) -> None:
    """After SIGSTOP and SIGCONT (Ctrl-Z, fg) the run goes on to its end."""
    budget = ["--free", "--budget", "3"] if free else ["--budget", "60000"]
    with ringscope("compare", spin, "--cores", "trap:native", *budget) as process:
        vcpus(process)
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is not None,
                       "the stop")  # fmt: skip
            process.send_signal(signal.SIGCONT)
        assert ended(process)[0] == 0


def test_nothing_looks_at_the_calendar() -> None:
    """A changed wall clock has no effect: guests and limits use the monotonic clock."""
    wall = re.compile(r"time\.time\(|datetime\.now|datetime\.utcnow|date\.today|CLOCK_REALTIME")
    asking = {str(p) for p in (ROOT / "cores").rglob("*.py") if wall.search(p.read_text())}
    assert asking == set()


# Means


def at_most(limit: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(limit, (value, value))


@pytest.mark.parametrize("ram", all_but(("16M", "512M"), "512M"))
@pytest.mark.parametrize("mebibytes", [130, 150, 300, 700])  # Unicorn itself needs some 120
def test_memory_short(ram: str, mebibytes: int) -> None:
    """With ever less address space a core that cannot run says so, or one line and exit code 3
    follow."""
    words = ("compare", HELLO, "--cores", "interpreter,trap,kvm", "--ram", ram)
    with ringscope(*words, limit=at_most(resource.RLIMIT_AS, mebibytes << 20)) as process:
        code, out, err = ended(process)
    assert (code == 0 and "Equivalent" in out) or (code == 3 and err)


@pytest.mark.parametrize("descriptors", [6, 9, 12, 15, 20])
def test_descriptors_short(descriptors: int) -> None:
    """With ever fewer descriptors a core that cannot run says so, or one line and exit code 3
    follow."""
    words = ("compare", HELLO, "--cores", "interpreter,trap:native,kvm")
    with ringscope(*words, limit=at_most(resource.RLIMIT_NOFILE, descriptors)) as process:
        code, _, err = ended(process)
    assert code == 0 or (code in (2, 3) and err)  # 2: the program itself could not be read


needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare(1)"
)


@needs_namespaces
@pytest.mark.parametrize("instead", ["mount --bind /dev/null /dev/kvm", "mount -t tmpfs none /dev"])
def test_no_kvm(instead: str) -> None:
    """With /dev/kvm absent or replaced, kvm by name gives a reason and exit code 3, and no error
    otherwise."""
    if "bind" in instead and not os.path.exists("/dev/kvm"):
        pytest.skip("there is no /dev/kvm to put something in the place of")
    run = shlex.join(again("compare", HELLO))
    script = f"{instead} || exit 99; {run} --cores kvm >&2; echo $?; {run} --json"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=PATIENCE,
    )  # fmt: skip
    if done.returncode == 99:
        pytest.skip("no mount namespaces here")
    asked, _, report = done.stdout.partition("\n")
    assert asked == "3"
    assert "Traceback" not in done.stderr
    kvm = next(core for core in json.loads(report)["cores"] if core["core"] == "kvm")
    assert kvm["available"] is False
    assert "/dev/kvm" in kvm["reason"]
    assert done.returncode == 0


# Files

READ_FOR_EVER = bytes.fromhex(
    "31db"  #              xor ebx, ebx
    "bf00000200"  # next:  mov edi, 0x20000      disk read, to 0x30000, sector EBX
    "c70702000000"  #      mov dword ptr [rdi], 2
    "48c7470800000300"  #  mov qword ptr [rdi + 8], 0x30000
    "48c7471001000000"  #  mov qword ptr [rdi + 16], 1
    "48895f18"  #          mov [rdi + 24], rbx
    "66bae405"  #          mov dx, 0x5e4
    "89f8"  #              mov eax, edi
    "ef"  #                out dx, eax
    "8a4704"  #            mov al, [rdi + 4]     its status is seen on the console
    "e6e9"  #              out 0xe9, al
    "ffc3"  #              inc ebx
    "83e303"  #            and ebx, 3
    "ebcf"  #              jmp next
)


@pytest.mark.parametrize("loss", ["truncated", "removed", "replaced"])
def test_disk_image_lost_in_use(loss: str, tmp_path: Path) -> None:
    """A truncated image gives bad sectors, alike on all cores; a removed or replaced one stays open."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4 * 512))
    program = Program("-", "flat", 0x100000, (Segment(0x100000, READ_FOR_EVER, 99),), "")
    with contextlib.closing(Session(program, Options(budget=600, disks=(str(image),)))) as session:
        while not session.machines[0].console():
            session.step()
        if loss == "truncated":
            os.truncate(image, 512)
        else:
            image.unlink()
            if loss == "replaced":
                image.write_bytes(b"")
        session.run_to_end()
        told = set(session.machines[0].console()[1:])
        assert told == ({"\0", "\3"} if loss == "truncated" else {"\0"})
        assert session.divergence is None
        assert {machine.stop for machine in session.machines} == {Stop.BUDGET}
        noted = [note for note in session.machines[0].notes() if "has become shorter" in note]
        assert len(noted) == (loss == "truncated")


def test_output_has_no_room() -> None:
    """/dev/full as output gives one line, and exit code 2."""
    with open("/dev/full", "w") as full, ringscope("compare", HELLO, stdout=full.fileno()) as process:
        code, _, err = ended(process)
    assert code == 2
    assert err == "ringscope: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("descriptors", all_but(((0,), (1,), (2,), (0, 1, 2)), (0,), (2,)))
@pytest.mark.parametrize("words", [("compare", HELLO), (HELLO,), ("compare", "-")])
def test_closed_before_the_start(words: tuple[str, ...], descriptors: tuple[int, ...]) -> None:
    """With `<&-`, `>&-` or `2>&-` it runs, the closed file is empty, and no output goes elsewhere."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    with ringscope(*words, limit=close) as process:
        code, out, _ = ended(process)
    assert code == (2 if "-" in words else 0)
    assert bool(out) == (code == 0 and 1 not in descriptors)


@pytest.mark.parametrize(
    "words", [("compare", HELLO), ("trace", HELLO, "--core", "interpreter", "--steps")]
)
def test_reader_gone(words: tuple[str, ...]) -> None:
    """`| head -0` is no error, and prints nothing on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with ringscope(*words, stdout=writer) as process:
            code, _, err = ended(process)
    finally:
        os.close(writer)
    assert (code, err) == (0, "")


def test_what_was_saved_stays(tmp_path: Path) -> None:
    """Without room to save a session there is a reason, and the session saved before can be opened."""
    path, room = tmp_path / "saved.ringscope", resource.getrlimit(resource.RLIMIT_FSIZE)
    program = Program("-", "flat", 0x100000, (Segment(0x100000, SPIN, 2),), "")
    with contextlib.closing(LiveSession(program, Options(cores=("interpreter",)))) as session:
        session.go_to(10)
        saved.save(session, str(path))
        session.go_to(20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, room[1]))
        try:
            with pytest.raises(InputError, match="cannot write"):
                saved.save(session, str(path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert os.listdir(tmp_path) == [path.name]
    with contextlib.closing(saved.reopen(str(path))) as session:
        assert session.machines[0].vmm.instructions == 10


# The terminal


@needs_native
def test_terminal_closed(spin: str) -> None:
    """Closing the window while a guest spins ends the interface and its processes."""
    pexpect = pytest.importorskip("pexpect", reason="pexpect is not installed: no pseudo-terminal")
    process = pexpect.spawn(
        sys.executable, again(spin)[1:], dimensions=(30, 100), cwd=str(ROOT),
        env=os.environ | {"TERM": "xterm-256color", "RINGSCOPE_CONFIG": os.devnull},
    )  # fmt: skip
    try:
        process.expect("0 instr", timeout=PATIENCE)
        process.send("f")
        process.expect("running", timeout=PATIENCE)
        started = [pid for pid in children(process.pid) if is_vcpu(pid)]
        assert started
        process.ptyproc.fileobj.close()  # the terminal hangs up: SIGHUP
        wait_until(lambda: all(map(gone, [process.pid, *started])), "the end")
    finally:
        process.ptyproc.closed = process.closed = True  # pexpect must not close it again
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
