/* The serial line, COM1. Source: National Semiconductor, PC16550D. */
#include "kernel.h"

enum { DATA = 0x3F8, INTERRUPTS = 0x3F9, FIFO = 0x3FA, LINE = 0x3FB, MODEM = 0x3FC, STATUS = 0x3FD };
enum { RECEIVED = 0x01, SENT = 0x20, DEPTH = 16 };

void set_up_serial(void)
{
    outb(LINE, 0x80); /* the next two are the speed: 115,200 baud */
    outb(DATA, 1);
    outb(INTERRUPTS, 0);
    outb(LINE, 0x03);       /* eight bits */
    outb(FIFO, 0x07);       /* use it, and empty it */
    outb(MODEM, 0x0B);      /* and let its interrupt out */
    outb(INTERRUPTS, 0x01); /* one for each byte received */
}

/* When the last bytes are out there is room for sixteen. */
void write_serial(const char *text, int size)
{
    while (size > 0) {
        int part = size < DEPTH ? size : DEPTH;
        while (!(inb(STATUS) & SENT))
            ;
        out_bytes(DATA, text, part);
        text += part;
        size -= part;
    }
}

void serial_interrupt(void)
{
    while (inb(STATUS) & RECEIVED) {
        int letter = inb(DATA);
        typed(letter == '\r' ? '\n' : letter == 127 ? '\b' : letter);
    }
}
