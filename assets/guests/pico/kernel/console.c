/* The console: everything is written to the screen and to the serial line, and typed on the keyboard or
 * there. Devices are slow to reach, above all for a guest, whose every access is an exit: text goes out in
 * runs, and of the screen only what has changed, from a copy in memory. */
#include <stdarg.h>

#include "kernel.h"

enum { COLUMNS = 80, ROWS = 25, CELLS = COLUMNS * ROWS, WHITE = 0x0700, LINE = 256 };

static u16 *const screen = (u16 *)(KERNEL + 0xB8000);
static u16 cells[CELLS];             /* what the screen shows, or will */
static int cursor;                   /* the cell of the next letter */
static int first_changed, changed;   /* cells that the screen does not show yet: from, up to */

static void set_cell(int at, int letter)
{
    cells[at] = WHITE | (letter & 0xFF);
    if (at < first_changed)
        first_changed = at;
    if (at >= changed)
        changed = at + 1;
}

static void put(int letter)
{
    if (letter == '\n')
        cursor += COLUMNS - cursor % COLUMNS;
    else if (letter == '\b')
        cursor -= cursor > 0;
    else
        set_cell(cursor++, letter);
    if (cursor == CELLS) {
        memcpy(cells, cells + COLUMNS, (CELLS - COLUMNS) * sizeof *cells);
        for (cursor = CELLS - COLUMNS; cursor < CELLS; cursor++)
            set_cell(cursor, ' ');
        cursor = CELLS - COLUMNS;
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
    for (int at = 0; at < CELLS; at++)
        set_cell(at, ' ');
    first_changed = 0;
    show();
}

/* Input: a line at a time, which may be edited until Enter. */

static char line[LINE]; /* a ring */
static u32 read_at, line_end, typed_end;

static void echo(const char *text) { write_console(text, strlen(text)); }

/* A key or a byte from the serial line. */
void typed(int letter)
{
    if (letter == 3) { /* Ctrl-C */
        typed_end = line_end;
        echo("^C\n");
        interrupt_programs();
    } else if (letter == '\b') {
        if (typed_end != line_end) {
            typed_end--;
            echo("\b \b");
        }
    } else if (letter == '\n' || letter == 4 || (letter >= ' ' && typed_end - read_at < LINE - 1)) {
        if (letter != 4) /* Ctrl-D ends the input */
            write_console((char[]){letter}, 1);
        if (typed_end - read_at < LINE)
            line[typed_end++ % LINE] = letter;
        if (letter < ' ') {
            line_end = typed_end;
            wake(line);
        }
    }
}

/* A line, or as much of it as there is room for; 0 at the end of the input. */
int read_console(char *to, int size)
{
    int count = 0;
    while (read_at == line_end && !current->killed)
        sleep(line);
    while (count < size && read_at != line_end) {
        char letter = line[read_at++ % LINE];
        if (letter == 4)
            break;
        to[count++] = letter;
        if (letter == '\n')
            break;
    }
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
