/* Pipes: a page of memory between those who write and those who read. */
#include "kernel.h"

enum { ROOM = PAGE - 16 };

struct pipe {
    u32 written, read; /* bytes, since it was made */
    int readers, writers;
    char bytes[ROOM];
};

int make_pipe(int descriptors[2])
{
    struct pipe *pipe = allocate_page();
    struct file *out = open_file(PIPE, 0), *in = open_file(PIPE, 1);
    descriptors[0] = out ? new_descriptor(out) : -1;
    descriptors[1] = in ? new_descriptor(in) : -1;
    if (!pipe || descriptors[0] < 0 || descriptors[1] < 0) {
        for (int i = 0; i < 2; i++)
            if (descriptors[i] >= 0)
                current->files[descriptors[i]] = 0;
        if (out)
            out->users = 0;
        if (in)
            in->users = 0;
        if (pipe)
            free_page(pipe);
        return -1;
    }
    pipe->readers = pipe->writers = 1;
    out->pipe = in->pipe = pipe;
    return 0;
}

void close_pipe(struct pipe *pipe, int writes)
{
    if (writes)
        pipe->writers--;
    else
        pipe->readers--;
    wake(pipe);
    if (!pipe->readers && !pipe->writers)
        free_page(pipe);
}

/* At least one byte, or 0 when nobody will ever write again. */
int read_pipe(struct pipe *pipe, char *to, int size)
{
    while (pipe->read == pipe->written && pipe->writers && !current->killed)
        sleep(pipe);
    int count = 0;
    while (count < size && pipe->read != pipe->written)
        to[count++] = pipe->bytes[pipe->read++ % ROOM];
    wake(pipe);
    return count;
}

/* All of it, or -1 when nobody will ever read. */
int write_pipe(struct pipe *pipe, const char *from, int size)
{
    for (int count = 0; count < size; pipe->bytes[pipe->written++ % ROOM] = from[count++]) {
        while (pipe->written - pipe->read == ROOM && pipe->readers && !current->killed) {
            wake(pipe);
            sleep(pipe);
        }
        if (!pipe->readers || current->killed)
            return -1;
    }
    wake(pipe);
    return size;
}
