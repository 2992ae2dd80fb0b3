/* kill PID...: processes that are to end. */
#include "user.h"

int main(int count, char **words)
{
    for (int i = 1; i < count; i++)
        if (kill(number(words[i])) < 0)
            fail("kill: there is no process %s\n", words[i]);
    return 0;
}
