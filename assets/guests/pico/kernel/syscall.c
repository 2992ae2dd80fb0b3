/* System calls: INT 0x40 with the call's number in EAX and its arguments in EBX, ECX and EDX. What a program
 * passes is not to be trusted: numbers are checked, and so is every address before the kernel uses it. */
#include "kernel.h"
#include "../calls.h"

static struct file *file_of(u32 descriptor) { return descriptor < OPEN_FILES ? current->files[descriptor] : 0; }

/* Copy a program's text into the kernel; whether it is one that fits. */
static int text_of(u32 address, char *to, int room)
{
    for (int i = 0; i < room; i++) {
        if (!user_range(address + i, 1, 0))
            return 0;
        if (!(to[i] = *(char *)(address + i)))
            return 1;
    }
    return 0;
}

static int do_exec(u32 name, u32 arguments)
{
    char file[NAME], text[256], *pointers[17];
    int used = 0, count = 0;
    if (!text_of(name, file, sizeof file))
        return -1;
    for (;; count++) {
        u32 at = arguments + 4 * count;
        if (count == 16 || !user_range(at, 4, 0))
            return -1;
        if (!*(u32 *)at)
            break;
        if (!text_of(*(u32 *)at, text + used, sizeof text - used))
            return -1;
        pointers[count] = text + used;
        used += strlen(text + used) + 1;
    }
    pointers[count] = 0;
    return exec(file, pointers);
}

static int do_open(u32 name)
{
    char text[NAME];
    const struct entry *entry = text_of(name, text, sizeof text) ? find_file(text) : 0;
    struct file *file = entry ? open_file(ON_DISK, 0) : 0;
    int descriptor = file ? new_descriptor(file) : -1;
    if (file && descriptor < 0)
        close_file(file);
    if (descriptor >= 0)
        file->entry = entry;
    return descriptor;
}

static int do_dup(struct file *file)
{
    int descriptor = file ? new_descriptor(file) : -1;
    if (descriptor >= 0)
        file->users++;
    return descriptor;
}

static void __attribute__((noreturn)) power_off(void)
{
    outw(0x604, 0x2000); /* as QEMU's chipset has it */
    for (;;) /* until it is off: for ever, where another port does that */
        __asm__ volatile("cli; hlt");
}

/* What the call returns. */
int system_call(struct frame *frame)
{
    u32 first = frame->ebx, second = frame->ecx, third = frame->edx;
    struct file *file;
    switch (frame->eax) {
    case CALL_FORK:
        return fork();
    case CALL_EXIT:
        exit(first);
    case CALL_WAIT:
        return user_range(first, 4, 1) ? wait((int *)first) : -1;
    case CALL_EXEC:
        return do_exec(first, second);
    case CALL_OPEN:
        return do_open(first);
    case CALL_CLOSE:
        if (!(file = file_of(first)))
            return -1;
        current->files[first] = 0;
        close_file(file);
        return 0;
    case CALL_READ:
        file = file_of(first);
        return file && (int)third >= 0 && user_range(second, third, 1) ? read_open(file, (char *)second, third) : -1;
    case CALL_WRITE:
        file = file_of(first);
        return file && (int)third >= 0 && user_range(second, third, 0) ? write_open(file, (char *)second, third) : -1;
    case CALL_PIPE:
        return user_range(first, 8, 1) ? make_pipe((int *)first) : -1;
    case CALL_DUP:
        return do_dup(file_of(first));
    case CALL_GETPID:
        return current->pid;
    case CALL_KILL:
        return kill(first);
    case CALL_PS:
        if (second > PROCESSES || !user_range(first, second * sizeof(struct process_info), 1))
            return -1;
        return list_processes((struct process_info *)first, second);
    case CALL_SLICES:
        return current->slices;
    case CALL_OFF:
        power_off();
    }
    return -1;
}
