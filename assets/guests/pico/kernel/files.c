/* The file system, which is only read: a directory of sixteen entries in sector 0, and files in sectors
 * that follow each other (assets/disks/build.py writes it). The directory is read once. */
#include "kernel.h"

enum { SECTOR = 512, ENTRIES = SECTOR / sizeof(struct entry) };

static struct entry directory[ENTRIES];
static const struct entry whole = {.name = ".", .size = SECTOR}; /* the directory as a file, for `ls` */

void set_up_files(void)
{
    if (read_disk(0, directory, 1) < 0)
        panic("there is no disk: give it one with --disk assets/disks/pico.img");
    if (memcmp(directory[0].name, "ringscope files", 16))
        panic("the disk has no file system that pico knows");
    print("pico: a disk with %d files\n", directory[0].sector);
}

const struct entry *find_file(const char *name)
{
    if (!strcmp(name, "."))
        return &whole;
    for (int i = 1; i < ENTRIES; i++)
        if (directory[i].name[0] && !strncmp(directory[i].name, name, sizeof directory[i].name))
            return &directory[i];
    return 0;
}

/* Read bytes of a file: how many, fewer at its end; -1 if the disk fails. */
int read_file(const struct entry *entry, u32 offset, void *to, u32 size)
{
    u32 done = 0;
    if (offset >= entry->size)
        return 0;
    if (size > entry->size - offset)
        size = entry->size - offset;
    while (done < size) { /* sectors, or parts of them */
        u8 sector[SECTOR];
        u32 at = (offset + done) % SECTOR, part = SECTOR - at;
        if (part > size - done)
            part = size - done;
        if (read_disk(entry->sector + (offset + done) / SECTOR, sector, 1) < 0)
            return -1;
        memcpy((u8 *)to + done, sector + at, part);
        done += part;
    }
    return done;
}
