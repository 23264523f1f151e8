// A library to preload: the process's own calls that change files fail, are short, or are its last.
//
// faults_arm(at, kind, all): the call number `at` (from 1) meets the fault, and with `all` every
// later one too. kind: an errno; 0 kills the process; -1 writes half of what was asked for.
// faults_count(): the calls since then. Only files are meant: descriptors up to 2 are left alone.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kill_process = 0, write_half = -1 };

static atomic_long count, first, forever;
static atomic_int what;

void faults_arm(long at, int kind, int all) {
    what = kind;
    forever = all;
    first = at;
    count = 0;
}
long faults_count(void) { return count; }

// Whether this call meets the fault.
static int met(void) {
    long now = ++count;
    if (!first || now < first || (now > first && !forever)) return 0;
    if (what == kill_process) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    return 1;
}
static int fails(void) {
    if (!met() || what == write_half) return 0;
    errno = what;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(type, name, parameters, arguments) \
    type name parameters {                      \
        if (fails()) return (type) - 1;         \
        return REAL(name) arguments;            \
    }

CALL(int, fsync, (int fd), (fd))
CALL(int, fdatasync, (int fd), (fd))
CALL(int, rename, (const char* a, const char* b), (a, b))
CALL(int, renameat, (int f, const char* a, int t, const char* b), (f, a, t, b))
CALL(int, renameat2, (int f, const char* a, int t, const char* b, unsigned flags),
     (f, a, t, b, flags))
CALL(int, unlink, (const char* path), (path))
CALL(int, unlinkat, (int fd, const char* path, int flags), (fd, path, flags))
CALL(int, rmdir, (const char* path), (path))
CALL(int, mkdir, (const char* path, mode_t mode), (path, mode))
CALL(int, mkdirat, (int fd, const char* path, mode_t mode), (fd, path, mode))
CALL(int, symlinkat, (const char* to, int fd, const char* path), (to, fd, path))
CALL(int, symlink, (const char* to, const char* path), (to, path))
CALL(int, linkat, (int f, const char* a, int t, const char* b, int flags), (f, a, t, b, flags))
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size))
CALL(int, ftruncate, (int fd, off_t size), (fd, size))
CALL(int, fchmod, (int fd, mode_t mode), (fd, mode))

// Opening counts where it creates.
#define OPEN(name, parameters, arguments)            \
    int name parameters {                            \
        va_list more;                                \
        va_start(more, flags);                       \
        mode_t mode = va_arg(more, mode_t);          \
        va_end(more);                                \
        if ((flags & O_CREAT) && fails()) return -1; \
        return REAL(name) arguments;                 \
    }
OPEN(open, (const char* path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char* path, int flags, ...), (path, flags, mode))
OPEN(openat, (int fd, const char* path, int flags, ...), (fd, path, flags, mode))
OPEN(openat64, (int fd, const char* path, int flags, ...), (fd, path, flags, mode))

// The runtimes of libraries write to eventfds and pipes of their own.
static int is_file(int fd) {
    struct stat found;
    return fd > 2 && !fstat(fd, &found) && S_ISREG(found.st_mode);
}
static size_t shortened(size_t size) { return size > 1 ? size / 2 : size; }

#define WRITE(name, parameters, arguments)                       \
    ssize_t name parameters {                                    \
        if (is_file(fd)) {                                       \
            if (met()) {                                         \
                if (what != write_half) return errno = what, -1; \
                size = shortened(size);                          \
            }                                                    \
        }                                                        \
        return REAL(name) arguments;                             \
    }
WRITE(write, (int fd, const void* data, size_t size), (fd, data, size))
WRITE(pwrite, (int fd, const void* data, size_t size, off_t at), (fd, data, size, at))
WRITE(pwrite64, (int fd, const void* data, size_t size, off64_t at), (fd, data, size, at))

FILE* fopen(const char* path, const char* mode) {
    if (mode[0] != 'r' && fails()) return NULL;
    return REAL(fopen)(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
    if (mode[0] != 'r' && fails()) return NULL;
    return REAL(fopen64)(path, mode);
}
