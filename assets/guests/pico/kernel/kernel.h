/* What the kernel's files know of each other: one part for each file, in the order in which to read them. */
#include "../text.h"
#include "cpu.h"
#include "memory_layout.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* segments.c: the CPU's tables */
enum { KERNEL_CODE = 0x08, KERNEL_STACK = 0x10, USER_CODE = 0x1B, USER_DATA = 0x23 };
void set_up_segments(void);
void set_kernel_stack(u32 top); /* for the next entry from ring 3 */

/* entry.S, trap.c: into the kernel and out of it */
struct frame { /* what an entry leaves on the kernel's stack */
    u32 edi, esi, ebp, unused, ebx, edx, ecx, eax;
    u32 vector, error;
    u32 eip, cs, eflags, esp, ss; /* the last two only from ring 3 */
};
enum { SYSTEM_CALL = 0x40 };
extern u32 vectors[]; /* addresses of the entries */
void return_to_user(void);
void switch_stacks(u32 *old, u32 new);

/* apic.c: interrupts and the timer */
enum { TIMER = 32, IRQ = 32, KEYBOARD = IRQ + 1, SERIAL = IRQ + 4, SPURIOUS = 63 };
void set_up_apics(void);
void end_of_interrupt(void);
void start_timer(void); /* an interrupt after one time slice */
void stop_timer(void);

/* memory.c: page frames and address spaces */
void set_up_memory(u32 upper_kib);
void *allocate_page(void); /* zeroed; its address in the kernel, or 0 */
void free_page(void *page);
int free_pages(void);
u32 *new_space(void);
void use_space(const u32 *space);
void free_space(u32 *space);
int copy_space(u32 *to, const u32 *from);
void *map_page(u32 *space, u32 address, int writable);
int page_count(const u32 *space);
int user_range(u32 address, u32 size, int to_write); /* may a program's own call name this memory? */
int grow_stack(u32 address);

/* process.c */
enum state { UNUSED, RUNNABLE, SLEEPING, ZOMBIE };
enum { PROCESSES = 16, OPEN_FILES = 8, NAME = 16 };
struct process {
    enum state state;
    int pid;
    struct process *parent;
    char name[NAME];
    u8 *stack;              /* a page: the kernel's stack while it serves this process */
    u32 saved_esp;          /* where it was left by `switch_stacks` */
    u32 *space;             /* the page directory */
    const void *waits_for;  /* while SLEEPING */
    int status;             /* while ZOMBIE */
    int killed;             /* it ends before it is back in ring 3 */
    int slices;             /* how often the timer has taken the CPU away from it */
    struct file *files[OPEN_FILES];
};
extern struct process processes[PROCESSES], *current;
struct frame *frame_of(struct process *process);
void set_up_processes(void);
void schedule(void);
void sleep(const void *what);
void wake(const void *what);
int fork(void);
void exit(int status) __attribute__((noreturn));
int wait(int *status);
int kill(int pid);
void interrupt_programs(void); /* Ctrl-C */
int list_processes(struct process_info *list, int most);

/* exec.c */
int exec(const char *name, char *const *arguments);

/* disk.c, files.c */
struct entry { /* of the directory, on the disk: see assets/disks/build.py */
    char name[16];
    u32 sector, size;
    u32 unused[2];
};
int read_disk(u32 sector, void *to, int sectors);
void set_up_files(void);
const struct entry *find_file(const char *name);
int read_file(const struct entry *entry, u32 offset, void *to, u32 size);

/* file.c, pipe.c: what a file descriptor means */
enum kind { CONSOLE, ON_DISK, PIPE };
struct file {
    int users; /* descriptors that mean it; 0: free */
    enum kind kind;
    int writes;
    const struct entry *entry;
    u32 offset;
    struct pipe *pipe;
};
struct file *open_file(enum kind kind, int writes);
void close_file(struct file *file);
int new_descriptor(struct file *file);
int read_open(struct file *file, char *to, int size);
int write_open(struct file *file, const char *from, int size);
int make_pipe(int descriptors[2]);
void close_pipe(struct pipe *pipe, int writes);
int read_pipe(struct pipe *pipe, char *to, int size);
int write_pipe(struct pipe *pipe, const char *from, int size);

/* syscall.c */
int system_call(struct frame *frame);

/* console.c, keyboard.c, serial.c: a terminal on the screen and on the serial line */
void set_up_console(void);
void write_console(const char *text, int size);
int read_console(char *to, int size);
void typed(int letter);
void keyboard_interrupt(void);
void set_up_serial(void);
void write_serial(const char *text, int size);
void serial_interrupt(void);
void print(const char *format, ...);
void panic(const char *format, ...) __attribute__((noreturn));
