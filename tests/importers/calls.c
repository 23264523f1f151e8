// Calls that strace sees: prctl and map_shadow_stack, good ones and bad ones, in a process, its
// thread, its children and a new program. It has no shadow-stack instructions.
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GET = 74, SET, LOCK, GET_CFI = 80, SET_CFI };
static unsigned long status;

static long map(unsigned long addr, unsigned long size, unsigned long flags)
{
    return syscall(453, addr, size, flags);
}

static int call(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    return prctl(option, a, b, c, d);
}

static void *thread(void *arg)
{
    call(SET, 1, 0, 0, 0);  // P4: as its creator, it is enabled
    call(LOCK, 0, 0, 0, 0);
    call(SET, 0, 0, 0, 0);  // P3
    return arg;
}

static int again(void)
{
    call(LOCK, 0, 0, 0, 0);  // P9: off since the exec
    call(SET, 0, 0, 0, 0);   // E2: and not locked
    return 3;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return again();
    map(0, 8192, 1);
    map(0, 4096, 8);      // M2
    map(0, 4, 1);         // M3
    map(0x1234, 4096, 0); // M4
    map(0, -1, 0);        // M5
    map(0, 0, 0);         // M7
    call(SET, 1, 0, 0, 7);  // P0
    call(99, 0, 0, 0, 0);   // P0
    call(SET, 8, 0, 0, 0);  // P2
    call(GET_CFI, 0, (unsigned long)&status, 0, 0);
    call(SET_CFI, 0, 1, 0, 0);  // P10
    call(SET_CFI, 0, 2, 0, 0);  // off again: it has none
    call(SET_CFI, 1, 1, 0, 0);  // P10
    call(PR_SET_NAME, (unsigned long)"calls", 0, 0, 0);
    call(SET, 1, 0, 0, 0);
    call(GET, (unsigned long)&status, 0, 0, 0);
    pthread_t other;
    pthread_create(&other, 0, thread, 0);
    pthread_join(other, 0);
    call(LOCK, 0, 0, 0, 0);
    int code;
    pid_t child = fork();
    if (!child) {
        execl("/proc/self/exe", "calls", "again", (char *)0);
        _exit(9);
    }
    waitpid(child, &code, 0);
    child = vfork();
    if (!child)
        _exit(7);
    waitpid(child, &code, 0);
    child = fork();
    if (!child)
        *(volatile int *)16 = 1;
    waitpid(child, &code, 0);
    return 5;
}
