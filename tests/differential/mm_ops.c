// Does the operations in a file on 32 pages, and prints what each answers and what the pages hold.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { page = 4096, pages = 32, file_pages = 8, around = 64 };
enum { done, map, map_file, unmap, protect, remap, advise, poke, write_file, truncate_file, heap, sync_, resident };
#define WINDOW ((char *)0x1000000000)

static int file, out, in;
static long first_brk;

static char *at(int64_t n) { return WINDOW + n * page; }

// What another process's write to a page would do, without a signal: -1 if the page can't be read.
static int peek(char *address) {
    unsigned char byte;
    if (write(in, address, 1) != 1) return -1;
    if (read(out, &byte, 1) != 1) abort();
    return byte;
}

static int store(char *address, int value) {
    unsigned char byte = value;
    if (write(in, &byte, 1) != 1) abort();
    if (read(out, address, 1) == 1) return 0;
    int error = errno;
    if (read(out, &byte, 1) != 1) abort();
    return error;
}

static void show(char *from, int count) {
    for (int n = 0; n < count; n++) {
        char *address = from + n * page;
        int byte = peek(address);
        if (byte >= 0)
            printf("%02x", byte);
        else
            printf(msync(address, page, MS_ASYNC) ? " ." : " -");  // nothing is there; no access
    }
}

static void reset(void) {
    munmap(at(-around), (pages + 2 * around) * page);
    syscall(SYS_brk, first_brk);
    if (ftruncate(file, 0) || ftruncate(file, file_pages * page)) abort();
    for (int n = 0; n < file_pages; n++) {
        char byte = 0xf0 + n;
        if (pwrite(file, &byte, 1, n * page) != 1) abort();
    }
}

static void answer(long result, int64_t count) {
    if (result == -1) {
        printf("%d", errno);
    } else if (result >= (long)at(-around) && result < (long)at(pages + around)) {
        printf("at %ld", (result - (long)at(0)) / page);
    } else if (result > 4096) {
        printf("elsewhere ");
        show((char *)result, count);
        munmap((char *)result, count * page);
    } else {
        printf("%ld", result);
    }
}

int main(int argc, char **argv) {
    int both[2];
    int64_t op[6];
    FILE *ops = fopen(argv[1], "rb");
    if (!ops || pipe(both)) return 2;
    out = both[0], in = both[1];
    file = memfd_create("file", 0);
    first_brk = syscall(SYS_brk, 0);
    reset();
    while (fread(op, sizeof op, 1, ops) == 1) {
        char *place = at(op[1]);
        size_t size = op[2] * page;
        char byte = op[2];
        switch (op[0]) {
        case done:
            for (int n = 0; n < pages; n++) {
                int held = peek(at(n));
                putchar(held < 0 ? '-' : store(at(n), held) ? 'r' : 'w');
            }
            reset();
            printf("\n");
            continue;
        case map:
            answer((long)mmap(place, size, op[3], op[4], -1, 0), op[2]);
            break;
        case map_file:
            answer((long)mmap(place, size, op[3], op[4], file, op[5] * page), op[2]);
            break;
        case unmap:
            answer(munmap(place, size), 0);
            break;
        case protect:
            answer(mprotect(place, size, op[3]), 0);
            break;
        case remap:
            answer(syscall(SYS_mremap, place, size, op[3] * page, op[4], at(op[5])), op[3]);
            break;
        case advise:
            answer(madvise(place, size, op[3]), 0);
            break;
        case poke:
            printf("%d", store(place, byte));
            break;
        case write_file:
            answer(pwrite(file, &byte, 1, op[1] * page), 0);
            break;
        case truncate_file:
            answer(ftruncate(file, op[1] * page), 0);
            break;
        case heap: {
            long now = syscall(SYS_brk, first_brk + op[1] * page);
            printf("%ld ", now - first_brk);
            if (now > first_brk) show((char *)((first_brk + page - 1) / page * page), (now - first_brk) / page);
            break;
        }
        case sync_:
            answer(msync(place, size, op[3]), 0);
            break;
        case resident: {
            unsigned char found[pages + around];
            answer(mincore(place, size, found), 0);
            break;
        }
        }
        printf(" | ");
        show(at(0), pages);
        printf("\n");
    }
    return 0;
}
