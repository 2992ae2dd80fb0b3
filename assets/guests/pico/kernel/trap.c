/* Why the kernel was entered, and what is done about it. */
#include "kernel.h"

static const char *const exceptions[] = {
    [0] = "a division by zero", [1] = "a debug trap", [3] = "a breakpoint", [4] = "an overflow",
    [5] = "a bound exceeded", [6] = "an invalid instruction", [7] = "no floating-point unit",
    [10] = "an invalid TSS", [11] = "a missing segment", [12] = "a stack fault",
    [13] = "something that only the kernel may do", [14] = "a page fault", [17] = "a misaligned access",
};

/* An exception: the kernel's own is its end, a program's is that program's end. */
static void fault(const struct frame *frame, u32 address)
{
    const char *what = frame->vector < 18 && exceptions[frame->vector] ? exceptions[frame->vector] : "an exception";
    if (!(frame->cs & 3))
        panic("%s in the kernel, at %x (error %x, address %x)", what, frame->eip, frame->error, address);
    print("%s, process %d: %s at %x", current->name, current->pid, what, frame->eip);
    if (frame->vector == 14)
        print(", of address %x", address);
    print(": killed\n");
    exit(-1);
}

void trap(struct frame *frame)
{
    u32 address;
    switch (frame->vector) {
    case SYSTEM_CALL:
        frame->eax = system_call(frame);
        break;
    case TIMER:
        end_of_interrupt();
        current->slices++;
        schedule();
        break;
    case KEYBOARD:
        keyboard_interrupt();
        end_of_interrupt();
        break;
    case SERIAL:
        serial_interrupt();
        end_of_interrupt();
        break;
    case SPURIOUS:
        break;
    case 14:
        address = read_cr2();
        if (!(frame->cs & 3) || !grow_stack(address))
            fault(frame, address);
        break;
    default:
        fault(frame, 0);
    }
    if (current->killed && frame->cs & 3)
        exit(-1);
}
