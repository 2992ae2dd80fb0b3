/* What the parts of the guest kernel share. */
typedef unsigned char u8; typedef unsigned short u16;
typedef unsigned u32; typedef unsigned long u64;

#define PAGE 4096UL
#define ROUND_UP(n) (((u64)(n) + PAGE - 1) / PAGE * PAGE)
#define SIZE_OF(array) (sizeof(array) / sizeof *(array))

/* Linear addresses: the kernel in the first 2 MiB, the program, and all of RAM once more at DIRECT, so
 * that the kernel can reach any frame. (Linux keeps to the upper half. This kernel may run in a process
 * of the host, which cannot have addresses there.) */
#define USER_BEGIN 0x200000UL
#define USER_END 0x700000000000UL
#define DIRECT 0x700000000000UL
#define STACK_SIZE (8UL << 20)

/* What is to be run. The loader leaves this in RAM (cores/programs/linux_program.py). Segments are whole
 * pages; those with contents lie at data, ready to be mapped. stack: the words at the top of the first
 * stack. data, name, tables: physical addresses. */
struct segment { u64 start, end, rights, data, data_size; };
struct file { u64 name, data, size, mode; };
static struct start { u64 free, entry, stack, stack_size, segments, segment_count, files, file_count; } start;

/* Registers at an exception: first those that entry.S pushes, then those that the CPU does. */
struct frame { u64 r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax, vector, error, rip, cs, rflags, rsp, ss; };

/* Errors, which system calls return negated (errno.h); rights of memory, as mmap has them. */
enum { ENOENT = 2, EBADF = 9, EAGAIN = 11, ENOMEM, EACCES, EFAULT, EEXIST = 17, ENOTDIR = 20, EISDIR, EINVAL,
       EMFILE = 24, ENOTTY, ESPIPE = 29, EROFS, ERANGE = 34, ENAMETOOLONG = 36, ENOSYS = 38, ETIMEDOUT = 110 };
enum { READ = 1, WRITE = 2, EXECUTE = 4 };
enum { SIGILL = 4, SIGTRAP, SIGBUS = 7, SIGFPE, SIGKILL, SIGSEGV = 11 };

static _Noreturn void end_by_signal(int signal);
static void out8(u16 port, u8 value) { asm volatile("out %1, %0" ::"a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { asm volatile("out %1, %0" ::"a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 byte; asm volatile("in %0, %1" : "=a"(byte) : "Nd"(port)); return byte; }
static void *direct(u64 physical) { return (void *)(DIRECT + physical); }
static void copy(void *to, const void *from, u64 size) /* in words, then the rest in bytes */
{
    u64 words = size / 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
    size %= 8;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
}
static void clear(void *at, u64 words) { asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory"); }
