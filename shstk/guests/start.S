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
#ifdef LANDING_PADS
    li a7, 167
    li a0, 81                   # PR_SET_CFI
    li a1, 0                    # PR_CFI_BRANCH_LANDING_PADS
    li a2, 1                    # PR_CFI_ENABLE
    ecall
#endif
    j _start

    .section .note.GNU-stack, "", @progbits
