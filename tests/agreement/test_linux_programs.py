"""Static Linux programs on the guest kernel: system calls, files, ends, the same on every core."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from assets.linux.build import KERNEL, build, compiled_by
from cores.engines.registry import availability
from cores.lockstep.options import Options
from cores.machine.report import CoreReport
from cores.pc.stop import Stop
from cores.programs import elf
from cores.programs.loader import load_program
from cores.programs.program import LOAD_ADDRESS, StartOptions
from cores.runs.compare import compare
from tests import linux_lab

CORES = tuple(core for core in ("interpreter", "trap:native") if availability(core).available)
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

CALL = """
.macro call3 number, a, b, c
    mov rdx, \\c
    mov rsi, \\b
    mov rdi, \\a
    mov eax, \\number
    syscall
.endm
"""
TOUR = (
    CALL
    + """
_start: mov     r12, [rsp + 16]         # argv[1]
        call3   1, 1, r12, 5
        lea     rdi, [rip + name]
        mov     eax, 2                  # open
        xor     esi, esi
        syscall
        mov     r13, rax
        sub     rsp, 64
        call3   0, r13, rsp, 64         # read
        call3   1, 1, rsp, rax          # write what was read
        call3   0, 0, rsp, 64           # standard input
        call3   1, 2, rsp, rax
        mov     r10d, 0x22
        mov     r8, -1
        xor     r9d, r9d
        call3   9, 0, 0x5000, 3         # mmap
        mov     rbx, rax
        mov     qword ptr [rbx + 0x4ff8], 7
        call3   10, rbx, 0x5000, 1      # mprotect: read only
        call3   11, rbx, 0x4000, 0      # munmap all but the last page
        mov     rbp, [rbx + 0x4ff8]
        call3   41, 0, 0, 0             # socket
        cmp     rax, -38
        jne     wrong
        mov     rdi, rbp
        add     edi, 0x1f00             # the status is the low byte
        mov     eax, 231                # exit_group
        syscall
wrong:  ud2
name:   .asciz "./sub/..//sub/./file"
"""
)


def run(path: str, start: StartOptions, *, free: bool, typed: bytes = b"") -> tuple[CoreReport, ...]:
    """A program on the cores here, which agree."""
    options = Options(cores=CORES, free=free, budget=60 if free else 200_000, input=typed, start=start)
    report = compare(load_program(path, options=start), options)
    assert report.equivalent is not False, report.divergence
    return report.cores


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
def test_a_tour_of_system_calls(free: bool, tmp_path: Path) -> None:
    """Arguments, a file of the user's folder, typed input, memory and the exit status are as on Linux;
    a call that is not there returns ENOSYS and becomes a note."""
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "sub" / "file").write_text("in the file\n")
    path = linux_lab.program(tmp_path, TOUR)
    start = StartOptions(append=b"word2", files=str(tmp_path / "files"))
    for core in run(path, start, free=free, typed=b"typed\n"):
        assert core.console == "word2in the file\ntyped\n"
        assert (core.stop, core.exit_status) == (Stop.EXIT, 7)
        assert any("the system call socket (41): it returned ENOSYS" in note for note in core.notes)


@pytest.mark.parametrize(
    ("source", "signal"),
    [
        ("_start: ud2", "SIGILL"),
        ("_start: mov eax, [0]", "SIGSEGV"),
        ("_start: mov byte ptr [rip + _start], 0", "SIGSEGV"),
        ("_start: push rax\n jmp rsp", "SIGSEGV"),
        ("_start: xor eax, eax\n div eax", "SIGFPE"),
        ("_start: mov eax, 0x11080\n mov [rax], eax", "SIGSEGV"),
        ("_start: hlt", "SIGSEGV"),
    ],
)
def test_a_signal_ends_it(source: str, signal: str, tmp_path: Path) -> None:
    """What a program may not do ends it by the signal that Linux sends: also writing to its code,
    executing its stack, and touching the kernel's memory."""
    for core in run(linux_lab.program(tmp_path, source), StartOptions(), free=True):
        assert core.stop is Stop.EXIT
        assert any(f"({signal})" in note for note in core.notes)


@needs_gcc
def test_the_kernel_is_its_source(tmp_path: Path) -> None:
    """The shipped image of the guest kernel is what its source gives."""
    build(tmp_path / "kernel.elf")
    shipped, built = KERNEL.read_bytes(), (tmp_path / "kernel.elf").read_bytes()
    if compiled_by(shipped) != compiled_by(built):
        pytest.skip(f"gcc {compiled_by(built)} is here; the image is made by {compiled_by(shipped)}")
    old, new = (elf.parse(image, "kernel", LOAD_ADDRESS, 1 << 21) for image in (shipped, built))
    assert (old.entry, old.segments) == (new.entry, new.segments)


def test_the_kernel_is_short() -> None:
    """A student can read it: less than 800 lines."""
    sources = [path for path in KERNEL.parent.iterdir() if path.suffix in (".c", ".h", ".S")]
    assert sum(path.read_text().count("\n") for path in sources) < 800


PROGRAM = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
static int order(const void *a, const void *b) { return *(int *)a - *(int *)b; }
int main(int argc, char **argv)
{
    int *numbers = malloc(20000 * sizeof *numbers), sorted = 1;
    for (unsigned i = 0, seed = 1; i < 20000; i++)
        numbers[i] = (seed = seed * 1103515245 + 12345) >> 8 & 0xffff;
    qsort(numbers, 20000, sizeof *numbers, order);
    for (int i = 1; i < 20000; i++)
        sorted &= numbers[i - 1] <= numbers[i];
    printf("%d %d %s %.6f %e\n", sorted, argc, argv[1], 3.14159 / argc, 1e300);
    char *block = malloc(100), line[100];
    for (int i = 1; i < 16; i++) {
        block = realloc(block, 100 << i);
        block[(100 << i) - 1] = i;
    }
    printf("%d\n", block[(100 << 15) - 1]);
    FILE *file = fopen("data.txt", "r");
    while (fgets(line, sizeof line, file))
        fputs(line, stdout);
    fseek(file, 2, SEEK_SET);
    printf("%c %ld\n", fgetc(file), ftell(file));
    struct stat about;
    int failed = stat("data.txt", &about);
    printf("%d %d\n", failed, (int)about.st_size);
    printf("%d ", fopen("absent", "r") != NULL);
    puts(strerror(errno));
    static const char *const paths[] = {"sub/.././/data.txt", "sub/", "data.txt/", "data.txt/..",
        "absent/../data.txt", "sub/deep/../../data.txt", "", "sub/.."};
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
        int missing = stat(paths[i], &about);
        printf("%s, ", missing ? strerror(errno) : S_ISDIR(about.st_mode) ? "folder" : "file");
    }
    int folder = open("sub", O_RDONLY), long_link = readlink("/proc/self/exe", line, sizeof line - 1);
    line[long_link > 0 ? long_link : 0] = 0;
    printf("%d %s\n", openat(folder, "deep/../../data.txt", O_RDONLY) > folder, strrchr(line, '/'));
    printf("%d %d\n", openat(open("data.txt", O_RDONLY), "x", O_RDONLY), errno == ENOTDIR);
    printf("%d\n", mmap((void *)0xc000000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        == (void *)0xc000000000);
    char *page = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[5000] = 7;
    printf("%d %d\n", mprotect(page, 1 << 20, PROT_READ), page[5000]);
    struct timespec nap = {0, 70000000}, before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long slept = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    printf("%d\n", slept >= nap.tv_nsec);
    while (fgets(line, sizeof line, stdin))
        printf("<%s>", line);
    fprintf(stderr, "the end\n");
    return 42;
}
"""
CPLUSPLUS = r"""
#include <iostream>
#include <memory>
#include <regex>
#include <stdexcept>
struct Counted { ~Counted() { std::cout << "gone "; } };
static int deep(int n)
{
    auto counted = std::make_unique<Counted>();
    if (n == 0)
        throw std::runtime_error("from below");
    return deep(n - 1) + 1;
}
int main()
{
    std::string text = "bob@example, al@test";
    std::regex address("(\\w+)@(\\w+)");
    for (std::sregex_iterator i(text.begin(), text.end(), address), end; i != end; ++i)
        std::cout << (*i)[2] << " has " << (*i)[1] << "\n";
    try {
        deep(3);
    } catch (const std::exception &error) {
        std::cout << error.what() << std::endl;
    }
    return 3;
}
"""


@pytest.mark.full
@pytest.mark.parametrize("language", ["c", "c++", "musl"])
def test_compiled_programs(language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of a C library, of C++'s and of musl print and return what they do on this host."""
    compiler = {"c": "gcc", "c++": "g++", "musl": "musl-gcc"}[language]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source = tmp_path / ("a.cpp" if language == "c++" else "a.c")
    source.write_text(CPLUSPLUS if language == "c++" else PROGRAM)
    subprocess.run(
        [compiler, "-O2", "-static", "-no-pie", source, "-o", "a.out"], cwd=tmp_path, check=True
    )
    (tmp_path / "files" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "data.txt").write_text("one\ntwo\n")
    here = subprocess.run(
        [tmp_path / "a.out", "word"], cwd=tmp_path / "files", input=b"typed\n", env={}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    start = StartOptions(append=b"word", linux=True, files=str(tmp_path / "files"))
    monkeypatch.chdir(tmp_path)
    for path in (os.fspath(tmp_path / "a.out"), "a.out"):
        for core in run(path, start, free=True, typed=b"typed\n"):
            assert (core.console, core.exit_status) == (here.stdout.decode(), here.returncode)
