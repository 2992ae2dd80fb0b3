/* Text and memory, for the kernel and for programs: there is no C library. */
#include <stdarg.h>

#include "calls.h"

unsigned strlen(const char *text);
int strcmp(const char *one, const char *other);
int strncmp(const char *one, const char *other, unsigned most);
int memcmp(const void *one, const void *other, unsigned size);
void *memset(void *to, int value, unsigned size);
void *memcpy(void *to, const void *from, unsigned size);
void copy_text(char *to, const char *from, unsigned room); /* always ends in a zero */

/* Like vsnprintf with %d %x %s %c and %%, with widths ("%4d", "%-8s"): the number of bytes written. */
int format(char *to, unsigned room, const char *text, va_list arguments);
