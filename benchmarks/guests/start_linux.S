// As start.S, but asks a kernel for a shadow stack: prctl(PR_SET_SHADOW_STACK_STATUS, ENABLE).
#ifndef ROUNDS
#define ROUNDS 1
#endif
    .globl _start
_start:
    li a0, 75
    li a1, 1
    li a2, 0
    li a3, 0
    li a4, 0
    li a7, 167
    ecall
    bnez a0, 2f    // exits with the error if there is none
    li s1, ROUNDS
1:  call work
    addi s1, s1, -1
    bnez s1, 1b
    li a0, 0
2:  li a7, 93
    ecall
