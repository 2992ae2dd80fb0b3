"""`ringscope lab`: model solutions pass, common mistakes are told in words, hostile files end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from app import lab
from app.main import main
from cores.engines import registry
from cores.lab.guest import NAMES
from cores.lab.reference import reference
from cores.lab.steps import STEPS, step_of
from cores.lab.student import MOST_PRINTED, NATIVE, PORTABLE, Printed, compiled, run
from cores.lab.verdict import judged

SOLUTIONS = Path(__file__).resolve().parents[1] / "lab"


def verdicts(step: int, source: str, core: str = PORTABLE, name: str = "vmm.py") -> Iterator[str]:
    """What is said of each guest of a step under this VMM, in this process."""
    code = compiled(source.encode(), name)
    for case in step_of(step).cases(1):
        ours = reference(case)
        mine = run(code, name, case, *lab.limits_of(ours), core)
        verdict = judged(mine, ours, strict=step_of(step).strict, hidden=case.hidden)
        assert verdict.passed == (verdict.words == "")
        yield verdict.words


def solution(step: int) -> str:
    """The model solution of a step."""
    return (SOLUTIONS / f"step{step}.py").read_text()


@pytest.mark.full
@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_the_model_solution_passes(step: int) -> None:
    """Each step can be solved, with all guests, those with other values included."""
    source = solution(next(n for n in range(step, 9) if (SOLUTIONS / f"step{n}.py").is_file()))
    assert list(verdicts(step, source)) == [""] * len(step_of(step).cases(1))


@pytest.mark.parametrize("step", range(1, len(STEPS)))
def test_the_model_solution_passes_what_is_shown(step: int) -> None:
    """Each step can be solved: its guests as they stand, all of them."""
    source = solution(next(n for n in range(step, 9) if (SOLUTIONS / f"step{n}.py").is_file()))
    guests = len(step_of(step).guests)
    assert list(islice(verdicts(step, source), guests)) == [""] * guests


def test_the_kernel_boots() -> None:
    """Under the model solution of the last step the teaching kernel reaches its shell and obeys."""
    assert next(verdicts(8, solution(8))) == ""


@pytest.mark.full
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_the_last_solution_passes_the_first_steps(step: int) -> None:
    """One file grows through all steps: the last one passes the first."""
    assert list(verdicts(step, solution(8))) == [""] * len(step_of(step).cases(1))


@pytest.mark.parametrize(
    "step", [3, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2, 4, 5, 6, 7, 8))]
)
def test_the_cpu_itself_executes_the_guest(step: int) -> None:
    """On trap:native the model solution passes, too: the exits are the same, and counted."""
    if (reason := registry.availability(NATIVE).reason) is not None:
        pytest.skip(reason)
    assert next(verdicts(step, solution(8), NATIVE)) == ""


def test_silent_instructions_run_on_the_cpu_itself() -> None:
    """Unpatched, PUSHF gives this CPU's IF; the check says what to do."""
    if (reason := registry.availability(NATIVE).reason) is not None:
        pytest.skip(reason)
    source = solution(3).replace('guest.patch("pushf", "popf")', "pass")
    said = next(verdicts(3, source, NATIVE))
    assert "ring 3 executes pushf without a trap" in said
    assert "the console shows '11111', and under our VMM '01010'" in said


MISTAKES = [
    (1, "registers.rip += instruction.length", "pass",
     "line 4: at 0x100011 `out 0xe9, al`: your VMM left RIP at the instruction: it runs again"),
    (1, "registers.rip += instruction.length", "registers.rip += 1",
     "after exit 1, at 0x100011 `out 0xe9, al`: RIP is 0x100012, ours 0x100013"),
    (1, "guest.write(value, ports.read(guest.read(port), value.size))",
     "guest.registers.rax = ports.read(guest.read(port), value.size)",
     "at 0x10000a `in al, 0xe9`: RAX is 0xe9, ours 0x74726f7020796ee9"),
    (1, "while guest.running", "while True", "line 4: the guest has ended: enter it only while"),
    (1, "while guest.running", "if guest.running",
     "your vmm() returned at 0x100011 `out 0xe9, al` (#GP(0x0)), exit 1, with the guest still running:"
     " loop while guest.running"),
    (1, "ports.write(guest.read(port)",
     "ports.write({0xE9: 0x3F8}.get(guest.read(port), guest.read(port))",
     "after exit 1, at 0x100011 `out 0xe9, al`: your VMM writes 0x48 to port 0x3f8, ours to 0xe9"),
    (1, "value.size, guest.read(value))", "port.size, guest.read(value))",
     "`out dx, eax`: your VMM writes 2 bytes to port 0x1234, ours 4 bytes"),
    (1, "value.size, guest.read(value))", "value.size, guest.read(value) ^ 1)",
     "your VMM writes 0x49 to port 0xe9, ours 0x48"),
    (1, "ports.write(guest", "[ports.write(guest.read(port), 1, 65), ports.write][1](guest",
     "your VMM writes to ports 2 times, ours once"),
    (1, "ports.write(guest.read(port), value.size, guest.read(value))", "pass",
     "our VMM writes 0x48 to port 0xe9, yours writes to none"),
    (1, "value, port = instruction.operands", "port, value = instruction.operands",
     "an immediate cannot be written: IN's operands are (value, port)"),
    (2, "guest.cpuid(r.eax, r.ecx)", "guest.cpuid(r.eax)",
     "`cpuid`: your VMM calls guest.cpuid(0x40000000, 0x0), and the guest asks for leaf EAX,"),
    (2, "self.guest.halt()", "self.guest.shutdown()",
     "at exit 21, at 0x100042 `hlt`, it ended with shutdown, under our VMM with halted"),
    (2, "self.guest.halt()", "pass", "had ended: ours ended at exit 20, `hlt`, by guest.halt()"),
    (3, "& KEPT | 2", "| 2", "`pushfq`: your VMM stores 0xfffffffffffffeff"),
    (3, "KEPT = 1 << 9, 0x247FD5", "KEPT = 1 << 9, 0x244FD5",
     "`pushfq`: your VMM stores 0x2 (8 bytes) at 0xfffff0, ours 0x3002"),
    (3, "KEPT = 1 << 9, 0x247FD5", "KEPT = 1 << 9, 0x207FD5",
     "`pushfq`: your VMM stores 0x207ed7 (8 bytes) at 0xfffff0, ours 0x247ed7"),
    (3, "KEPT = 1 << 9, 0x247FD5", "KEPT = 1 << 9, 0x047FD5",
     "`pushfq`: your VMM stores 0x6 (8 bytes) at 0xfffff0, ours 0x200006"),
    (4, "self.guest.shutdown()", "pass",
     "`ud2`: the exception (#UD) is the guest's own: deliver"),
    (4, "16 * vector + 15 > own.idt_limit", "16 * vector > own.idt_limit",
     "after exit 25, at 0x10004d `ud2`: your VMM lets the guest go on, ours calls guest.shutdown()"),
    (4, "value & 0x247FD5", "value & 0x247ED5", "`int 0x30`: your VMM stores 0x4"),
    (4, "value & 0x247FD5", "value & 0x257FD5", "`int3`: your VMM stores 0x14246"),
    (4, "in WITH_ERROR and not behind", "in WITH_ERROR", "`int 0xd`: "),
    (4, "~(TF | NT", "~(TF", "`pushfq`: your VMM stores 0x4"),
    (4, "~(TF | NT", "~(NT", "`pushfq`: your VMM stores 0x102"),
    (4, "self.memory.load(at + 2, 8))", 'self.memory.load(at + 2, 8 if name == "idt" else 4))',
     "`sgdt [rip + 0x1fd]`: your VMM stores 0x100148007f (8 bytes) at 0x100268, ours 0x1000010014"),
    (4, "self.memory.load(at + 2, 8))", 'self.memory.load(at + 2, 8 if name == "gdt" else 4))',
     "`sidt ["),
    (3, 'guest.patch("pushf", "popf")', "pass",
     "where our VMM is called and yours is not: ring 3 executes pushf without a trap"),
    (3, 'guest.patch("pushf", "popf")', 'guest.patch("pushf")', "ring 3 executes popf without a trap"),
    (3, "self.flags |= IF", "pass", "`pushfq`: your VMM stores 0x2 (8 bytes) at 0xffffe8, ours 0x202"),
    (3, "self.registers.rsp += 8", "pass", "`popfq`: RSP is 0xfffff0, ours 0xfffff8"),
    (3, "self.registers.rflags = value", "pass", "`popfq`: PF is 1, ours 0"),
    (3, '"popf"', '"nop"', "guest.patch: 'nop' is none that ring 3 executes silently"),
    (4, 'value & 0xFFFF if target.name in SEGMENTS else value', "value + 1", "RAX is 0x11, ours 0x10"),
    (4, '"sgdt", ', "", "ring 3 executes sgdt without a trap"),
    (4, "r.rsp &= -16", "pass", "`div ecx`: RSP is 0xffffd0, ours 0xffffc8"),
    (4, "flags |= RF", "pass", "ours 0x14246"),
    (4, "error=stop.error & ~4", "error=stop.error", "stores 0x6 (8 bytes) at 0xffffc0, ours 0x2"),
    (4, "(0 if low >> 40 & 15 == 15 else IF)", "IF", "stores 0x46 (8 bytes) at 0xffffb8, ours 0x246"),
    (4, "not self.is_sensitive(instruction)", "False", "memory has no 1 byte at 0x1234567890"),
    (5, "self.guest.sleep()", "self.guest.halt()", "it ended with halted, under our VMM with exit and"),
    (5, "if guest.running and self.own.rflags & IF and", "if guest.running and", "ours"),
    (5, "self.shadow = not self.own.rflags & IF", "pass", "shows '1=++!Never"),
    (6, 'if self.guest.ring and not self.may_ring_3(instruction)', "if False", "`cli`: "),
    (6, '"iret", "retf"', '"retf"', "ring 3 executes iret without a trap"),
    (6, "r.rsp = self.load(own.tss_base + 4, word)", "pass", "RSP is"),
    (6, "gate[2] >> 5 & 3 < self.guest.ring", "False", "`int 0x31`: "),
    (6, "def do_wrmsr", "def do_none",
     "the run ends at exit 9, at 0x10002c `wrmsr` (#GP(0x0)), by guest.shutdown(); under our VMM the"),
    (6, "r.rcx, r.r11 = r.rip + instruction.length, self.flags", "pass", "RCX is"),
    (7, "self.guest.unmap(instruction.operands[0].address)", "pass", "the console shows"),
    (7, 'if target.name in ("cr0", "cr3", "cr4"):', "if False:", "the console shows"),
    (7, "rights & WRITABLE and rights & DIRTY", "rights & WRITABLE", "the console shows 'a1_1"),
    (7, "user=bool(rights & USER)", "user=True", "the console shows"),
    (7, "rights &= entry", "rights &= 6", "the console shows"),
    (7, "self.guest.map(page,", "self.guest.map(0x555000,",
     "the guest faults at 0x100000 again and again, on the address 0x100000: your VMM enters it"),
]  # fmt: skip


DAILY = [
    pytest.param(*mistake, marks=[] if index % 5 == 0 else [pytest.mark.full])
    for index, mistake in enumerate(MISTAKES)
]


@pytest.mark.parametrize(("step", "right", "wrong", "said"), DAILY)
def test_a_mistake_is_told_in_words(step: int, right: str, wrong: str, said: str) -> None:
    """A common mistake is named, with the exit at which the guest first went another way."""
    source = solution(step if (SOLUTIONS / f"step{step}.py").is_file() else 8)
    assert right in source
    assert any(said in words for words in verdicts(step, source.replace(right, wrong)))


def checked(
    capsys: pytest.CaptureFixture[str], path: Path, step: int = 1, *options: str
) -> tuple[int, str]:
    """The exit code and the text of ``lab check``."""
    code = main(["lab", "check", str(step), str(path), *options])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_check_runs_the_file_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lab new` writes a file that `lab check` can run, and never over one; its results are JSON and
    Gradescope's, and what the student prints is shown beside them."""
    assert main(["lab", "new", str(tmp_path)]) == 0
    path = tmp_path / "vmm.py"
    assert "# The hypervisor lab" in (tmp_path / "lab.md").read_text()
    assert main(["lab", "new", str(tmp_path)]) == 2
    assert "already there" in capsys.readouterr().err
    code, said = checked(capsys, path)
    assert code == 1
    assert "your vmm() returned at 0x100011 `out 0xe9, al` (#GP(0x0)), exit 1, with the" in said
    assert (tmp_path / "guests" / "greet.s").read_text().startswith("# greet")
    assert "exit 1: #GP(0x0) at 0x100011 `out 0xe9, al`" in said
    path.write_text(solution(1))
    results = tmp_path / "results.json"
    assert main(["lab", "check", "1", str(path), "--json", "--gradescope", str(results)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["points"], told["of"], told["step"]) == (12, 12, 1)
    assert told["guests"][0]["console"] == "Hello from the lab.\n"
    assert json.loads(results.read_text())["score"] == 12


HOSTILE = {
    "endless": (
        "import sys\ndef vmm(guest):\n    print(guest.enter())\n    print('x' * 300, file=sys.stderr)\n"
        "    while True:\n        pass\n",
        "it does not end (after exit 1) 0/3 ports not run, since the one before did not end",
    ),
    "exits": ("import os\nos._exit(0)\n", "ended early (exit code 0)"),
    "kills": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "ended early (signal 11)"),
    "floods": (
        "import os\nwhile True:\n    for n in range(3, 20):\n"
        "        try:\n            os.write(n, b'x' * 65536)\n"
        "        except OSError:\n            pass\n",
        "it does not end",
    ),
    "memory": ("def vmm(guest):\n    bytearray(1 << 40)\n", "used more than 3,072 MiB of memory"),
    "forges": ("print('{\"stop\": \"exit\"}')\nimport os\nos.write(1, b'{}')\ndef vmm(guest): pass\n",
               "your vmm() returned"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["endless", *(pytest.param(n, marks=pytest.mark.full) for n in HOSTILE if n != "endless")]
)
def test_a_hostile_file_ends_with_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that does not end, kills its process or forges results gets no points, and a reason."""
    source, said = HOSTILE[name]
    path = tmp_path / "vmm.py"
    path.write_text(source)
    code, told = checked(
        capsys, path, 1, "--timeout", {"endless": "0.2", "floods": "1"}.get(name, "200")
    )
    assert code == 1
    assert said in told
    assert "0 of 12 points" in told
    if name == "endless":
        printed = f"exit 1: #GP(0x0) at 0x100011 `out 0xe9, al` {'x' * 200} ..."
        assert told.endswith(f"Your VMM printed with greet: {printed}")


def test_the_manual_has_what_a_guest_has() -> None:
    """Each name of the manual's tables is there, and each that a message lists is in the manual."""
    manual = (SOLUTIONS.parents[1] / "docs" / "lab.md").read_text()
    table = manual.split("### `guest`")[1].split("###")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `guest.")]
    assert {name for row in rows for name in re.findall(r"`guest\.(\w+)", row)} == set(NAMES)
    source = f"def vmm(guest):\n    for name in {NAMES!r}:\n        getattr(guest, name)\n"
    assert next(verdicts(1, source)).startswith("your vmm() returned without guest.enter()")


def test_of_much_that_is_printed_the_first_and_the_last_is_kept() -> None:
    """What was printed last says most where a guest goes wrong: it is kept, however much there is."""
    printed = Printed()
    for number in range(50_000):
        print("line", number, file=printed)
    lines = printed.kept().splitlines()
    assert lines[:2] == ["line 0", "line 1"]
    assert lines[-2:] == ["line 49998", "line 49999"]
    assert "..." in lines
    assert len(printed.kept()) <= 2 * MOST_PRINTED + 5
    few = Printed()
    print("line", file=few)
    assert few.kept() == "line\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "def vmm(guest):\n    1 / 0\n",
            "line 2: ZeroDivisionError: division by zero (before the first exit)",
        ),
        ("x = 1\n", "it defines no vmm"),
        ("def vmm(guest):\n    yield guest.enter()\n", "it has yield"),
        ("async def vmm(guest):\n    guest.enter()\n", "it has async def"),
        ("async def vmm(guest):\n    yield guest.enter()\n", "it has async def"),
        ("def vmm(guest):\n    vmm(guest)\n", "line 2: RecursionError"),
        ("def vmm(guest):\n    raise SystemExit\n", "line 2: SystemExit"),
        (
            "def vmm(guest):\n    guest.registers.cr3 = 1\n",
            "line 2: there is no 'cr3' among the guest's",
        ),
        ("def vmm(guest):\n    guest.registers.rax = 'x'\n", "line 2: rax takes a number, not 'x'"),
        ("def vmm(guest):\n    guest.memory.read(-1, 5)\n", "line 2: memory has no 5 bytes at -0x1"),
        ("def vmm(guest):\n    guest.ports.write(1 << 16, 1, 0)\n", "line 2: there is no port 0x10000"),
        ("def vmm(guest):\n    guest.map(0x1000, 0xa0000)\n", "line 2: guest.map: there is no RAM at"),
        ("def vmm(guest):\n    guest.acknowledge()\n", "line 2: guest.acknowledge: no interrupt"),
        (
            "def vmm(guest):\n    assert guest.initial.cr3 == guest.initial['cr3'] == 0x12000\n"
            "    guest.initial.rflags = 2\n",
            "line 3: guest.initial.rflags is read-only: copy it into a variable of yours",
        ),
        ("def vmm(guest):\n    guest.initial.cr9\n", "line 2: guest.initial has no 'cr9': it has cr0,"),
        (
            "def vmm(guest):\n    port, _ = guest.enter().instruction.operands\n"
            "    guest.ports.write(port, 1, 1)\n",
            "line 3: ports.write takes a number: guest.read(port)",
        ),
        (
            "def vmm(guest):\n    guest.read(0xe9)\n",
            "line 2: guest.read takes an operand, such as stop.instruction.operands[0], not 233",
        ),
        (
            "def vmm(guest):\n    guest.enter().reason_\n",
            "line 2: stop has no 'reason_': it has number,",
        ),
        (
            "def vmm(guest):\n    guest.enter().instruction.name\n",
            "line 2: stop.instruction has no 'name': it has mnemonic, operands,",
        ),
        (
            "def vmm(guest):\n    guest.registers.rip = 0\n    guest.enter().instruction.mnemonic\n",
            "line 3: stop.instruction is None: there is no code at RIP, 0x0",
        ),
        (
            "def vmm(guest):\n    guest.enter().rip += 2\n",
            "line 2: cannot assign to field 'rip': a stop is read-only, and guest.registers.rip is",
        ),
        (
            "def vmm(guest):\n    guest.regs\n",
            "line 2: guest has no 'regs': it has enter, running, reg",
        ),
        ("def vmm(guest):\n    guest.ports.inb(1)\n", "line 2: guest.ports has no 'inb': it has read,"),
        ("def vmm(guest):\n    guest.running = 0\n", "line 2: AttributeError: property 'running'"),
        (
            "def vmm(guest):\n    guest.map(0x1000, 'x')\n",
            "line 2: guest.map takes numbers; its physical",
        ),
        (
            "def vmm(guest):\n    guest.patch(['mov'])\n",
            "line 2: guest.patch: ['mov'] is none that ring",
        ),
        (
            "def vmm(guest):\n    guest.memory.store(0, 8, guest.enter().address)\n",
            "line 2: memory.store takes numbers; its value is None",
        ),
        (
            "def vmm(guest):\n    guest.memory.load(guest.enter().instruction.operands[0], 8)\n",
            "line 2: guest.memory takes a number: operand.address",
        ),
        (
            "def vmm(guest):\n    guest.memory.write(0, 'x')\n",
            "line 2: memory.write takes bytes, not 'x'",
        ),
        ("def vmm(guest):\n    input()\n", "line 2: there is no keyboard for a VMM"),
    ],
)
def test_an_exception_has_its_line(source: str, said: str) -> None:
    """An exception of the student's code, or of ours at a wrong call, is told with its line."""
    assert said in next(verdicts(1, source))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lab", "check"], "which step? ringscope lab check STEP [FILE]"),
        (["lab", "foo"], "'foo' is none of new, check, show"),
        (["lab", "check", "x"], "a step is a number from 1 to"),
        (["lab", "check", "99"], "a step is a number from 1 to"),
        (["lab", "check", "1", "no-such.py"], "no-such.py: no such file"),
    ],
)
def test_a_wrong_command_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong step or a missing file: one line, exit code 2."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_is_no_python_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A syntax error names file and line, exit code 2."""
    path = tmp_path / "vmm.py"
    path.write_text("def vmm(guest):\n  while:\n")
    code, said = checked(capsys, path)
    assert code == 2
    assert said.endswith(f"{path}:2: no Python: invalid syntax")
