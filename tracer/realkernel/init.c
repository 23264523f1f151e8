// The first process of a machine that is booted to record one program: it starts the program, waits
// until every task has ended, and turns the machine off. fixtures/build.py builds it.
//
// What to start is in a file: how many arguments and variables there are, the user, how many tasks
// its cgroup may have, then strings: the working directory, the program's path, its arguments, its
// environment.
#include "guest.h"

enum { STRINGS = 64 << 10, MOST = 4096 };
enum {
    SYS_mkdirat = 34,
    SYS_unlinkat = 35,
    SYS_umount2 = 39,
    SYS_mount = 40,
    SYS_chdir = 49,
    SYS_dup3 = 24,
    SYS_capset = 91,
    SYS_reboot = 142,
    SYS_setgid = 144,
    SYS_setuid = 146,
    SYS_setsid = 157,
};
enum { O_RDWR = 2, O_CREAT = 0100, O_APPEND = 02000, AT_REMOVEDIR = 0x200 };
enum { PR_SET_KEEPCAPS = 8, PR_CAP_AMBIENT = 47, PR_CAP_AMBIENT_RAISE = 2 };
enum { CAP_CHECKPOINT_RESTORE = 40 }; // lets clone3 choose the tid

static struct {
    u32 argc, envc, uid, pids_max; // 0: as many as it wants
    char strings[STRINGS];
} job;
static char *argv_of[MOST + 1], *envp_of[MOST + 1];

static char *next_string(char *s) {
    while (*s++)
        ;
    return s;
}

static void become(u32 uid) {
    u64 header[] = {0x20080522}; // version 3, this task
    u32 only[6] = {[3] = 1 << (CAP_CHECKPOINT_RESTORE - 32),
                   [4] = 1 << (CAP_CHECKPOINT_RESTORE - 32),
                   [5] = 1 << (CAP_CHECKPOINT_RESTORE - 32)};
    if (!uid)
        return;
    sys(SYS_prctl, PR_SET_KEEPCAPS, 1);
    sys(SYS_setgid, uid);
    sys(SYS_setuid, uid);
    sys(SYS_capset, header, only);
    sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHECKPOINT_RESTORE);
}

static void write_file(const char *path, const char *text, u64 size) {
    i64 file = sys(SYS_openat, AT_FDCWD, path, 1 /* O_WRONLY */);
    sys(SYS_write, file, text, size);
    sys(SYS_close, file);
}

// Into a cgroup of its own, which may have so many tasks.
static void limit_tasks(u32 most) {
    char digits[24];
    struct text number = {digits, digits + sizeof digits};
    if (!most)
        return;
    put_number(&number, most, 10);
    sys(SYS_mount, "cgroup", "/.shstk", "cgroup2");
    write_file("/.shstk/cgroup.subtree_control", "+pids", 5);
    sys(SYS_mkdirat, AT_FDCWD, "/.shstk/program", 0755);
    write_file("/.shstk/program/pids.max", digits, number.at - digits);
    write_file("/.shstk/program/cgroup.procs", "0", 1);
    sys(SYS_umount2, "/.shstk");
}

int main(int argc, char **argv, char **envp) {
    sys(SYS_mount, "proc", "/proc", "proc");
    i64 file = sys(SYS_openat, AT_FDCWD, "/.shstk/start");
    sys(SYS_read, file, &job, sizeof job);
    sys(SYS_close, file);
    char *cwd = job.strings, *program = next_string(cwd), *s = next_string(program);
    for (u32 i = 0; i < job.argc && i < MOST; i++, s = next_string(s))
        argv_of[i] = s;
    for (u32 i = 0; i < job.envc && i < MOST; i++, s = next_string(s))
        envp_of[i] = s;
    i64 fds[3] = {sys(SYS_openat, AT_FDCWD, "/.shstk/stdin"),
                  sys(SYS_openat, AT_FDCWD, "/.shstk/stdout", O_RDWR | O_CREAT | O_APPEND, 0666),
                  sys(SYS_openat, AT_FDCWD, "/.shstk/stderr", O_RDWR | O_CREAT | O_APPEND, 0666)};
    static const char *const gone[] = {"/.shstk/start", "/.shstk/stdin", "/.shstk/stdout",
                                       "/.shstk/stderr", "/.shstk/init"};
    for (u32 i = 0; i < sizeof gone / sizeof *gone; i++)
        sys(SYS_unlinkat, AT_FDCWD, gone[i]);
    if (fork_child() == 0) {
        limit_tasks(job.pids_max);
        sys(SYS_unlinkat, AT_FDCWD, "/.shstk", AT_REMOVEDIR);
        sys(SYS_setsid);
        for (int fd = 0; fd < 3; fd++)
            sys(SYS_dup3, fds[fd], fd);
        for (int fd = 0; fd < 3; fd++)
            sys(SYS_close, fds[fd]);
        become(job.uid);
        sys(SYS_chdir, cwd);
        sys(SYS_execve, program, argv_of, envp_of);
        return 127;
    }
    while (sys(SYS_wait4, -1, 0, 0x40000000 /* __WALL */) >= 0)
        ;
    sys(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc /* POWER_OFF */);
    return 0;
}
