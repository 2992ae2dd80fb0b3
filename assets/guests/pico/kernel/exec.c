/* Programs: ELF files on the disk. Source: System V ABI, chapters 4 and 5. */
#include "kernel.h"

struct header {
    u8 magic[4], rest[12];
    u16 type, machine;
    u32 version, entry, segments, sections, flags;
    u16 size, segment_size, segment_count;
};

struct segment { u32 type, offset, address, physical, in_file, in_memory, flags, align; };

enum { LOAD = 1, WRITABLE = 2, MOST_ARGUMENTS = 16, MOST_TEXT = 512 };

/* Read a segment into new pages, straight from the disk: file and memory are aligned alike. */
static int load(u32 *space, const struct entry *file, const struct segment *segment)
{
    u32 page = segment->address & -PAGE, offset = segment->offset & -PAGE;
    u32 end = segment->address + segment->in_memory, loaded = segment->address + segment->in_file;
    if (segment->address < PROGRAM || end > STACK_LIMIT || end < segment->address || loaded > end
        || (segment->address ^ segment->offset) % PAGE || segment->offset > file->size
        || segment->in_file > file->size - segment->offset)
        return 0;
    for (; page < end; page += PAGE, offset += PAGE) {
        u8 *to = map_page(space, page, segment->flags & WRITABLE);
        u32 wanted = loaded <= page ? 0 : loaded - page < PAGE ? loaded - page : PAGE;
        if (!to || (wanted && read_disk(file->sector + offset / 512, to, (wanted + 511) / 512) < 0))
            return 0;
        memset(to + wanted, 0, PAGE - wanted); /* what else is in the last sector */
    }
    return 1;
}

/* Put the arguments on the new stack as C wants them: argc, argv, and behind it what that points to. */
static u32 push_arguments(u32 *space, char *const *arguments)
{
    u8 *page = map_page(space, STACK_TOP - PAGE, 1);
    if (!page)
        return 0;
    u32 text = PAGE - MOST_TEXT, count = 0, *words = (u32 *)(page + text) - MOST_ARGUMENTS - 3;
    for (; arguments[count] && count < MOST_ARGUMENTS; count++) {
        u32 length = strlen(arguments[count]) + 1;
        if (text + length > PAGE)
            return 0;
        memcpy(page + text, arguments[count], length);
        words[2 + count] = STACK_TOP - PAGE + text;
        text += length;
    }
    u32 at = STACK_TOP - PAGE + ((u8 *)words - page);
    words[0] = count;
    words[1] = at + 8;
    return at;
}

/* Replace the current program by another. -1, and the old one goes on, if that is impossible. */
int exec(const char *name, char *const *arguments)
{
    u8 block[512];
    const struct entry *file = find_file(name);
    struct header *header = (struct header *)block;
    if (!file || read_file(file, 0, block, sizeof block) < (int)sizeof *header || memcmp(header->magic, "\177ELF", 4))
        return -1;
    struct segment *segments = (struct segment *)(block + header->segments);
    if (header->segments > sizeof block || header->segment_count > (sizeof block - header->segments) / sizeof *segments)
        return -1;
    u32 *space = new_space();
    if (!space)
        return -1;
    for (int i = 0; i < header->segment_count; i++)
        if (segments[i].type == LOAD && !load(space, file, &segments[i]))
            goto impossible;
    u32 stack = push_arguments(space, arguments);
    if (!stack)
        goto impossible;
    u32 *old = current->space;
    current->space = space;
    use_space(space);
    copy_text(current->name, name, NAME);
    *frame_of(current) = (struct frame){
        .eip = header->entry, .cs = USER_CODE, .eflags = INTERRUPTS_ON, .esp = stack, .ss = USER_DATA};
    free_space(old);
    return 0;

impossible:
    free_space(space);
    return -1;
}
