/* wc: lines, words and bytes of its input. */
#include "user.h"

int main(void)
{
    static char buffer[512];
    int lines = 0, words = 0, bytes = 0, inside = 0, size;
    while ((size = read(0, buffer, sizeof buffer)) > 0)
        for (int i = 0; i < size; i++, bytes++) {
            int blank = buffer[i] == ' ' || buffer[i] == '\n';
            lines += buffer[i] == '\n';
            words += !blank && !inside;
            inside = !blank;
        }
    print("%d lines, %d words, %d bytes\n", lines, words, bytes);
    return 0;
}
