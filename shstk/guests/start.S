# Entry stub: the shadow stack is on before the C library's _start pushes anything.
# sp points to argc, argv, envp and auxv, and stays where it is.
    .text
    .globl _shstk_start
_shstk_start:
    li a7, 167                  # prctl
    li a0, 75                   # PR_SET_SHADOW_STACK_STATUS
    li a1, 1                    # PR_SHADOW_STACK_ENABLE
    li a2, 0
    li a3, 0
    li a4, 0
    ecall
    j _start

    .section .note.GNU-stack, "", @progbits
