/* The console: everything is written to the screen and to the serial line, and typed on the keyboard or
 * there. Devices are slow to reach, above all for a guest, whose every access is an exit: text goes out in
 * runs, and of the screen only what has changed, from a copy in memory. */
#include <stdarg.h>

#include "kernel.h"

enum { COLUMNS = 80, ROWS = 25, CELLS = COLUMNS * ROWS, WHITE = 0x0700, RING = 256, CONTROL_C = 3, CONTROL_D = 4 };

static u16 *const screen = (u16 *)(KERNEL + 0xB8000);
static u16 cells[CELLS];             /* what the screen shows, or will */
static int cursor;                   /* the cell of the next letter */
static int first_changed, changed;   /* cells that the screen does not show yet: from, up to */

/* Set some cells, all to the same letter. */
static void set_cells(int at, int letter, int count)
{
    u16 *to = cells + at;
    if (at < first_changed)
        first_changed = at;
    if (at + count > changed)
        changed = at + count;
    __asm__ volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(WHITE | (letter & 0xFF)) : "memory");
}

static void put(int letter)
{
    if (letter == '\n')
        cursor += COLUMNS - cursor % COLUMNS;
    else if (letter == '\b')
        cursor -= cursor > 0;
    else
        set_cells(cursor++, letter, 1);
    if (cursor == CELLS) {
        memcpy(cells, cells + COLUMNS, (CELLS - COLUMNS) * sizeof *cells);
        cursor -= COLUMNS;
        set_cells(cursor, ' ', COLUMNS);
        first_changed = 0;
    }
}

/* Copy what has changed to the screen, and move its cursor (16 bits to the CRT controller's index port are
 * a register's number and its value). */
static void show(void)
{
    if (first_changed < changed)
        memcpy(screen + first_changed, cells + first_changed, (changed - first_changed) * sizeof *cells);
    first_changed = CELLS;
    changed = 0;
    outw(0x3D4, 0x0E | (cursor & 0xFF00));
    outw(0x3D4, 0x0F | (cursor & 0xFF) << 8);
}

void write_console(const char *text, int size)
{
    write_serial(text, size);
    for (int i = 0; i < size; i++)
        put(text[i]);
    show();
}

void set_up_console(void)
{
    set_up_serial();
    set_cells(0, ' ', CELLS);
    show();
}

/* Input: keys wait until a program reads; then they make a line, which may be edited until Enter. */

static char keys[RING], line[RING];
static u32 pressed, taken;       /* keys, since the beginning */
static int length, given;        /* letters of the line; those that a program has already */

/* A key, or a byte from the serial line. */
void typed(int letter)
{
    if (letter == CONTROL_C) {
        taken = pressed;
        length = given = 0;
        write_console("^C\n", 3);
        interrupt_programs();
    } else if (pressed - taken < RING)
        keys[pressed++ % RING] = letter;
    wake(keys);
}

/* Wait for a whole line, and show how it is typed. */
static void edit_line(void)
{
    for (char letter = 0; letter != '\n' && letter != CONTROL_D;) {
        while (pressed == taken) {
            if (current->killed)
                return;
            sleep(keys);
        }
        letter = keys[taken++ % RING];
        if (letter == '\b' && length > 0) {
            length--;
            write_console("\b \b", 3);
        } else if (letter == '\n' || (letter >= ' ' && length < RING - 1)) {
            line[length++] = letter;
            write_console(&letter, 1);
        }
    }
}

/* A line, or as much of it as there is room for; 0 at the end of the input, which is Ctrl-D. */
int read_console(char *to, int size)
{
    if (given == length) {
        given = length = 0;
        edit_line();
    }
    int count = length - given < size ? length - given : size;
    memcpy(to, line + given, count);
    given += count;
    return count;
}

void print(const char *text, ...)
{
    char buffer[256];
    va_list arguments;
    va_start(arguments, text);
    write_console(buffer, format(buffer, sizeof buffer, text, arguments));
    va_end(arguments);
}

void panic(const char *text, ...)
{
    char buffer[256];
    va_list arguments;
    va_start(arguments, text);
    int size = format(buffer, sizeof buffer, text, arguments);
    va_end(arguments);
    write_console("panic: ", 7);
    write_console(buffer, size);
    write_console("\n", 1);
    for (;;)
        __asm__ volatile("cli; hlt");
}
