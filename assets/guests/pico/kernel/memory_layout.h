/* Where things are, for C and assembly.
 *
 *      0x00000000  nothing: a null pointer faults
 *      0x00400000  a program: its code, constants, variables
 *      0xBFFC0000  room for its stack, which grows downwards, page by page, as it is used
 *      0xC0000000  the kernel: physical memory from 0 to 16 MiB
 *      0xFEC00000  the I/O APIC; 0xFEE00000 the local APIC
 */
#define PAGE        4096
#define PROGRAM     0x00400000
#define STACK_LIMIT 0xBFFC0000
#define STACK_TOP   0xC0000000
#define KERNEL      0xC0000000
#define DIRECT_MAP  0x01000000 /* bytes of physical memory that the kernel sees at KERNEL */
