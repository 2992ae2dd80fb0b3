/* cguest: a C program: e = 1 + 1/1! + 1/2! + ..., in SSE registers.
 * It needs no library to be a guest:
 * gcc -O2 -g1 -ffreestanding -nostdlib -static -no-pie -ffile-prefix-map="$PWD"=. -o cguest.elf cguest.c
 */
static void out(unsigned short port, char byte) { __asm__ volatile("outb %0, %1" ::"a"(byte), "Nd"(port)); }

void _start(void)
{
    double e = 1, term = 1;
    for (int n = 1; n < 20; n++)
        e += term /= n; /* divsd, addsd: no ring is needed for these */
    for (int digit = 0; digit < 16; digit++, e = (e - (int)e) * 10) {
        out(0xe9, '0' + (int)e);
        if (digit == 0)
            out(0xe9, '.');
    }
    out(0xe9, '\n');
    out(0xf4, 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}
