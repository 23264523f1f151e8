/* Executes each word of the file named by argv[1] and prints one character for it: I if it is an
   illegal instruction. a1 points into a page of data, all other integer arguments are 0. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

static const uint32_t RET = 0x00008067;
static char data[8192] __attribute__((aligned(4096)));
static uint32_t *code;
static volatile int fault;

static void on_fault(int number, siginfo_t *info, void *context) {
    fault = number;
    ((ucontext_t *)context)->uc_mcontext.__gregs[0] = (unsigned long)(code + 1);
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    FILE *words = fopen(argv[1], "rb");
    uint32_t word;

    code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGILL, &action, 0);
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    while (fread(&word, sizeof word, 1, words) == 1) {
        register long a0 asm("a0") = 0, a1 asm("a1") = (long)(data + 4096);
        register uint32_t *target asm("t6") = code;
        fault = 0;
        code[0] = word;
        code[1] = RET;
        asm volatile("fence.i\n jalr ra, 0(t6)\n fscsr zero"
                     : "+r"(a0), "+r"(a1), "+r"(target)
                     :
                     : "ra", "fa0", "memory");
        putchar(fault == SIGILL ? 'I' : '.');
    }
    return 0;
}
