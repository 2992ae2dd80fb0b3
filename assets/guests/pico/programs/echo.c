/* echo: its words. */
#include "user.h"

int main(int count, char **words)
{
    char line[256];
    int used = 0;
    for (int i = 1; i < count; i++) {
        copy_text(line + used, words[i], sizeof line - used - 1);
        used += strlen(line + used);
        line[used++] = i == count - 1 ? '\n' : ' ';
    }
    if (count < 2)
        line[used++] = '\n';
    write(1, line, used);
    return 0;
}
