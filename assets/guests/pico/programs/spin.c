/* spin WORD: a word each time the timer has taken the CPU away, five times. It never gives it up itself. */
#include "user.h"

int main(int count, char **words)
{
    for (int i = 0; i < 5; i++) {
        for (int before = slices(); slices() == before;)
            for (volatile int n = 0; n < 1000; n++)
                ;
        print("%s ", count > 1 ? words[1] : ".");
    }
    return 0;
}
