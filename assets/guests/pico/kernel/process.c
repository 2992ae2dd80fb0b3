/* Processes: how one comes to be, waits, gives up the CPU and ends.
 *
 * The kernel runs with interrupts off from an entry to the way out, so that no two parts of it are ever at
 * work at once, and needs no locks. */
#include "kernel.h"

struct process processes[PROCESSES], *current = processes; /* the first is the one that idles: main.c */
static int last_pid;

struct frame *frame_of(struct process *process) { return (struct frame *)(process->stack + PAGE) - 1; }

/* Give the CPU to the next process that can use it: the idle one, if there is no other. */
void schedule(void)
{
    if (flags() & INTERRUPTS_ON)
        panic("the scheduler was called with interrupts on");
    struct process *before = current, *next = processes;
    for (int i = 1; i <= PROCESSES; i++) {
        struct process *process = &processes[(before - processes + i) % PROCESSES];
        if (process != processes && process->state == RUNNABLE) {
            next = process;
            break;
        }
    }
    if (next != processes)
        start_timer();
    if (next == before)
        return;
    current = next;
    if (next->space) { /* the idle process runs in any address space */
        use_space(next->space);
        set_kernel_stack((u32)next->stack + PAGE);
    }
    switch_stacks(&before->saved_esp, next->saved_esp);
}

/* Wait until somebody calls `wake` with the same address. The caller then looks again whether what it
 * waits for is there: others may have been faster. */
void sleep(const void *what)
{
    current->state = SLEEPING;
    current->waits_for = what;
    schedule();
}

void wake(const void *what)
{
    for (int i = 0; i < PROCESSES; i++)
        if (processes[i].state == SLEEPING && processes[i].waits_for == what)
            processes[i].state = RUNNABLE;
}

/* A process with a stack in the kernel, on which it begins in `first` and goes on to ring 3. */
static struct process *new_process(void (*first)(void))
{
    struct process *process = processes + 1;
    while (process < processes + PROCESSES && process->state != UNUSED)
        process++;
    if (process == processes + PROCESSES)
        return 0;
    u8 *stack = allocate_page();
    u32 *space = new_space();
    if (!stack || !space) {
        if (stack)
            free_page(stack);
        if (space)
            free_page(space);
        return 0;
    }
    *process = (struct process){.pid = ++last_pid, .stack = stack, .space = space, .parent = current};
    u32 *top = (u32 *)frame_of(process);
    *--top = (u32)return_to_user; /* to where `first` returns */
    *--top = (u32)first;          /* to where `switch_stacks` returns */
    process->saved_esp = (u32)(top - 4);
    return process;
}

static void release(struct process *process)
{
    free_space(process->space);
    free_page(process->stack);
    process->state = UNUSED;
}

static void nothing(void) {}

/* Process 1. IRET refuses ring 3 the data segments that only ring 0 may use: from here on it is the other. */
static void begin(void)
{
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(USER_DATA));
    if (exec("sh", (char *[]){"sh", 0}) < 0)
        panic("there is no program sh on the disk");
}

void set_up_processes(void)
{
    struct process *shell = new_process(begin);
    struct file *console = open_file(CONSOLE, 1);
    for (int i = 0; i < 3; i++)
        shell->files[i] = console;
    console->users = 3;
    shell->state = RUNNABLE;
}

int fork(void)
{
    struct process *child = new_process(nothing);
    if (!child)
        return -1;
    if (!copy_space(child->space, current->space)) {
        release(child);
        return -1;
    }
    memcpy(child->name, current->name, NAME);
    for (int i = 0; i < OPEN_FILES; i++)
        if ((child->files[i] = current->files[i]))
            child->files[i]->users++;
    *frame_of(child) = *frame_of(current);
    frame_of(child)->eax = 0; /* what `fork` returns there */
    child->state = RUNNABLE;
    return child->pid;
}

void exit(int status)
{
    if (current->pid == 1)
        panic("the shell has ended");
    for (int i = 0; i < OPEN_FILES; i++)
        if (current->files[i])
            close_file(current->files[i]);
    for (int i = 1; i < PROCESSES; i++)
        if (processes[i].parent == current)
            processes[i].parent = processes + 1; /* orphans become the shell's */
    current->status = status;
    current->state = ZOMBIE;
    wake(current->parent);
    wake(processes + 1);
    schedule(); /* the parent frees what is left */
    panic("a dead process runs");
}

/* Wait for a child's end: its pid, -1 without children. */
int wait(int *status)
{
    for (;;) {
        int children = 0;
        for (struct process *child = processes + 1; child < processes + PROCESSES; child++) {
            if (child->state == UNUSED || child->parent != current)
                continue;
            children++;
            if (child->state == ZOMBIE) {
                *status = child->status;
                release(child);
                return child->pid;
            }
        }
        if (!children || current->killed)
            return -1;
        sleep(current);
    }
}

/* Have a process end, not the shell: at once if it runs in ring 3, else when the kernel has done its work for it. */
int kill(int pid)
{
    for (struct process *process = processes + 2; process < processes + PROCESSES; process++)
        if (process->pid == pid && process->state != UNUSED) {
            process->killed = 1;
            if (process->state == SLEEPING)
                process->state = RUNNABLE;
            return 0;
        }
    return -1;
}

void interrupt_programs(void)
{
    for (int i = 2; i < PROCESSES; i++)
        if (processes[i].state != UNUSED)
            kill(processes[i].pid);
}

int list_processes(struct process_info *list, int most)
{
    static const char *const states[] = {[RUNNABLE] = "ready", [SLEEPING] = "waits", [ZOMBIE] = "ended"};
    int count = 0;
    for (struct process *process = processes + 1; process < processes + PROCESSES && count < most; process++) {
        if (process->state == UNUSED)
            continue;
        struct process_info *info = &list[count++];
        info->pid = process->pid;
        info->parent = process->parent->pid;
        info->pages = page_count(process->space);
        info->slices = process->slices;
        memcpy(info->name, process->name, NAME);
        copy_text(info->state, process == current ? "runs" : states[process->state], sizeof info->state);
    }
    return count;
}
