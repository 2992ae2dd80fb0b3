/* What programs share: see user.h. */
#include "user.h"

void print(const char *text, ...)
{
    char buffer[512];
    va_list arguments;
    va_start(arguments, text);
    write(1, buffer, format(buffer, sizeof buffer, text, arguments));
    va_end(arguments);
}

void fail(const char *text, ...)
{
    char buffer[256];
    va_list arguments;
    va_start(arguments, text);
    write(2, buffer, format(buffer, sizeof buffer, text, arguments));
    va_end(arguments);
    exit(1);
}

int number(const char *text)
{
    int value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + *text - '0';
    return value;
}
