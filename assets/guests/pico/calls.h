/* What kernel and programs agree on: the system calls, and what `ps` tells. */
#ifndef CALLS_H
#define CALLS_H

enum {
    CALL_FORK = 1, CALL_EXIT, CALL_WAIT, CALL_EXEC, CALL_OPEN, CALL_CLOSE, CALL_READ, CALL_WRITE, CALL_PIPE,
    CALL_DUP, CALL_GETPID, CALL_KILL, CALL_PS, CALL_SLICES, CALL_OFF,
};

struct process_info {
    int pid, parent, pages, slices;
    char state[8], name[16];
};

#endif
