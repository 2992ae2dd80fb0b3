/* grow DEPTH: a function calls itself, 1,000 bytes of stack each time. The stack begins with one page; the
 * kernel adds one at each page fault, down to 256 KiB, and kills a program that needs more. */
#include "user.h"

static int pages(void)
{
    static struct process_info list[16];
    for (int count = ps(list, 16), i = 0; i < count; i++)
        if (list[i].pid == getpid())
            return list[i].pages;
    return 0;
}

static int deeper(int depth)
{
    volatile char room[1000];
    room[0] = depth;
    int below = depth ? deeper(depth - 1) : pages();
    return below + room[0] - (char)depth; /* what was stored is still there */
}

int main(int count, char **words)
{
    int depth = count > 1 ? number(words[1]) : 20, before = pages();
    print("%d pages; %d calls deep %d\n", before, depth, deeper(depth));
    return 0;
}
