/* Files: the console, and what the user has packed for the program (--files), read-only. */
enum { DIRECTORY = 0040000, PIPE = 0010000, DEVICE = 0020000, KIND = 0170000 };
enum { HERE = -100, LONGEST_PATH = 512, UART_DATA = 0x3f8, UART_STATUS = 0x3fd, CONSOLE = 0xe9 };

static struct file console = {.mode = PIPE | 0600}, root = {.mode = DIRECTORY | 0555};
static struct file null_device = {.mode = DEVICE | 0666};
static struct { struct file *file; u64 at; } opened[64] = {{&console, 0}, {&console, 0}, {&console, 0}};
static struct file *file_of(int number) { return number >= 0 && number < 64 ? opened[number].file : 0; }
static int kind_of(int number) { return file_of(number) ? file_of(number)->mode & KIND : 0; }
static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static struct file *named(const char *name) /* by its path from the root, without a slash in front */
{
    struct file *files = direct(start.files);
    for (u64 i = 0; i < start.file_count; i++)
        if (same(direct(files[i].name), name))
            return &files[i];
    return same(name, "dev/null") ? &null_device : !*name || same(name, "dev") ? &root : 0;
}

/* The file of that name, part by part, as ".." asks for; the error where there is none. The program's
 * current directory is its root. */
static long find(int folder, u64 path, struct file **found)
{
    static char name[2 * LONGEST_PATH], *end;
    const char *at = (const char *)path, *part;
    for (u64 i = path; i == path || ((char *)i)[-1]; i++)
        if (!allowed(i, 1, READ) || i - path > LONGEST_PATH)
            return i - path > LONGEST_PATH ? -ENAMETOOLONG : -EFAULT;
    *found = *at == '/' || folder == HERE ? &root : file_of(folder);
    if (!*at || !*found)
        return *at ? -EBADF : -ENOENT;
    for (end = name, part = (*found)->name ? direct((*found)->name) : ""; *part; part++)
        *end++ = *part;
    for (*end = 0;; at++) {
        if (((*found)->mode & KIND) != DIRECTORY)
            return -ENOTDIR;
        for (part = at; *at && *at != '/';)
            at++;
        u64 size = at - part;
        if (size == 2 && part[0] == '.' && part[1] == '.')
            while (end > name && *--end != '/')
                ;
        else if (size && !(size == 1 && *part == '.'))
            *end = '/', end += end > name, copy(end, part, size), end += size;
        *end = 0;
        if (!(*found = named(name)) || !*at)
            return *found ? 0 : -ENOENT;
    }
}

static long sys_openat(int folder, u64 path, int flags)
{
    enum { ACCESS = 3, CREATE = 0100 };
    struct file *file;
    long error = find(folder, path, &file);
    if (error)
        return error == -ENOENT && flags & CREATE ? -EROFS : error;
    if (flags & ACCESS && file != &null_device)
        return (file->mode & KIND) == DIRECTORY ? -EISDIR : -EROFS;
    for (u64 i = 0; i < SIZE_OF(opened); i++)
        if (!opened[i].file)
            return opened[i].file = file, opened[i].at = 0, i;
    return -EMFILE;
}
static long sys_open(u64 path, int flags) { return sys_openat(HERE, path, flags); }
static long sys_close(int number) { return file_of(number) ? (opened[number].file = 0, 0) : -EBADF; }
static long sys_pread(int number, u64 to, u64 size, u64 at)
{
    struct file *file = file_of(number);
    if (!file || kind_of(number) == PIPE)
        return file ? -ESPIPE : -EBADF;
    if (kind_of(number) == DIRECTORY)
        return -EISDIR;
    u64 left = at < file->size ? file->size - at : 0;
    size = size < left ? size : left;
    return give(to, direct(file->data + at), size) ? -EFAULT : (long)size;
}

/* From the console: what the user has typed (--input), and no more once that has been read. */
static long sys_read(int number, u64 to, u64 size)
{
    u64 done = 0;
    if (kind_of(number) == PIPE) {
        while (done < size && allowed(to, size, WRITE) && in8(UART_STATUS) & 1)
            ((u8 *)to)[done++] = in8(UART_DATA);
        return allowed(to, size, WRITE) ? (long)done : -EFAULT;
    }
    long got = sys_pread(number, to, size, file_of(number) ? opened[number].at : 0);
    if (got > 0)
        opened[number].at += got;
    return got;
}

static long sys_write(int number, u64 from, u64 size)
{
    int kind = kind_of(number);
    u64 left = kind == PIPE ? size : 0;
    if ((kind != PIPE && kind != DEVICE) || !allowed(from, size, READ))
        return kind != PIPE && kind != DEVICE ? -EBADF : -EFAULT;
    asm volatile("rep outsb" : "+S"(from), "+c"(left) : "d"(CONSOLE) : "memory"); /* for the host one exit */
    return size;
}

/* readv and writev: one part after the other, until one is short. */
static long each(int number, u64 vector, u64 count, long (*move)(int, u64, u64))
{
    long sum = 0;
    if (count > 1024 || !allowed(vector, count * 16, READ))
        return count > 1024 ? -EINVAL : -EFAULT;
    for (u64 *part = (u64 *)vector; count; count--, part += 2) {
        long done = part[1] || count == 1 ? move(number, part[0], part[1]) : 0;
        if (done < 0)
            return sum ? sum : done;
        sum += done;
        if ((u64)done < part[1])
            break;
    }
    return sum;
}
static long sys_readv(int number, u64 vector, u64 count) { return each(number, vector, count, sys_read); }
static long sys_writev(int number, u64 vector, u64 count) { return each(number, vector, count, sys_write); }
static long sys_lseek(int number, long offset, u32 whence)
{
    if (!file_of(number) || kind_of(number) == PIPE)
        return file_of(number) ? -ESPIPE : -EBADF;
    long base = whence == 1 ? opened[number].at : whence == 2 ? file_of(number)->size : 0;
    return whence > 2 || base + offset < 0 ? -EINVAL : (long)(opened[number].at = base + offset);
}

static long describe(const struct file *file, u64 to) /* struct stat, in words */
{
    enum { DEVICE_OF, INODE, LINKS, MODE, BYTES = 6, BLOCK_SIZE, BLOCKS };
    u64 stat[18] = {[DEVICE_OF] = 1, [INODE] = (u64)file, [LINKS] = 1, [MODE] = file->mode,
                    [BYTES] = file->size, [BLOCK_SIZE] = PAGE, [BLOCKS] = (file->size + 511) / 512};
    return give(to, stat, sizeof stat);
}
static long sys_fstat(int number, u64 to) { return file_of(number) ? describe(file_of(number), to) : -EBADF; }
static long sys_newfstatat(int folder, u64 path, u64 to, int flags)
{
    enum { EMPTY_PATH = 0x1000 };
    struct file *file;
    if (flags & EMPTY_PATH && allowed(path, 1, READ) && !*(char *)path)
        return sys_fstat(folder, to);
    long error = find(folder, path, &file);
    return error ? error : describe(file, to);
}
static long sys_stat(u64 path, u64 to) { return sys_newfstatat(HERE, path, to, 0); }
static long sys_access(u64 path) { return find(HERE, path, &(struct file *){0}); }
static long sys_faccessat(int folder, u64 path) { return find(folder, path, &(struct file *){0}); }
static long sys_readlinkat(int folder, u64 path, u64 to, u64 size) /* the one link: the program's name */
{
    long error = find(folder, path, &(struct file *){0});
    if (error != -ENOENT || !same((char *)path, "/proc/self/exe"))
        return error ? error : -EINVAL;
    const u64 *stack = direct(start.stack);
    const char *name = (const char *)stack + stack[1] - (USER_END - start.stack_size), *last = name;
    for (; *name; name++)
        last = *name == '/' ? name : last;
    size = size < (u64)(name - last) ? size : (u64)(name - last);
    return give(to, last, size) ? -EFAULT : (long)size;
}
static long sys_readlink(u64 path, u64 to, u64 size) { return sys_readlinkat(HERE, path, to, size); }
static long sys_getcwd(u64 to, u64 size) { return size < 2 ? -ERANGE : give(to, "/", 2) ? -EFAULT : 2; }
static long sys_ioctl(int number) { return file_of(number) ? -ENOTTY : -EBADF; } /* TCGETS: a terminal? */
static long sys_poll(u64 list, u64 count) /* whatever is asked for can be done at once */
{
    enum { POSSIBLE = 5, INVALID = 0x20 };
    long ready = 0;
    if (count > SIZE_OF(opened) || !allowed(list, count * 8, READ | WRITE))
        return -EFAULT;
    for (u16 *one = (u16 *)list; count; count--, one += 4) {
        one[3] = file_of(*(int *)one) ? one[2] & POSSIBLE : INVALID;
        ready += one[3] != 0;
    }
    return ready;
}
