    lea r12, [rip + places]
each:
    mov rbx, [r12]
    lea r15, [rip + b]
    mov rax, [rbx]
    mov [rbx], rax
b:  lea r15, [rip + c]
    call rbx
c:  lea r15, [rip + b]
    mov rsp, STACK
    add r12, 8
    lea rax, [rip + places_end]
    cmp r12, rax
    jb each
%more
{places}
