// Makes the system calls that standard input lists, each in a child of its own.
//
// A call is eight u64: the number, six arguments, 0. An argument whose upper half is 0x5eed0000
// names an address that this program has: its lower half is an index of `places`.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
enum { calls_at_once = 64 };

static uint64_t places[16];

static void make_places(void) {
    char* data = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *ones = data + 4 * PAGE, *text = data + 8 * PAGE, *edge = data + 12 * PAGE;
    memset(ones, 0xff, 4 * PAGE);
    strcpy(text, "/work/file");
    strcpy(text + 64, "/");
    strcpy(text + 128, "../../../../../../etc/passwd");
    strcpy(text + 192, "/work/link");
    strcpy(text + 256, "/work/directory");
    mprotect(data + 13 * PAGE, PAGE, PROT_READ);
    munmap(data + 14 * PAGE, 2 * PAGE);
    uint64_t all[16] = {
        (uint64_t)data,
        (uint64_t)ones,
        (uint64_t)data + 13 * PAGE,
        (uint64_t)data + 15 * PAGE,
        (uint64_t)data + 14 * PAGE - 4,
        (uint64_t)edge + PAGE - 4,
        (uint64_t)data + 1,
        (uint64_t)&make_places,
        (uint64_t)text,
        (uint64_t)text + 64,
        (uint64_t)text + 128,
        (uint64_t)text + 192,
        (uint64_t)text + 256,
        (uint64_t)__builtin_frame_address(0),
        (uint64_t)ones + 4 * PAGE - 1,
        syscall(453, 0, 2 * PAGE, 0),  // map_shadow_stack
    };
    memcpy(places, all, sizeof all);
}

static uint64_t meant(uint64_t argument) {
    return argument >> 32 == 0x5eed0000 ? places[argument & 15] : argument;
}

// Descriptors 3 to 12 of every child: one of each kind.
static void open_all(void) {
    int ends[2];
    open("/work/file", O_RDWR);
    open("/work/directory", O_RDONLY | O_DIRECTORY);
    pipe2(ends, O_NONBLOCK);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    epoll_create1(0);
    eventfd(0, 0);
    timerfd_create(CLOCK_MONOTONIC, 0);
    memfd_create("memory", 0);
}

int main(void) {
    static uint64_t calls[calls_at_once][8];
    make_places();
    for (;;) {
        ssize_t size = read(0, calls, sizeof calls);
        if (size <= 0) return 0;
        for (int i = 0; i < size / 64; i++) {
            pid_t child = fork();
            if (!child) {
                struct itimerval second = {.it_value.tv_sec = 1};
                open_all();
                setitimer(ITIMER_REAL, &second, 0);
                uint64_t* c = calls[i];
                syscall(c[0], meant(c[1]), meant(c[2]), meant(c[3]), meant(c[4]), meant(c[5]),
                        meant(c[6]));
                _exit(0);
            }
            struct pollfd ended = {.fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
            poll(&ended, 1, 3000);
            kill(child, SIGKILL);
            close(ended.fd);
            while (waitpid(-1, 0, __WALL) > 0);
        }
    }
}
