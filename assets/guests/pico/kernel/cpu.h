/* The instructions for which C has no words. At ring 3 most of them fault: on a trap-and-emulate core
 * each is an exit. PUSHF is the exception, and the reason for `schedule`'s first line. */
static inline unsigned char inb(int port)
{
    unsigned char value;
    __asm__ volatile("inb %w1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void outb(int port, int value) { __asm__ volatile("outb %b0, %w1" ::"a"(value), "Nd"(port)); }
static inline void outw(int port, int value) { __asm__ volatile("outw %w0, %w1" ::"a"(value), "Nd"(port)); }

/* A whole run of bytes or words by one instruction: one exit in place of one for each. */
static inline void out_bytes(int port, const char *from, int count)
{
    __asm__ volatile("rep outsb"
        : "+S"(from), "+c"(count) : "d"(port) : "memory");
}

static inline void in_longs(int port, void *to, int count)
{
    __asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}

static inline void load_cr3(unsigned physical) { __asm__ volatile("mov %0, %%cr3" ::"r"(physical) : "memory"); }

static inline unsigned read_cr2(void)
{
    unsigned address;
    __asm__ volatile("mov %%cr2, %0" : "=r"(address));
    return address;
}

static inline unsigned flags(void)
{
    unsigned value;
    __asm__ volatile("pushf; pop %0" : "=r"(value));
    return value;
}

#define INTERRUPTS_ON 0x200 /* IF, in EFLAGS */

/* Sleep until the next interrupt, take it, and go on with interrupts off. STI holds them back for one
 * instruction more, so that none can come before the HLT, which would then sleep through it. */
static inline void wait_for_interrupt(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }
