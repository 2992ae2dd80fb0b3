# Each digit: the number times ten, and the digit. A blank adds the number to the sum, a line break ends.
_start: xor     ebx, ebx                # the sum
        xor     ecx, ecx                # the number
byte:   mov     dx, 0x3fd
        in      al, dx
        test    al, 1
        jz      byte
        mov     dx, 0x3f8
        in      al, dx
        movzx   eax, al
        cmp     eax, '0'
        jb      number
        imul    ecx, ecx, 10
        lea     ecx, [rcx + rax - '0']
        jmp     byte
number: add     ebx, ecx
        xor     ecx, ecx
        cmp     eax, ' '
        je      byte
        mov     eax, ebx
        out     0xf4, al
