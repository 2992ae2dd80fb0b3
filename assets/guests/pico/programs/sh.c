/* sh: the shell. Words, `|` between programs, `&` behind one that is not waited for. */
#include "user.h"

enum { MOST_WORDS = 16 };

static const char help[] =
    "Programs: ls cat echo wc ps kill spin grow crash. `ls | wc` joins two, `spin a &` is not waited for,\n"
    "`cat readme` tells more. Ctrl-C ends what runs, `off` switches the computer off.\n";

/* Split a line where there are blanks; | and & are words of their own. */
static void split(char *line, char **words)
{
    int count = 0;
    while (count < MOST_WORDS - 1) {
        while (*line == ' ' || *line == '\n')
            *line++ = 0;
        if (!*line)
            break;
        words[count++] = *line == '|' ? "|" : *line == '&' ? "&" : line;
        if (*line == '|' || *line == '&') {
            *line++ = 0;
            continue;
        }
        while (*line && *line != ' ' && *line != '\n' && *line != '|' && *line != '&')
            line++;
    }
    words[count] = 0;
}

/* Let descriptor `to` mean what `from` means: the lowest free one is taken. */
static void move(int from, int to)
{
    close(to);
    dup(from);
    close(from);
}

/* Start a pipeline's programs, each with its output in a pipe, and become the last, which reads it. */
static void __attribute__((noreturn)) become(char **words)
{
    for (char **word = words; *word; word++) {
        int ends[2];
        if (strcmp(*word, "|"))
            continue;
        *word = 0;
        if (pipe(ends) < 0)
            fail("sh: no pipe\n");
        if (fork() == 0) {
            close(ends[0]);
            move(ends[1], 1);
            break;
        }
        close(ends[1]);
        move(ends[0], 0);
        words = word + 1;
    }
    if (!*words)
        fail("sh: a program is missing\n");
    exec(*words, words);
    fail("%s: no such program\n", *words);
}

/* Run the words up to the next & or the end: the rest, or 0. */
static char **run(char **words)
{
    char **end = words;
    int ignored;
    while (*end && strcmp(*end, "&"))
        end++;
    int waits = !*end;
    *end = 0;
    int child = fork();
    if (child == 0)
        become(words);
    if (child < 0)
        print("sh: no memory for another process\n");
    while (child > 0 && waits && wait(&ignored) != child) /* others may end meanwhile */
        ;
    return waits ? 0 : end + 1;
}

int main(void)
{
    static char line[256];
    char *words[MOST_WORDS];
    print("Type `help` for what there is.\n");
    for (;;) {
        print("$ ");
        int length = read(0, line, sizeof line - 1);
        if (length <= 0)
            power_off();
        line[length] = 0;
        split(line, words);
        char **next = words;
        if (*words && !strcmp(*words, "off"))
            power_off();
        if (*words && !strcmp(*words, "help"))
            print("%s", help);
        else
            while (next && *next)
                next = run(next);
    }
}
