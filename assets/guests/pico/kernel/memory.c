/* Memory: page frames for all who need them, and one address space for each process.
 *
 * The kernel sees physical memory at KERNEL, so a frame's address in the kernel and its physical address
 * differ by that. Two levels of tables (SDM volume 3, 4.3): the directory's 1024 entries name tables, whose
 * 1024 entries name pages. */
#include "kernel.h"

enum { PRESENT = 1, WRITABLE = 2, USER = 4, ENTRIES = 1024, OF_USER = KERNEL >> 22 };

extern u32 directory[ENTRIES];
extern u8 kernel_end[];

static struct free { struct free *next; } *freed; /* frames that were used and are free again */
static u8 *untouched, *end;                       /* frames that never were */

static u32 physical(const void *address) { return (u32)address - KERNEL; }
static void *virtual(u32 entry) { return (void *)((entry & -PAGE) + KERNEL); }

void set_up_memory(u32 upper_kib)
{
    u32 bytes = (1 << 20) + upper_kib * 1024;
    untouched = kernel_end;
    end = (u8 *)KERNEL + (bytes < DIRECT_MAP ? bytes & -PAGE : DIRECT_MAP);
}

void *allocate_page(void)
{
    u8 *page = (u8 *)freed;
    if (page)
        freed = freed->next;
    else if (untouched < end)
        page = untouched, untouched += PAGE;
    else
        return 0;
    memset(page, 0, PAGE);
    return page;
}

void free_page(void *page)
{
    struct free *now = page;
    now->next = freed;
    freed = now;
}

int free_pages(void)
{
    int count = (end - untouched) / PAGE;
    for (struct free *at = freed; at; at = at->next)
        count++;
    return count;
}

/* A page directory without programs: the kernel's part is the same in all of them. */
u32 *new_space(void)
{
    u32 *space = allocate_page();
    if (space)
        memcpy(space + OF_USER, directory + OF_USER, (ENTRIES - OF_USER) * sizeof *space);
    return space;
}

/* Have the CPU translate by this directory. Loading CR3 empties the TLB, so it is not done in vain. */
void use_space(const u32 *space)
{
    static const u32 *used;
    if (space != used)
        load_cr3(physical(used = space));
}

/* The first entry in use from `at` on, below `end`; `end` if there is none. Most are 0, and SCAS is quick. */
static u32 next_used(const u32 *table, u32 at, u32 end)
{
    const u32 *place = table + at;
    u32 left = end - at;
    int found;
    __asm__("cmp %%ecx, %%ecx; repe scasl; setne %b2" : "+D"(place), "+c"(left), "=&q"(found) : "a"(0) : "memory");
    return found & 1 ? (u32)(place - table) - 1 : end;
}

/* For each page of a program: `table` and `page` are the indices of its two entries. */
#define FOR_EACH_TABLE(space) \
    for (u32 table = next_used(space, 0, OF_USER); table < OF_USER; table = next_used(space, table + 1, OF_USER))
#define FOR_EACH_PAGE(of) \
    for (u32 page = next_used(of, 0, ENTRIES); page < ENTRIES; page = next_used(of, page + 1, ENTRIES))

void free_space(u32 *space)
{
    FOR_EACH_TABLE(space)
    {
        u32 *entries = virtual(space[table]);
        FOR_EACH_PAGE(entries)
            free_page(virtual(entries[page]));
        free_page(entries);
    }
    free_page(space);
}

/* The entry of a page; 0 if there is no table for it, and none is wanted or memory is short. */
static u32 *entry_of(u32 *space, u32 address, int wanted)
{
    u32 *slot = &space[address >> 22];
    if (!(*slot & PRESENT)) {
        void *table = wanted ? allocate_page() : 0;
        if (!table)
            return 0;
        *slot = physical(table) | PRESENT | WRITABLE | USER;
    }
    return (u32 *)virtual(*slot) + (address >> 12) % ENTRIES;
}

/* A page of a program: the one that is there, or a new one, zeroed. Its address in the kernel, or 0. */
void *map_page(u32 *space, u32 address, int writable)
{
    u32 *entry = entry_of(space, address, 1);
    if (!entry)
        return 0;
    if (!(*entry & PRESENT)) {
        void *page = allocate_page();
        if (!page)
            return 0;
        *entry = physical(page) | PRESENT | USER;
    }
    if (writable)
        *entry |= WRITABLE;
    return virtual(*entry);
}

/* Copy a program's memory, page by page, for `fork`. A larger system would share the pages until one of
 * the two writes ("copy on write"). */
int copy_space(u32 *to, const u32 *from)
{
    FOR_EACH_TABLE(from)
    {
        const u32 *entries = virtual(from[table]);
        FOR_EACH_PAGE(entries)
        {
            void *copy = map_page(to, table << 22 | page << 12, entries[page] & WRITABLE);
            if (!copy)
                return 0;
            memcpy(copy, virtual(entries[page]), PAGE);
        }
    }
    return 1;
}

int page_count(const u32 *space)
{
    int count = 0;
    FOR_EACH_TABLE(space)
    {
        const u32 *entries = virtual(space[table]);
        FOR_EACH_PAGE(entries)
            count++;
    }
    return count;
}

/* A program has touched memory that is not there: within reach of its stack it gets a page. */
int grow_stack(u32 address)
{
    u32 *entry = address >= STACK_LIMIT && address < STACK_TOP ? entry_of(current->space, address, 1) : 0;
    return entry && !(*entry & PRESENT) && map_page(current->space, address, 1);
}

/* Whether a program may read, or write, all of a range: the kernel asks before it does so for it. */
int user_range(u32 address, u32 size, int to_write)
{
    u32 needed = PRESENT | USER | (to_write ? WRITABLE : 0);
    if (address >= KERNEL || size > KERNEL - address)
        return 0;
    for (u32 page = address & -PAGE; page < address + size; page += PAGE) {
        u32 *entry = entry_of(current->space, page, 0);
        if ((!entry || !(*entry & PRESENT)) && grow_stack(page))
            continue;
        if (!entry || (*entry & needed) != needed)
            return 0;
    }
    return 1;
}
