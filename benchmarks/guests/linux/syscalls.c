// Makes one kind of system call so many times: syscalls KIND COUNT. No libc is between most of them
// and the kernel.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
}
#define CALL(name, a, b, c, d, e, f) \
    call(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static char buffer[65536];
static int ping[2], pong[2];
static long count;
static int word;

static void* answer(void* unused) {
    char c;
    for (long i = 0; i < count; i++) {
        read(ping[0], &c, 1);
        write(pong[1], &c, 1);
    }
    return unused;
}

static void* wait_once(void* unused) {
    char c;
    read(ping[0], &c, 1);
    return unused;
}

static void* nothing(void* unused) { return unused; }

static void handler(int signo) { (void)signo; }

static int threads_one_by_one(void) {
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, nothing, 0)) return 3;
        pthread_join(thread, 0);
    }
    return 0;
}

static int threads_alive(void) {
    pthread_t* threads = malloc(count * sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    pipe(ping);
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], &attributes, wait_once, 0)) return 3;
    close(ping[1]);
    for (long i = 0; i < count; i++) pthread_join(threads[i], 0);
    return 0;
}

static int ping_pong(void) {
    pthread_t thread;
    char c = 0;
    pipe(ping);
    pipe(pong);
    pthread_create(&thread, 0, answer, 0);
    for (long i = 0; i < count; i++) {
        write(ping[1], &c, 1);
        read(pong[0], &c, 1);
    }
    return pthread_join(thread, 0);
}

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    const char* kind = argv[1];
    count = atol(argv[2]);
    struct pollfd polled = {1, POLLOUT, 0};
    struct timespec at_once = {0, 0};
    struct {
        void* data;
        long size;
    } parts[2] = {{buffer, 8}, {buffer, 8}};
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    long set = 0, i, pages = CALL(mmap, 0, 8192, 3, anonymous, -1, 0),
         brk = CALL(brk, 0, 0, 0, 0, 0, 0);
    long in = open("/proc/self/exe", O_RDONLY), self = getpid();
    long out = open("/tmp/out", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    signal(SIGUSR1, handler);

    if (!strcmp(kind, "clone+join")) return threads_one_by_one();
    if (!strcmp(kind, "alive")) return threads_alive();
    if (!strcmp(kind, "pingpong")) return ping_pong();
    if (!strcmp(kind, "pipe")) pipe(ping);
#define EACH(name, ...)                                         \
    else if (!strcmp(kind, name)) for (i = 0; i < count; i++) { \
        __VA_ARGS__;                                            \
    }
    EACH("loop", __asm__ volatile(""))
    EACH("getpid", CALL(getpid, 0, 0, 0, 0, 0, 0))
    EACH("getppid", CALL(getppid, 0, 0, 0, 0, 0, 0))
    EACH("write", CALL(write, out, buffer, 16, 0, 0, 0))
    EACH("writeout", CALL(write, 1, buffer, 16, 0, 0, 0))
    EACH("writev", CALL(writev, out, parts, 2, 0, 0, 0))
    EACH("read", CALL(pread64, in, buffer, 16, i & 4095, 0, 0))
    EACH("lseek", CALL(lseek, in, i & 4095, 0, 0, 0, 0))
    EACH("fstat", CALL(fstat, in, buffer, 0, 0, 0, 0))
    EACH("newfstatat", CALL(newfstatat, -100, "/", buffer, 0, 0, 0))
    EACH("clock_gettime", CALL(clock_gettime, 1, buffer, 0, 0, 0, 0))
    EACH("mmap+munmap", CALL(munmap, CALL(mmap, 0, 8192, 3, anonymous, -1, 0), 8192, 0, 0, 0, 0))
    EACH("mprotect", CALL(mprotect, pages, 4096, i & 1 ? 3 : 1, 0, 0, 0))
    EACH("madvise", CALL(madvise, pages, 4096, MADV_DONTNEED, 0, 0, 0))
    EACH("brk", CALL(brk, brk + (i & 1) * 4096, 0, 0, 0, 0, 0))
    EACH("futex_wake", CALL(futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0))
    EACH("sched_yield", CALL(sched_yield, 0, 0, 0, 0, 0, 0))
    EACH("rt_sigprocmask", CALL(rt_sigprocmask, SIG_BLOCK, &set, buffer, 8, 0, 0))
    EACH("rt_sigaction", CALL(rt_sigaction, SIGUSR1, 0, buffer, 8, 0, 0))
    EACH("openat+close",
         CALL(close, CALL(openat, -100, "/proc/self/exe", 0, 0, 0, 0), 0, 0, 0, 0, 0))
    EACH("dup+close", CALL(close, CALL(dup, 1, 0, 0, 0, 0, 0), 0, 0, 0, 0, 0))
    EACH("fcntl", CALL(fcntl, 1, F_GETFL, 0, 0, 0, 0))
    EACH("ppoll", CALL(ppoll, &polled, 1, &at_once, 0, 0, 0))
    EACH("ioctl", CALL(ioctl, 1, 0x5401, buffer, 0, 0, 0))
    EACH("getrandom", CALL(getrandom, buffer, 16, 0, 0, 0, 0))
    EACH("pipe", CALL(write, ping[1], buffer, 16, 0, 0, 0);
         CALL(read, ping[0], buffer, 16, 0, 0, 0))
    EACH("signal", CALL(tgkill, self, self, SIGUSR1, 0, 0, 0))
    EACH("areas", CALL(mmap, 0, 4096, i & 1 ? 3 : 1, anonymous, -1, 0))
    EACH("files", CALL(dup, 1, 0, 0, 0, 0, 0))
    EACH("fork+wait", int pid = fork(); if (!pid) _exit(0); waitpid(pid, 0, 0))
    else return 2;
    return 0;
}
