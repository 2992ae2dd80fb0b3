/* crash WAY: a program that does what it may not. Nobody else notices. */
#include "user.h"

int main(int count, char **words)
{
    const char *way = count > 1 ? words[1] : "";
    if (!strcmp(way, "null"))
        *(volatile int *)0 = 1;
    else if (!strcmp(way, "kernel"))
        *(volatile int *)0xC0100000 = 1;
    else if (!strcmp(way, "code"))
        *(volatile char *)main = 1;
    else if (!strcmp(way, "cli"))
        __asm__ volatile("cli");
    else if (!strcmp(way, "port"))
        __asm__ volatile("outb %al, $0xf4");
    else if (!strcmp(way, "divide"))
        __asm__ volatile("xor %ecx, %ecx; div %ecx");
    else if (!strcmp(way, "call"))
        return write(1, (void *)0xC0100000, 4) == -1 ? print("the kernel said no\n"), 0 : 1;
    else
        print("crash null, kernel, code, cli, port, divide or call\n");
    return 0;
}
