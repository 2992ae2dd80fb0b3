/* The CPU's tables: segments (GDT), where to enter the kernel (IDT), and with which stack (TSS).
 * Source: Intel SDM volume 3, chapters 3, 6 and 7. */
#include "kernel.h"

enum { TASK = 0x28 };

/* All segments are flat, from 0 to 4 GiB: protection is left to paging. The data segment is for ring 3,
 * and the kernel uses it as well, so that it need not be saved, only made sure of (entry.S). */
static u32 gdt[][2] = {
    {0, 0},
    {0x0000FFFF, 0x00CF9A00}, /* 08: code, ring 0 */
    {0x0000FFFF, 0x00CF9200}, /* 10: stack, ring 0 */
    {0x0000FFFF, 0x00CFFA00}, /* 18: code, ring 3 */
    {0x0000FFFF, 0x00CFF200}, /* 20: data, ring 3 */
    {0, 0},                   /* 28: the TSS */
};

static u32 idt[SYSTEM_CALL + 1][2];

static struct {
    u32 back_link, esp0, ss0, others[22];
    u16 trap, io_map; /* beyond the segment's end: ring 3 may use no port */
} tss = {.ss0 = KERNEL_STACK, .io_map = sizeof tss};

static void load_table(int idt_or_gdt, const void *table, int size)
{
    struct { u16 limit; const void *base; } __attribute__((packed)) where = {size - 1, table};
    if (idt_or_gdt)
        __asm__ volatile("lidt %0" ::"m"(where));
    else
        __asm__ volatile("lgdt %0" ::"m"(where));
}

void set_up_segments(void)
{
    u32 base = (u32)&tss;
    gdt[TASK / 8][0] = base << 16 | (sizeof tss - 1);
    gdt[TASK / 8][1] = (base & 0xFF000000) | 0x8900 | (base >> 16 & 0xFF);
    load_table(0, gdt, sizeof gdt);
    __asm__ volatile("ljmp $0x08, $1f; 1:; mov %0, %%ss" ::"r"(KERNEL_STACK));
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(KERNEL_STACK));
    __asm__ volatile("ltr %w0" ::"r"(TASK));

    /* Interrupt gates: the kernel runs with interrupts off. Ring 3 may use the one for system calls. */
    for (int vector = 0; vector <= SYSTEM_CALL; vector++) {
        int gate = vector == SYSTEM_CALL ? 0xEE00 : 0x8E00;
        idt[vector][0] = KERNEL_CODE << 16 | (vectors[vector] & 0xFFFF);
        idt[vector][1] = (vectors[vector] & 0xFFFF0000) | gate;
    }
    load_table(1, idt, sizeof idt);
}

void set_kernel_stack(u32 top) { tss.esp0 = top; }
