"""Two examples of each command, for its --help; a test has the command's parser read them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "": (
        ("hello", "the interface with a guest"),
        ("kernel --disk fs.img --cores interpreter,trap", "a kernel of your own, on two cores"),
    ),
    "compare": (
        ("compare hello", "on each core that runs here, step by step"),
        ("compare a.out --linux --free --json", "at full speed, for a script"),
    ),
    "trace": (
        ("trace tour --core trap", "each exit on a line"),
        ("trace tour --core trap,kvm --format perfetto >tour.json", "for ui.perfetto.dev"),
    ),
    "heat": (
        ("heat tinyos --free", "the places that leave the guest most often"),
        ("heat tour --html tour.html", "the source, the hotter the redder"),
    ),
    "gdb": (
        ("gdb tour", "wait for GDB on 127.0.0.1:1234"),
        ("gdb kernel --cores interpreter,trap --listen :2345", "two cores, another port"),
    ),
    "image": (
        ("image hello -o hello.img", "a disk that QEMU, Bochs or a PC starts from"),
        ("image file -o file.img --disk data.img", "with the guest's data behind it"),
    ),
    "guests": (
        ("guests", "the list"),
        ("guests --json", "the same for a script"),
    ),
    "doctor": (
        ("doctor", "which cores run here, and why others do not"),
        ("doctor --json", "the same for a script"),
    ),
    "probe": (
        ("probe", "what each sensitive instruction does at ring 3 on this CPU"),
        ("probe --json", "the same for a script"),
    ),
    "lessons": (
        ("lessons", "the course, and how far you are"),
        ("lessons >course.txt", "the same in a file"),
    ),
    "play": (
        ("play 1", "the first lesson, in the interface"),
        ("play time --plain --speed 2", "as text, by itself, twice as fast as one reads"),
    ),
    "check": (
        ("check lessons/course/*.md", "hold each claim against the machines here"),
        ("check mine.md --timeout 20", "give an endless guest up sooner"),
    ),
    "handout": (
        ("handout 1 -o lesson.html", "one file, with all steps under a slider"),
        ("handout time -o time.html --seed 7", "with other numbers in its questions"),
    ),
    "classroom": (
        ("classroom 1", "students follow in their browsers, on this computer"),
        ("classroom 1 --listen 0.0.0.0:8765 --answers votes.csv", "on the network"),
    ),
    "serve": (
        ("serve", "an interface for each visitor's browser"),
        ("serve hello --listen 0.0.0.0:8765 --most 30", "for a class"),
    ),
    "grade": (
        ("grade echo student.s", "hold a program against a shipped task"),
        ("grade task.md *.s --json", "a class, for a script"),
    ),
    "lab": (
        ("lab new mine", "a file to begin with"),
        ("lab check 1 mine/vmm.py", "hold it against our VMM"),
    ),
    "new-lesson": (
        ("new-lesson mine", "a folder with a lesson to begin from"),
        ("new-lesson ../course", "anywhere"),
    ),
    "explain": (
        ("explain popf", "why it is sensitive, and what each core does"),
        ("explain mov cr3, rax", "one form of an instruction"),
    ),
    "bench": (
        ("bench", "all measurements, each beside its baseline"),
        ("bench exit:native exit:kvm --json", "two of them, for a script"),
    ),
    "manual": (
        ("manual", "in man(1), where it is installed"),
        ("manual --roff >~/.local/share/man/man1/ringscope.1", "for man ringscope"),
    ),
    "completion": (
        ("completion bash >~/.local/share/bash-completion/completions/ringscope", "for bash"),
        ("completion fish >~/.config/fish/completions/ringscope.fish", "for fish"),
    ),
}  # fmt: skip


def examples(command: str) -> str:
    """The end of a command's --help; "" for one that has none."""
    lines = [f"  ringscope {words}\n      {what}" for words, what in EXAMPLES.get(command, ())]
    return "\n".join(["examples:", *lines]) if lines else ""
