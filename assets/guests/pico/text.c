/* Text and memory: see text.h. Strings of memory are left to the CPU's own instructions. */
#include "text.h"

unsigned strlen(const char *text)
{
    unsigned length = 0;
    while (text[length])
        length++;
    return length;
}

int strncmp(const char *one, const char *other, unsigned most)
{
    for (; most && *one && *one == *other; one++, other++)
        most--;
    return most ? (unsigned char)*one - (unsigned char)*other : 0;
}

int strcmp(const char *one, const char *other) { return strncmp(one, other, -1u); }

int memcmp(const void *one, const void *other, unsigned size)
{
    const unsigned char *a = one, *b = other;
    for (; size; a++, b++, size--)
        if (*a != *b)
            return *a - *b;
    return 0;
}

void *memset(void *to, int value, unsigned size)
{
    void *at = to;
    unsigned longs = size / 4;
    __asm__ volatile("rep stosl" : "+D"(at), "+c"(longs) : "a"((value & 0xFF) * 0x01010101) : "memory");
    size %= 4;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, unsigned size)
{
    void *at = to;
    unsigned longs = size / 4;
    __asm__ volatile("rep movsl" : "+D"(at), "+S"(from), "+c"(longs)::"memory");
    size %= 4;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size)::"memory");
    return to;
}

void copy_text(char *to, const char *from, unsigned room)
{
    for (; room > 1 && *from; room--)
        *to++ = *from++;
    *to = 0;
}

/* The digits of a number, in `end` and before it. */
static char *digits(char *end, unsigned value, unsigned base)
{
    *end = 0;
    do
        *--end = "0123456789abcdef"[value % base];
    while (value /= base);
    return end;
}

int format(char *to, unsigned room, const char *text, va_list arguments)
{
    unsigned done = 0;
    for (; *text && done < room; text++) {
        if (*text != '%') {
            to[done++] = *text;
            continue;
        }
        char buffer[16], *word = buffer;
        int left = *++text == '-', width = 0, number;
        for (text += left; *text >= '0' && *text <= '9'; text++)
            width = width * 10 + *text - '0';
        switch (*text) {
        case 'd':
            number = va_arg(arguments, int);
            word = digits(buffer + 15, number < 0 ? 0u - number : (unsigned)number, 10);
            if (number < 0)
                *--word = '-';
            break;
        case 'x':
            word = digits(buffer + 15, va_arg(arguments, unsigned), 16);
            *--word = 'x';
            *--word = '0';
            break;
        case 's':
            word = va_arg(arguments, char *);
            break;
        case 'c':
            buffer[0] = va_arg(arguments, int);
            buffer[1] = 0;
            break;
        default:
            buffer[0] = *text;
            buffer[1] = 0;
        }
        int blanks = width - (int)strlen(word);
        for (; !left && blanks > 0 && done < room; blanks--)
            to[done++] = ' ';
        while (*word && done < room)
            to[done++] = *word++;
        for (; left && blanks > 0 && done < room; blanks--)
            to[done++] = ' ';
    }
    return done;
}
