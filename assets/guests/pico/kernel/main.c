/* pico: a small UNIX in 32 bits, to read and to type into. Needs --disk assets/disks/pico.img.
 *
 * Processes with an address space each, fork and exec, pipes, files on a disk, a shell on screen and
 * serial line, preemption by the local APIC's timer, and stacks that grow by page faults. The kernel is
 * C and a little assembly, linked at 0xC0100000 as the kernels of its time were, and started by
 * Multiboot. It knows nothing of hypervisors.
 *
 * Typed to it: ls, cat readme | wc, ps, spin a & spin b, grow 50, crash null, off. With --pure it
 * panics in its own words, because of PUSHF alone. Its sources are in assets/guests/pico.
 */
#include "kernel.h"

/* What a Multiboot loader tells: of all its fields, how much memory there is above 1 MiB. */
struct loader { u32 flags, lower_kib, upper_kib; };

void main(const struct loader *physical)
{
    const struct loader *loader = (void *)((u32)physical + KERNEL);
    u32 upper_kib = loader->upper_kib; /* before anything of ours lies there */
    set_up_segments();
    set_up_memory(upper_kib);
    set_up_console();
    print("pico: %d MiB of memory, %d pages for programs\n", (upper_kib + 2047) / 1024, free_pages());
    set_up_files();
    set_up_apics();
    set_up_processes();
    for (;;) { /* this is now the process that runs when no other can */
        schedule();
        stop_timer(); /* there is nobody to take the CPU from */
        wait_for_interrupt();
    }
}
