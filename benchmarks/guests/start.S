    .globl _start
_start:
    call work
    li a7, 93
    ecall
