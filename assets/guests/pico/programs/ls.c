/* ls: the files of the disk. The directory is a file, too: entries of 32 bytes. */
#include "user.h"

struct entry { char name[16]; int sector, size, unused[2]; };

int main(void)
{
    static struct entry entries[16];
    char lines[640];
    int used = 0, directory = open(".");
    if (read(directory, entries, sizeof entries) < 0)
        fail("ls: the disk cannot be read\n");
    for (int i = 1; i < 16 && entries[i].name[0]; i++) {
        copy_text(lines + used, entries[i].name, 16);
        for (int end = used + 16; used < end; used++)
            if (!lines[used])
                for (; used < end - 1; used++)
                    lines[used] = ' ';
        lines[used - 1] = ' ';
        int size = entries[i].size, digits = 6;
        for (int at = used + digits - 1; at >= used; at--, size /= 10)
            lines[at] = size || at == used + digits - 1 ? '0' + size % 10 : ' ';
        used += digits;
        lines[used++] = '\n';
    }
    write(1, lines, used);
    return 0;
}
