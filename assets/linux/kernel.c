/* A kernel for one static Linux program: its start, its system calls, its end.
 *
 * The program runs in ring 3, and the CPU executes it directly. Its system calls end here. Only where this
 * kernel needs a device (port 0xe9, to write something) does the guest leave to the host. */
#include "kernel.h"
#include "memory.c"
#include "files.c"

enum { EXIT_PORT = 0xf4, MISSING_CALL = 0x5f0, SIGNAL = 0x5f4 };
_Noreturn void enter_program(u64 entry, u64 stack);

static _Noreturn void finish(int status)
{
    out8(EXIT_PORT, status);
    for (;;)
        asm volatile("cli; hlt");
}

/* The status is what a shell makes of it. The host hears of the signal, for its notes. */
static _Noreturn void end_by_signal(int signal)
{
    out32(SIGNAL, signal);
    finish(128 + signal);
}
long missing_call(u64 number) { return out32(MISSING_CALL, number), -ENOSYS; }

/* The interrupt descriptor table (SDM vol. 3, figure 6-8): exceptions, and the timer at 8, where the
 * firmware has left it. (8 is the double fault's, too, which this kernel's bugs alone could cause.) */
static struct gate { u16 low, selector; u8 stack, kind; u16 middle; u32 high, zero; } idt[32];
extern char vectors[];
static volatile int ticked;

static void interrupts_begin(void)
{
    enum { BREAKPOINT = 3, BY_ALL = 0xee, BY_KERNEL = 0x8e };
    struct __attribute__((packed)) { u16 limit; u64 base; } table = {sizeof idt - 1, (u64)idt};
    for (int i = 0; i < 32; i++) {
        u64 to = (u64)vectors + 16 * i;
        idt[i] = (struct gate){to, 0x10, 0, i == BREAKPOINT ? BY_ALL : BY_KERNEL, to >> 16, to >> 32, 0};
    }
    asm volatile("lidt %0" ::"m"(table));
}

void handle_exception(struct frame *frame)
{
    enum { TIMER = 8, PAGE_FAULT = 14, STORE = 2, FETCH = 16 };
    static const u8 signals[32] = {[0] = SIGFPE, [3] = SIGTRAP, [6] = SIGILL, [16] = SIGFPE, SIGBUS,
                                   [19] = SIGFPE};
    if (frame->vector == TIMER) {
        ticked = 1;
        return out8(0x20, 0x20); /* end of interrupt */
    }
    if (frame->vector == PAGE_FAULT) {
        u64 address;
        asm volatile("mov %0, cr2" : "=r"(address));
        if (fault_in(address, frame->error & FETCH ? EXECUTE : frame->error & STORE ? WRITE : READ))
            return;
    }
    end_by_signal(signals[frame->vector] ? signals[frame->vector] : SIGSEGV);
}

/* Time: the CMOS clock says when the machine began, and the time-stamp counter how long ago that was. It
 * counts nanoseconds here. (RDTSC stands in one place alone, which a VMM that has to patch it finds once.) */
#define SECOND 1000000000UL
static u64 began; /* seconds after 1970 */
static __attribute__((noinline)) u64 now(void) { return __builtin_ia32_rdtsc(); }
static u64 cmos(u8 index)
{
    out8(0x70, index);
    u8 bcd = in8(0x71);
    return (bcd >> 4) * 10 + (bcd & 15);
}

static void clock_begin(void) /* with years that begin in March, the leap day comes last */
{
    u64 month = cmos(8), year = cmos(9) + 100 * cmos(0x32) - (month < 3);
    u64 days = year * 365 + year / 4 - year / 100 + year / 400 + cmos(7) - 1;
    days += (153 * ((month + 9) % 12) + 2) / 5;
    began = (days - 719468) * 86400 + 3600 * cmos(4) + 60 * cmos(2) + cmos(0) - now() / SECOND;
}

static u64 by_clock(int clock)
{
    enum { REALTIME = 0, REALTIME_COARSE = 5 };
    return now() + (clock == REALTIME || clock == REALTIME_COARSE ? began * SECOND : 0);
}
static long store(u64 at, u64 first, u64 second) { return give(at, (u64[]){first, second}, 16); }
static long sys_clock_gettime(int clock, u64 at)
{
    u64 time = by_clock(clock);
    return store(at, time / SECOND, time % SECOND);
}
static long sys_clock_getres(int clock, u64 at) { return at ? store(at, 0, 1) : 0; }
static long sys_gettimeofday(u64 at) { return store(at, by_clock(0) / SECOND, by_clock(0) % SECOND / 1000); }
static long sys_time(u64 at)
{
    u64 seconds = by_clock(0) / SECOND;
    return at && give(at, &seconds, 8) ? -EFAULT : (long)seconds;
}

/* Sleep by the timer's one shot, which is at most 55 ms long, and HLT until it comes. */
static long sleep(u64 request, u64 since)
{
    u64 *time = (u64 *)request, most = 1UL << 32;
    if (!allowed(request, 16, READ) || time[0] > most || time[1] >= SECOND)
        return allowed(request, 16, READ) ? -EINVAL : -EFAULT;
    for (u64 end = since + time[0] * SECOND + time[1], at = now(); at < end; at = now()) {
        u64 left = end - at < SECOND / 20 ? end - at : SECOND / 20, counts = left * 1193182 / SECOND + 1;
        out8(0x21, 0xfe); /* the timer's interrupt alone */
        out8(0x43, 0x30);
        out8(0x40, counts & 0xff);
        out8(0x40, counts >> 8);
        for (ticked = 0; !ticked;)
            asm volatile("sti; hlt; cli" ::: "memory");
    }
    return 0;
}
static long sys_nanosleep(u64 request) { return sleep(request, now()); }
static long sys_clock_nanosleep(int clock, int absolute, u64 request)
{
    return sleep(request, absolute ? now() - by_clock(clock) : now());
}

/* There is one thread, which no other can wake: without a limit it waits for ever, as on Linux. */
static long sys_futex(u64 word, int operation, int value, u64 limit)
{
    enum { WAIT = 0, WAKE = 1, WAIT_UNTIL = 9, WAKE_SOME = 10, COMMAND = 0x7f };
    operation &= COMMAND;
    if (operation != WAIT && operation != WAIT_UNTIL)
        return operation == WAKE || operation == WAKE_SOME ? 0 : missing_call(202);
    if (!allowed(word, 4, READ) || *(int *)word != value)
        return allowed(word, 4, READ) ? -EAGAIN : -EFAULT;
    if (!limit)
        asm volatile("cli; hlt");
    long error = sleep(limit, operation == WAIT ? now() : 0);
    return error ? error : -ETIMEDOUT;
}

/* Calls about the process itself. */
static long zero(void) { return 0; }
static long one(void) { return 1; }
static long sys_exit(int status) { finish(status & 0xff); }
static long sys_kill(int process, int signal) { return signal ? (end_by_signal(signal & 0x7f), 0) : 0; }
static long sys_tgkill(int group, int thread, int signal) { return sys_kill(thread, signal); }
static long sys_arch_prctl(int code, u64 address)
{
    enum { SET_GS = 0x1001, SET_FS, FS_BASE = 0xc0000100, GS_BASE };
    if ((code != SET_FS && code != SET_GS) || address >= USER_END)
        return -EINVAL;
    asm volatile("wrmsr" ::"c"(code == SET_FS ? FS_BASE : GS_BASE), "a"((u32)address), "d"(address >> 32));
    return 0;
}

/* There is one CPU, and the program is never taken from it. */
static long sys_getaffinity(int process, u64 size, u64 to)
{
    return size < 8 ? -EINVAL : give(to, (u64[]){1}, 8) ? -EFAULT : 8;
}
static long sys_rseq(u64 area) { return store(area, 0, 0); }
static const char names[6][65] = {"Linux", "ringscope", "6.1.0", "#1", "x86_64", "(none)"};
static long sys_uname(u64 to) { return give(to, names, sizeof names); }

static long sys_getrandom(u64 to, u64 size) /* xorshift: the same on all cores, which are compared */
{
    static u64 state = 0x9e3779b97f4a7c15;
    if (!allowed(to, size, WRITE))
        return -EFAULT;
    for (u64 i = 0; i < size; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        ((u8 *)to)[i] = state >> 32;
    }
    return size;
}

static long sys_prlimit(int process, u32 resource, u64 new, u64 old)
{
    enum { STACK = 3, FILES = 7 };
    u64 limit = resource == STACK ? STACK_SIZE : resource == FILES ? SIZE_OF(opened) : ~0UL;
    return old ? store(old, limit, limit) : 0;
}

/* No signal is ever delivered: what was set before is nothing. */
static const u64 nothing[4];
static long sys_sigaction(int signal, u64 new, u64 old) { return old ? give(old, nothing, 32) : 0; }
static long sys_sigprocmask(int how, u64 new, u64 old) { return old ? give(old, nothing, 8) : 0; }

/* By number (Linux, arch/x86/entry/syscalls/syscall_64.tbl); entry.S looks here. */
void *const calls[] = {
    [0] = sys_read, sys_write, sys_open, sys_close, sys_stat, sys_fstat, sys_stat, sys_poll, sys_lseek, sys_mmap,
    sys_mprotect, sys_munmap, sys_brk, sys_sigaction, sys_sigprocmask, [16] = sys_ioctl, sys_pread,
    [19] = sys_readv, sys_writev, sys_access, [24] = zero, sys_mremap, [28] = zero, [35] = sys_nanosleep, [39] = one,
    [60] = sys_exit, [62] = sys_kill, sys_uname, [79] = sys_getcwd, [89] = sys_readlink, [96] = sys_gettimeofday,
    [102] = zero, [104] = zero, [107] = zero, zero, [110] = zero, [131] = zero, [158] = sys_arch_prctl, [186] = one,
    [201] = sys_time, sys_futex, [204] = sys_getaffinity, [218] = one, [228] = sys_clock_gettime, sys_clock_getres,
    sys_clock_nanosleep, sys_exit, [234] = sys_tgkill, [257] = sys_openat, [262] = sys_newfstatat,
    [267] = sys_readlinkat, [269] = sys_faccessat, [273] = zero, [302] = sys_prlimit, [318] = sys_getrandom,
    [334] = sys_rseq,
};
const u64 number_of_calls = SIZE_OF(calls);

_Noreturn void main(const u64 *information, const struct start *given)
{
    start = *given;
    memory_begin(information[0]);
    interrupts_begin();
    clock_begin();
    for (u64 i = 0; i < start.segment_count; i++)
        map_segment((struct segment *)direct(start.segments) + i);
    region_add(USER_END - STACK_SIZE, USER_END, READ | WRITE);
    u64 stack = USER_END - start.stack_size;
    copy((void *)stack, direct(start.stack), start.stack_size);
    enter_program(start.entry, stack);
}
