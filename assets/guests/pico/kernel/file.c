/* Open files: what a file descriptor means. Several descriptors, of several processes, may mean one. */
#include "kernel.h"

enum { FILES = 32 };
static struct file files[FILES];

struct file *open_file(enum kind kind, int writes)
{
    for (struct file *file = files; file < files + FILES; file++)
        if (!file->users) {
            *file = (struct file){.users = 1, .kind = kind, .writes = writes};
            return file;
        }
    return 0;
}

void close_file(struct file *file)
{
    if (--file->users == 0 && file->kind == PIPE)
        close_pipe(file->pipe, file->writes);
}

/* The lowest free descriptor of this process now means `file`; -1 if there is none. */
int new_descriptor(struct file *file)
{
    for (int i = 0; i < OPEN_FILES; i++)
        if (!current->files[i]) {
            current->files[i] = file;
            return i;
        }
    return -1;
}

int read_open(struct file *file, char *to, int size)
{
    int count;
    switch (file->kind) {
    case CONSOLE:
        return read_console(to, size);
    case PIPE:
        return file->writes ? -1 : read_pipe(file->pipe, to, size);
    default:
        count = read_file(file->entry, file->offset, to, size);
        if (count > 0)
            file->offset += count;
        return count;
    }
}

int write_open(struct file *file, const char *from, int size)
{
    switch (file->kind) {
    case CONSOLE:
        write_console(from, size);
        return size;
    case PIPE:
        return file->writes ? write_pipe(file->pipe, from, size) : -1;
    default:
        return -1; /* files on the disk are only read */
    }
}
