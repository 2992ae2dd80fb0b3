/* ps: the processes, their pages of memory, and how often the timer took the CPU from them. */
#include "user.h"

int main(void)
{
    static struct process_info list[16];
    int count = ps(list, 16);
    print(" pid parent state pages slices program\n");
    for (int i = 0; i < count; i++)
        print("%4d %6d %-5s %5d %6d %s\n", list[i].pid, list[i].parent, list[i].state, list[i].pages,
              list[i].slices, list[i].name);
    return 0;
}
