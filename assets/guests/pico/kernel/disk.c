/* The disk: the master of the primary ATA channel, by programmed I/O.
 * Source: T13, ATA/ATAPI-5: READ MULTIPLE, so that a page costs one transfer of eight sectors. The kernel
 * polls: real systems let other processes run while a disk turns, at the cost of a queue. */
#include "kernel.h"

enum { DATA = 0x1F0, COUNT = 0x1F2, LBA = 0x1F3, DRIVE = 0x1F6, COMMAND = 0x1F7, STATUS = 0x1F7, CONTROL = 0x3F6 };
enum { BUSY = 0x80, REQUEST = 0x08, FAILED = 0x21, BY_LBA = 0xE0, NO_INTERRUPTS = 2 };
enum { READ_MULTIPLE = 0xC4, SET_MULTIPLE = 0xC6, BLOCK = 8 };

static int prepared;

static int status_after(int command)
{
    int status;
    outb(COMMAND, command);
    while ((status = inb(STATUS)) & BUSY && status != 0xFF) /* all ones: there is no disk */
        ;
    return status;
}

/* Read up to eight sectors. -1 if the disk cannot. */
int read_disk(u32 sector, void *to, int sectors)
{
    if (!prepared) {
        outb(CONTROL, NO_INTERRUPTS);
        outb(DRIVE, BY_LBA);
        outb(COUNT, BLOCK);
        if (status_after(SET_MULTIPLE) & (BUSY | FAILED))
            return -1;
        prepared = 1;
    }
    outb(COUNT, sectors);
    outb(LBA, sector);
    outb(LBA + 1, sector >> 8);
    outb(LBA + 2, sector >> 16);
    outb(DRIVE, BY_LBA | (sector >> 24 & 0x0F));
    if (!(status_after(READ_MULTIPLE) & REQUEST))
        return -1;
    in_longs(DATA, to, sectors * 512 / 4);
    return 0;
}
