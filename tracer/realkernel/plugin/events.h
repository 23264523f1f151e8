// The file that the plugin writes: a prologue, the table it was given, then records.
//
// Every record is a head and a body; all numbers are little-endian. tracer/realkernel/events.py
// reads them, and has the same layouts.
#pragma once

#include <stdint.h>

enum { EVENTS_VERSION = 1 };

struct prologue {
    char magic[8];  // "shstkqev"
    uint32_t version;
    uint32_t interface;  // QEMU's plugin interface
    uint32_t harts;
    uint32_t table;  // bytes of the table, which follows
};

enum record {
    REC_ECALL = 1,
    REC_CFI,
    REC_TRAP,
    REC_USER,
    REC_CALL,
    REC_RETURN,
    REC_ACCESS,
    REC_SWITCH,
    REC_END,
};

struct head {
    uint8_t record;
    uint8_t hart;
    uint16_t watch;   // CALL, RETURN: the line of the table
    uint32_t size;    // of the body, in bytes
    uint64_t icount;  // instructions that this hart has attempted in user mode
    uint64_t task;    // its task_struct
    uint64_t mm;      // task_struct.mm, as it was when the task last entered a watched function
};

struct ecall {
    uint64_t pc, sp, ssp, nr, a[6];
};

struct cfi {
    uint64_t pc, before, after, operand, address, value, old;
    uint32_t word;
    uint8_t accesses;  // to memory: 0, 1 (value) or 2 (old, then value)
    uint8_t fault;     // the exception that it raised, or 255
    uint16_t unused;
};

struct trap {  // what a task in user mode ran into; not ecall
    uint64_t cause, pc, tval, ssp, sp, t2;
};

struct user {  // a return to user mode; the peeks of the table's `user` lines follow
    uint64_t pc, a0, sp, ssp, senvcfg, cause;
};

struct call {  // the entry of a watched function; its peeks follow
    uint64_t a[8];
};

struct ret {  // its return; its peeks follow
    uint64_t a0;
};

struct access {  // of the kernel to user memory; the bytes follow
    uint64_t address;
    uint32_t store;
    uint32_t unused;
};

struct switched {  // from another task to the head's
    uint64_t from;
    uint64_t state;  // the other task's __state
};

struct end {
    uint64_t records;
    uint64_t slide;  // of the kernel: where it runs, less where the table says
};
