// Does the operations in a file on 24 pages just above the program's heap, and prints what each
// answers and what the pages hold. Each sequence has a process of its own, with a shadow stack.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { page = 4096, pages = 24, last_word = page - 8 };
enum {
    done,
    shadow,
    map,
    unmap,
    protect,
    remap,
    advise,
    lock,
    unlock,
    seal,
    swap,
    store,
    load,
    fork_,
    heap
};

static char* window;
static volatile char fault;  // 0: none

static void on_fault(int signal, siginfo_t* info, void* context) {
    unsigned long* pc = &((ucontext_t*)context)->uc_mcontext.__gregs[0];
    int at_pc = (unsigned long)info->si_addr == *pc;
    if (signal != SIGSEGV || info->si_code > SEGV_ACCERR)
        fault = '?';
    else if (info->si_code == SEGV_MAPERR)
        fault = at_pc ? '?' : 'm';  // not mapped
    else
        fault = at_pc ? 'p' : 'd';  // an access fault, a page fault
    *pc += 4;
}

// What an access of this process to a word answers: '0', or its fault.
static char touch(int64_t how, char* address, uint64_t value) {
    register uint64_t a0 __asm__("a0") = 0, a1 __asm__("a1") = value;
    register char* a2 __asm__("a2") = address;
    fault = '0';
    switch (how) {
        case swap:
            __asm__ volatile(".word 0x48b6352f" : "+r"(a0) : "r"(a1), "r"(a2) : "memory");
            break;  // ssamoswap.d
        case store:
            __asm__ volatile(".word 0x00b63023" : : "r"(a1), "r"(a2) : "memory");
            break;  // sd
        case load:
            __asm__ volatile(".word 0x00063503" : "+r"(a0) : "r"(a2) : "memory");
            break;  // ld
    }
    return fault;
}

static char* at(int64_t n) { return window + n * page; }

static int peek(char* address, uint64_t words[2]) {
    struct iovec to = {words, 16}, from[2] = {{address, 8}, {address + last_word, 8}};
    return process_vm_readv(getpid(), &to, 1, from, 2, 0) == 16;
}

static void show(char* from, int count) {
    uint64_t words[2];
    for (int n = 0; n < count; n++) {
        char* address = from + n * page;
        if (!peek(address, words))
            printf(msync(address, page, MS_ASYNC) ? " ." : " -");  // nothing is there; no access
        else if (words[1])
            printf(" %lx/%lx", words[0], words[1]);
        else
            printf(" %lx", words[0]);
    }
}

static void answer(long result, int64_t count) {
    if (result < 0 && result > -4096) {
        printf("%ld", -result);
    } else if (result >= (long)window && result < (long)at(pages)) {
        printf("at %lx", result - (long)window);
    } else if (result > 4096) {
        printf("elsewhere");
        show((char*)result, count);
        munmap((char*)result, count * page);
    } else {
        printf("%ld", result);
    }
}

static void areas(void) {
    static char text[1 << 18];
    long start = 0, end = 0, from, to;
    int smaps = open("/proc/self/smaps", O_RDONLY);
    ssize_t size = 0, got;
    while ((got = read(smaps, text + size, sizeof text - 1 - size)) > 0) size += got;
    for (char* line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (sscanf(line, "%lx-%lx", &from, &to) == 2) {
            start = (from - (long)window) / page, end = (to - (long)window) / page;
        } else if (start < pages && end > 0 && !strncmp(line, "VmFlags:", 8)) {
            printf("%ld-%ld%s;", start < 0 ? 0 : start, end < pages ? end : pages, line + 8);
        }
    }
}

static void all_accesses(void) {
    for (int n = 0; n < pages; n++) {
        uint64_t held[2] = {0};
        peek(at(n), held);
        printf(" ");
        for (int how = swap; how <= load; how++) putchar(touch(how, at(n), held[0]));
    }
}

static void in_a_child(char* address, uint64_t value) {
    fflush(stdout);
    if (!fork()) {
        char answer = touch(swap, address, value);
        putchar(answer == 'p' ? 'd' : answer);
        show(window, pages);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

static long call(long number, long a, long b, long c, long d, long e, long f) {
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -errno : result;
}

static void operation(const int64_t* op) {
    char* place = at(op[1]);
    long address = (long)place, size = op[2] * page;
    switch (op[0]) {
        case shadow: answer(call(453, address, op[2], op[3], 0, 0, 0), 0); break;
        case map: answer(call(SYS_mmap, address, size, op[3], op[4], -1, 0), op[2]); break;
        case unmap: answer(call(SYS_munmap, address, size, 0, 0, 0, 0), 0); break;
        case protect: answer(call(SYS_mprotect, address, size, op[3], 0, 0, 0), 0); break;
        case remap:
            answer(call(SYS_mremap, address, size, op[3] * page, op[4], (long)at(op[5]), 0), op[3]);
            break;
        case advise: answer(call(SYS_madvise, address, size, op[3], 0, 0, 0), 0); break;
        case lock: answer(call(SYS_mlock2, address, size, op[3], 0, 0, 0), 0); break;
        case unlock: answer(call(SYS_munlock, address, size, 0, 0, 0, 0), 0); break;
        case seal: answer(call(462, address, size, 0, 0, 0, 0), 0); break;
        case swap:
        case store:
        case load: putchar(touch(op[0], place + (op[2] ? last_word : 0), op[3])); break;
        case fork_: in_a_child(place, op[2]); break;
        case heap:
            printf("%ld", (call(SYS_brk, (long)at(op[1]), 0, 0, 0, 0, 0) - (long)window) / page);
            break;
    }
    printf(" |");
    show(window, pages);
    printf("\n");
}

int main(int argc, char** argv) {
    static int64_t ops[1 << 20][6];
    static char out[1 << 16];  // as malloc does, stdio would put it on the heap
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    ssize_t count = read(file, ops, sizeof ops) / (ssize_t)sizeof *ops;
    if (count < 0 || syscall(SYS_prctl, 75, 1, 0, 0, 0)) return 2;
    setvbuf(stdout, out, _IOFBF, sizeof out);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    window = (char*)((syscall(SYS_brk, 0) + page - 1) / page * page);
    if (syscall(SYS_brk, window) != (long)window) return 2;
    printf("%lx\n", (long)window);
    for (ssize_t n = 0; n < count; n++) {
        fflush(stdout);
        if (!fork()) {
            for (; ops[n][0] != done; n++) operation(ops[n]);
            areas();
            all_accesses();
            printf("\n");
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
        while (ops[n][0] != done) n++;
    }
    return 0;
}
