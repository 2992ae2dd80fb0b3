/* The program's memory. Regions say which addresses it may use and how; a page gets its frame when it is
 * first used. No page is both writable and executable (W^X), and mmap refuses to make one. */
enum { PRESENT = 1, WRITABLE = 2, USER = 4, USED = 0x60, LARGE = 0x80 }; /* USED: accessed and dirty */
#define NO_EXECUTE (1UL << 63)
#define FRAME 0xffffffffff000UL
#define TABLE_COVERS (1UL << 21)

typedef u64 table[512] __attribute__((aligned(4096)));
static table pml4, low_pdpt, low_directory, low_pages, direct_pdpt, direct_directory;
extern char text_start[], rodata_start[], data_start[], kernel_end[];
static u64 next_frame, ram_end, free_list; /* frames never used, and those that came back */

/* The kernel's own mappings: the platform's tables and the kernel by its rights, and all of RAM. */
static void memory_begin(u64 ram)
{
    u64 bits = PRESENT | WRITABLE;
    pml4[0] = (u64)low_pdpt | bits | USER;
    low_pdpt[0] = (u64)low_directory | bits | USER;
    low_directory[0] = (u64)low_pages | bits;
    for (u64 at = 0x10000; at < (u64)kernel_end; at += PAGE) {
        int is_text = at >= (u64)text_start && at < (u64)rodata_start;
        int is_fixed = at >= (u64)text_start && at < (u64)data_start;
        low_pages[at / PAGE] = at | PRESENT | (is_text ? 0 : NO_EXECUTE) | (is_fixed ? 0 : WRITABLE);
    }
    pml4[DIRECT >> 39 & 511] = (u64)direct_pdpt | bits;
    direct_pdpt[0] = (u64)direct_directory | bits;
    for (u64 i = 0; i < 512; i++) /* 1 GiB: more RAM there never is */
        direct_directory[i] = i * TABLE_COVERS | bits | USED | LARGE | NO_EXECUTE;
    asm volatile("mov cr3, %0" ::"r"(pml4) : "memory");
    next_frame = ROUND_UP(start.free);
    ram_end = ram;
}

static u64 new_frame(void) /* all zeros; 0 where there is none left */
{
    u64 frame = free_list;
    if (frame) {
        free_list = *(u64 *)direct(frame);
        clear(direct(frame), PAGE / 8);
    } else if (next_frame < ram_end) {
        frame = next_frame;
        next_frame += PAGE;
    }
    return frame;
}

/* The entry that maps a page (SDM vol. 3, 4.5), or 0 where there is no table for it. The entry of a page
 * that holds something, but may not be used at present, has a frame and is not PRESENT. */
static u64 *entry_of(u64 address, int make)
{
    u64 *level = pml4;
    for (int shift = 39; shift > 12; shift -= 9) {
        u64 *entry = &level[address >> shift & 511];
        if (!*entry) {
            u64 frame = make ? new_frame() : 0;
            if (!frame)
                return 0;
            *entry = frame | PRESENT | WRITABLE | USER;
        }
        level = direct(*entry & FRAME);
    }
    return &level[address >> 12 & 511];
}

static void set_entry(u64 *entry, u64 frame, int rights, u64 address)
{
    u64 old = *entry, bits = (rights ? PRESENT | USER | USED : 0) | (rights & WRITE ? WRITABLE : 0);
    *entry = frame ? frame | bits | (rights & EXECUTE ? 0 : NO_EXECUTE) : 0;
    if (old & PRESENT)
        asm volatile("invlpg [%0]" ::"r"(address) : "memory");
}

/* The entry of the next page from *page on that has a frame; 0 where there is none before end. */
static u64 *next_used(u64 *page, u64 end)
{
    for (; *page < end; *page += PAGE) {
        u64 *entry = entry_of(*page, 0);
        if (entry && *entry)
            return entry;
        if (!entry)
            *page |= TABLE_COVERS - PAGE; /* no table: none of its pages */
    }
    return 0;
}

/* Regions: whole pages, which do not overlap. */
static struct region { u64 start, end; int rights; } regions[2048];
static u64 region_count;
#define EACH_REGION(r) (struct region *r = regions; r < regions + region_count; r++)

static struct region *region_at(u64 address)
{
    for EACH_REGION(r)
        if (r->start <= address && address < r->end)
            return r;
    return 0;
}

static int is_free(u64 start, u64 end)
{
    for EACH_REGION(r)
        if (r->start < end && start < r->end)
            return 0;
    return start >= USER_BEGIN && end <= USER_END && start < end;
}

static long region_add(u64 start, u64 end, int rights)
{
    for EACH_REGION(r)
        if (r->end == start && r->rights == rights)
            return r->end = end, 0;
    if (region_count < SIZE_OF(regions))
        return regions[region_count++] = (struct region){start, end, rights}, 0;
    return -ENOMEM;
}

static long split(u64 border) /* make this address the border of regions */
{
    struct region *r = region_at(border);
    if (!r || r->start == border)
        return 0;
    if (region_count == SIZE_OF(regions))
        return -ENOMEM;
    regions[region_count++] = (struct region){border, r->end, r->rights};
    r->end = border;
    return 0;
}

static int allowed(u64 address, u64 size, int rights) /* may the program use all of this so? */
{
    u64 end = address + size < address ? ~0UL : address + size;
    for (struct region *r; address < end; address = r->end)
        if (!(r = region_at(address)) || (r->rights & rights) != rights)
            return 0;
    return 1;
}

static long give(u64 to, const void *from, u64 size) /* to the program */
{
    if (!allowed(to, size, WRITE))
        return -EFAULT;
    copy((void *)to, from, size);
    return 0;
}

/* A page fault: 0 if the program may not do that. The neighbours within 64 KiB get frames as well. */
static int fault_in(u64 address, int rights)
{
    struct region *r = region_at(address);
    if (!r || !r->rights || (r->rights & rights) != rights)
        return 0;
    u64 first = address & -16 * PAGE, page = first < r->start ? r->start : first;
    for (; page < r->end && page < first + 16 * PAGE; page += PAGE) {
        u64 *entry = entry_of(page, 1), frame = entry && !*entry ? new_frame() : 0;
        if (frame)
            set_entry(entry, frame, r->rights, page);
        else if (!entry || !*entry)
            end_by_signal(SIGKILL); /* out of memory */
    }
    return 1;
}

/* A segment of the program: the pages with contents are where the loader has put them. */
static void map_segment(const struct segment *segment)
{
    region_add(segment->start, segment->end, segment->rights);
    for (u64 at = 0; at < segment->data_size; at += PAGE)
        set_entry(entry_of(segment->start + at, 1), segment->data + at, segment->rights, 0);
}

static long sys_munmap(u64 address, u64 size)
{
    u64 end = address + ROUND_UP(size), page = address, *entry;
    if (address % PAGE || address >= end || end > USER_END)
        return -EINVAL;
    if (split(address) || split(end))
        return -ENOMEM;
    for (struct region *r = regions; r < regions + region_count;)
        if (r->start >= address && r->end <= end)
            *r = regions[--region_count];
        else
            r++;
    while ((entry = next_used(&page, end))) {
        u64 frame = *entry & FRAME;
        set_entry(entry, 0, 0, page);
        *(u64 *)direct(frame) = free_list;
        free_list = frame;
    }
    return 0;
}

static u64 heap_start, heap_end, map_below = USER_END - 2 * STACK_SIZE;

static long sys_brk(u64 end)
{
    if (!heap_end)
        heap_start = heap_end = ((struct segment *)direct(start.segments))[start.segment_count - 1].end;
    u64 old = ROUND_UP(heap_end), new = ROUND_UP(end);
    if (end < heap_start || (new > old && (!is_free(old, new) || region_add(old, new, READ | WRITE))))
        return heap_end;
    if (new < old)
        sys_munmap(new, old - new);
    return heap_end = end;
}

static long sys_mprotect(u64 address, u64 size, int rights)
{
    u64 end = address + ROUND_UP(size), page = address, *entry;
    if (address % PAGE || (rights & WRITE && rights & EXECUTE))
        return address % PAGE ? -EINVAL : -EACCES;
    if (!allowed(address, end - address, 0) || split(address) || split(end))
        return -ENOMEM;
    for EACH_REGION(r)
        if (r->start >= address && r->end <= end)
            r->rights = rights & (READ | WRITE | EXECUTE);
    for (; (entry = next_used(&page, end)); page += PAGE)
        set_entry(entry, *entry & FRAME, rights, page);
    return 0;
}

static long sys_pread(int number, u64 to, u64 size, u64 at);

/* Private mappings. A file's is a copy of it, since no file changes here. */
static long sys_mmap(u64 address, u64 bytes, int rights, int flags, int file, u64 offset)
{
    enum { FIXED = 0x10, ANONYMOUS = 0x20, UNLESS_USED = 0x100000 };
    u64 size = ROUND_UP(bytes);
    if (!size || size > map_below || (rights & WRITE && rights & EXECUTE))
        return !size ? -EINVAL : size > map_below ? -ENOMEM : -EACCES;
    if (flags & UNLESS_USED && !is_free(address, address + size))
        return -EEXIST;
    if (flags & FIXED && sys_munmap(address, size))
        return -EINVAL;
    if (!(flags & (FIXED | UNLESS_USED)) && (!address || address % PAGE || !is_free(address, address + size)))
        do
            address = map_below -= size;
        while (size < map_below && !is_free(address, address + size));
    u64 end = address + size;
    if (address % PAGE || !is_free(address, end) || region_add(address, end, READ | WRITE))
        return -ENOMEM;
    long error = flags & ANONYMOUS ? 0 : sys_pread(file, address, bytes, offset);
    if (error >= 0)
        error = sys_mprotect(address, size, rights);
    if (error)
        sys_munmap(address, size);
    return error ? error : (long)address;
}

static long sys_mremap(u64 old, u64 old_size, u64 size, int flags)
{
    enum { MAY_MOVE = 1, ANONYMOUS = 0x20 };
    struct region *r = region_at(old);
    old_size = ROUND_UP(old_size), size = ROUND_UP(size);
    if (!r || old % PAGE || !size || flags & ~MAY_MOVE || old + old_size > r->end)
        return r ? -EINVAL : -EFAULT;
    if (size <= old_size)
        return size < old_size && sys_munmap(old + size, old_size - size) ? -ENOMEM : (long)old;
    int rights = r->rights;
    if (old + old_size == r->end && is_free(r->end, old + size))
        return region_add(r->end, old + size, rights) ? -ENOMEM : (long)old;
    long new = flags & MAY_MOVE ? sys_mmap(0, size, rights, ANONYMOUS, -1, 0) : -ENOMEM;
    u64 *to, *entry, page = old;
    for (; new > 0 && (entry = next_used(&page, old + old_size)); page += PAGE) /* frames move, not bytes */
        if ((to = entry_of(new + page - old, 1))) {
            set_entry(to, *entry & FRAME, rights, new + page - old);
            set_entry(entry, 0, 0, page);
        }
    return new > 0 && sys_munmap(old, old_size) ? -ENOMEM : new;
}
