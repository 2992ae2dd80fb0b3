# sum: adds the numbers from 1 to 10 and keeps the result in RBX. Then it ends with it as status.
#
# Loads, additions and jumps mean the same in every ring. Nothing here leaves the guest, but for the
# last instruction: it asks a device, the power switch so to say, to end the machine.

_start: xor     ebx, ebx                # the sum
        mov     ecx, 10                 # the number to add next
add_it: add     rbx, rcx
        dec     ecx
        jnz     add_it
done:   mov     eax, ebx
        out     0xf4, al                # the exit port
