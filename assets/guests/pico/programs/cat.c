/* cat: files, or its input, one after the other. */
#include "user.h"

static char buffer[512];

static void copy(int from)
{
    int size;
    while ((size = read(from, buffer, sizeof buffer)) > 0)
        write(1, buffer, size);
}

int main(int count, char **words)
{
    if (count < 2)
        copy(0);
    for (int i = 1; i < count; i++) {
        int file = open(words[i]);
        if (file < 0)
            fail("cat: there is no file %s\n", words[i]);
        copy(file);
        close(file);
    }
    return 0;
}
