/* The keyboard: numbers of keys, in the PC's first set of scan codes, become letters. */
#include "kernel.h"

enum { DATA = 0x60, RELEASED = 0x80, LEFT_SHIFT = 0x2A, RIGHT_SHIFT = 0x36, CONTROL = 0x1D };

static const char plain[] = "\0\0331234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char shifted[] = "\0\033!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";

void keyboard_interrupt(void)
{
    static int shift, control;
    int code = inb(DATA), pressed = !(code & RELEASED), key = code & ~RELEASED;
    if (key == LEFT_SHIFT || key == RIGHT_SHIFT)
        shift = pressed;
    else if (key == CONTROL)
        control = pressed;
    else if (pressed && key < (int)sizeof plain && plain[key]) {
        int letter = shift ? shifted[key] : plain[key];
        typed(control ? letter & 0x1F : letter);
    }
}
