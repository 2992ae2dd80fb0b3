/* Interrupts: the I/O APIC takes those of devices, the local APIC gives them to the CPU and has a timer.
 * Source: Intel SDM volume 3, chapter 10, and the 82093AA I/O APIC's data sheet. */
#include "kernel.h"

static volatile u32 *const local = (u32 *)0xFEE00000;
static volatile u32 *const io = (u32 *)0xFEC00000;

/* Registers of the local APIC, as indices of 32-bit words. */
enum { ID = 0x20 / 4, EOI = 0xB0 / 4, SPURIOUS_VECTOR = 0xF0 / 4, LVT_TIMER = 0x320 / 4, LVT_LINT0 = 0x350 / 4,
       INITIAL_COUNT = 0x380 / 4, DIVIDE = 0x3E0 / 4 };
enum { SOFTWARE_ENABLE = 0x100, MASKED = 0x10000, BY_ONE = 0xB };

enum { SLICE = 10000000 }; /* 10 ms where the bus has 1 GHz, as in an emulated PC */

/* Let an ISA interrupt through: an edge, to this CPU. */
static void unmask(int vector, u32 cpu)
{
    int entry = 0x10 + 2 * (vector - IRQ);
    io[0] = entry + 1;
    io[4] = cpu << 24;
    io[0] = entry;
    io[4] = vector;
}

void set_up_apics(void)
{
    outb(0x21, 0xFF); /* the two interrupt controllers of old PCs: silent */
    outb(0xA1, 0xFF);
    local[LVT_LINT0] = MASKED;
    local[SPURIOUS_VECTOR] = SOFTWARE_ENABLE | SPURIOUS;
    local[DIVIDE] = BY_ONE;
    local[LVT_TIMER] = TIMER; /* strikes once each time it is started */
    u32 cpu = local[ID] >> 24;
    unmask(KEYBOARD, cpu);
    unmask(SERIAL, cpu);
}

void end_of_interrupt(void) { local[EOI] = 0; }
void start_timer(void) { local[INITIAL_COUNT] = SLICE; }
void stop_timer(void) { local[INITIAL_COUNT] = 0; }
