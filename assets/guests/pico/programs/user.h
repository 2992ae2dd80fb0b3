/* What a program has: the system calls, and a little text. The calls return -1 if they cannot. */
#include "../text.h"

int fork(void);              /* 0 in the child, its pid in the parent */
void exit(int status) __attribute__((noreturn));
int wait(int *status);       /* for a child's end: its pid */
int exec(const char *name, char *const *arguments);
int open(const char *name);
int close(int descriptor);
int read(int descriptor, void *to, unsigned size);
int write(int descriptor, const void *from, unsigned size);
int pipe(int descriptors[2]);
int dup(int descriptor);
int getpid(void);
int kill(int pid);
int ps(struct process_info *list, int most);
int slices(void);            /* how often the timer has taken the CPU away */
void power_off(void);

void print(const char *text, ...); /* to descriptor 1 */
void fail(const char *text, ...) __attribute__((noreturn)); /* to descriptor 2, and the end */
int number(const char *text);
