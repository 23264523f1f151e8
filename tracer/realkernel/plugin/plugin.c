// A QEMU plugin that writes down what an unmodified riscv64 Linux does for its user tasks: their
// shadow-stack instructions, system calls and traps, which functions of the kernel ran for them
// with which arguments, and the user memory that the kernel touched.
//
// It knows no function and no struct of the kernel. tracer/realkernel writes a table (table.py)
// that says where to look and what to read there, and gives the records their meaning. What this
// file knows is the architecture: where Linux keeps the current task (tp in the kernel, sscratch on
// the way in and out), and how a function returns.
#include "events.h"
#include "qemu.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = INTERFACE;

typedef uint64_t u64;
typedef uint32_t u32;

enum {
    MAX_HARTS = 64,
    MAX_WATCHES = 128,
    MAX_PEEKS = 16,       // of one watch
    MAX_STEPS = 8,        // of one peek
    MAX_OPEN = 32,        // watched functions that one task is inside of
    MAX_BYTES = 1 << 16,  // of one peek, or of one run of accesses
    TASKS = 1 << 16,
};

// Offsets are followed from the base; all but the last are dereferenced.
struct peek {
    int base;  // 0..7: the argument; or one of these
    int steps;
    u64 offset[MAX_STEPS];
    int size_of;  // the argument that holds the size, or -1
    u64 size;
};
enum { BASE_TASK = 8, BASE_RESULT };

struct watch {
    u64 address;
    bool returns;   // record its return too
    bool any_task;  // also of tasks that never were in user mode
    int new_task;   // the argument that is a task about to run for the first time, or -1
    int within;     // only inside of this watch, or -1
    int entry_peeks, return_peeks;
    struct peek entry[MAX_PEEKS], result[MAX_PEEKS];
};

struct open {
    int watch;
    u64 ra, sp, a[8];
};

struct task {
    u64 pointer, mm;
    bool user;   // it has been in user mode, or will be
    bool fresh;  // it has not been there yet
    struct trap trap;
    int depth;
    struct open open[MAX_OPEN];
};

enum reg {
    A0,
    A7 = A0 + 7,
    RA,
    TP,
    SP,
    SSP,
    PRIV,
    SSCRATCH,
    SCAUSE,
    STVAL,
    SEPC,
    SSTATUS,
    SENVCFG,
    STVEC,
    REGS
};
static const char* const reg_names[REGS] = {
    "a0", "a1",  "a2",   "a3",       "a4",     "a5",    "a6",   "a7",      "ra",      "tp",
    "sp", "ssp", "priv", "sscratch", "scause", "stval", "sepc", "sstatus", "senvcfg", "stvec"};
static const char* const x_names[32] = {"zero", "ra", "sp",  "gp",  "tp", "t0", "t1", "t2",
                                        "fp",   "s1", "a0",  "a1",  "a2", "a3", "a4", "a5",
                                        "a6",   "a7", "s2",  "s3",  "s4", "s5", "s6", "s7",
                                        "s8",   "s9", "s10", "s11", "t3", "t4", "t5", "t6"};

struct hart {
    struct qemu_plugin_register *reg[REGS], *x[32];
    GByteArray* bytes;
    u64 senvcfg;  // as it was at the last return to user mode
    struct task* cfi_task;
    struct cfi cfi;
    struct task* access_task;
    struct access access;
    u32 accessed;
    uint8_t accesses[MAX_BYTES];
};

// What QEMU can test and count without calling us.
struct score {
    u64 open;      // the current task is inside of so many watched functions
    u64 cfi;       // a shadow-stack instruction has begun
    u64 executed;  // instructions attempted in user mode
};

static struct hart harts[MAX_HARTS];
static struct task* tasks[TASKS];
static struct watch watches[MAX_WATCHES];
static int watch_count;
static struct peek user_peeks[MAX_PEEKS];
static int user_peek_count;
static u64 trap_address, switch_address, mm_offset, state_offset;
static bool without_ssp;  // the harts have no shadow stacks
static u64* touching;     // the kernel's instructions that access user memory, sorted
static size_t touching_count;

static struct qemu_plugin_scoreboard* scores;
static qemu_plugin_u64 open_score, cfi_score, executed_score;
static FILE* events;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static u64 records, slide;
static bool stopped;

static struct score* score(unsigned hart) { return qemu_plugin_scoreboard_find(scores, hart); }

// Reading

static u64 value(struct hart* h, struct qemu_plugin_register* r) {
    u64 v = 0;
    if (!r) return 0;
    g_byte_array_set_size(h->bytes, 0);
#if INTERFACE >= 6
    if (!qemu_plugin_read_register(r, h->bytes)) return 0;
#else
    if (qemu_plugin_read_register(r, h->bytes) <= 0) return 0;
#endif
    memcpy(&v, h->bytes->data, h->bytes->len < 8 ? h->bytes->len : 8);
    return v;
}

static u64 reg(unsigned hart, enum reg r) { return value(&harts[hart], harts[hart].reg[r]); }

static u64 x(unsigned hart, int number) {
    return number ? value(&harts[hart], harts[hart].x[number]) : 0;
}

// The bytes are valid until the next read of this hart.
static const uint8_t* memory(unsigned hart, u64 address, size_t size) {
    GByteArray* bytes = harts[hart].bytes;
    g_byte_array_set_size(bytes, size);
    return qemu_plugin_read_memory_vaddr(address, bytes, size) ? bytes->data : NULL;
}

static u64 word(unsigned hart, u64 address) {
    u64 v = 0;
    const uint8_t* p = memory(hart, address, 8);
    if (p) memcpy(&v, p, 8);
    return v;
}

static struct task* task_at(u64 pointer) {
    if (!pointer) return NULL;
    size_t i = (pointer >> 6) * 0x9E3779B97F4A7C15u >> 48;
    while (tasks[i] && tasks[i]->pointer != pointer) i = (i + 1) % TASKS;
    if (!tasks[i]) {
        tasks[i] = calloc(1, sizeof *tasks[i]);
        tasks[i]->pointer = pointer;
    }
    return tasks[i];
}

static struct task* current(unsigned hart) { return task_at(reg(hart, TP)); }

// Writing

static void emit(unsigned hart, enum record record, int watch, struct task* task, const void* body,
                 size_t size) {
    struct head head = {record, hart, watch, size, score(hart)->executed, 0, 0};
    if (task) head.task = task->pointer, head.mm = task->mm;
    fwrite(&head, sizeof head, 1, events);
    fwrite(body, size, 1, events);
    records++;
}

// A body that grows by peeks.
struct body {
    size_t size;
    uint8_t bytes[sizeof(struct call) + MAX_PEEKS * 8 + MAX_BYTES];
};
static struct body body;  // under the lock

static void begin(const void* fixed, size_t size) {
    memcpy(body.bytes, fixed, size);
    body.size = size;
}

// Appends a u32 length and the bytes; the length is 0 if they could not be read.
static void append(unsigned hart, const struct peek* p, const u64* a, struct task* task,
                   u64 result) {
    u64 at = p->base == BASE_TASK ? task->pointer : p->base == BASE_RESULT ? result : a[p->base];
    u64 size = p->size_of < 0 ? p->size : a[p->size_of];
    for (int i = 0; i < p->steps - 1 && at; i++) at = word(hart, at + p->offset[i]);
    u64 room = sizeof body.bytes - body.size - 4;
    if (size > room) size = room;
    const uint8_t* bytes = NULL;
    if (at && at < -4096ull && size) bytes = memory(hart, at + p->offset[p->steps - 1], size);
    u32 length = bytes ? size : 0;
    memcpy(body.bytes + body.size, &length, 4);
    if (bytes) memcpy(body.bytes + body.size + 4, bytes, size);
    body.size += 4 + length;
}

static void emit_body(unsigned hart, enum record record, int watch, struct task* task) {
    emit(hart, record, watch, task, body.bytes, body.size);
}

// What this hart has begun to write down

static void end_accesses(unsigned hart) {
    struct hart* h = &harts[hart];
    if (!h->accessed) return;
    begin(&h->access, sizeof h->access);
    memcpy(body.bytes + body.size, h->accesses, h->accessed);
    body.size += h->accessed;
    h->accessed = 0;
    emit_body(hart, REC_ACCESS, 0, h->access_task);
}

static void end_cfi(unsigned hart, u64 ssp, int fault) {
    struct hart* h = &harts[hart];
    if (!score(hart)->cfi) return;
    score(hart)->cfi = 0;
    h->cfi.after = ssp;
    h->cfi.fault = fault;
    emit(hart, REC_CFI, 0, h->cfi_task, &h->cfi, sizeof h->cfi);
}

static void end_all(unsigned hart) {
    end_cfi(hart, reg(hart, SSP), 255);
    end_accesses(hart);
}

// Instructions in user mode. QEMU 10's pc is that of the block, so the address comes along.

struct site {
    u64 pc;
    u32 word;
};

static bool is_link(int reg) { return reg == 1 || reg == 5; }

enum { SENVCFG_LPE = 1 << 2, SENVCFG_SSE = 1 << 3 };
enum kind { NO_CFI, SSPUSH, SSPOPCHK, SSRDP, SSAMOSWAP, SSP_CSR, LPAD };

static enum kind kind_of(u32 w, size_t size) {
    int rs1 = w >> 15 & 31, rs2 = w >> 20 & 31, rd = w >> 7 & 31;
    if (size == 2) return w == 0x6081 ? SSPUSH : w == 0x6281 ? SSPOPCHK : NO_CFI;
    if ((w & 0xfe0fffff) == 0xce004073 && is_link(rs2)) return SSPUSH;
    if ((w & 0xfff07fff) == 0xcdc04073 && is_link(rs1)) return SSPOPCHK;
    if ((w & 0xfffff07f) == 0xcdc04073 && rd) return SSRDP;
    if ((w & 0xf800607f) == 0x4800202f) return SSAMOSWAP;
    if ((w & 0x7f) == 0x73 && (w >> 12 & 3) && w >> 20 == 0x011) return SSP_CSR;
    if ((w & 0xfff) == 0x17) return LPAD;
    return NO_CFI;
}

static u64 operand(unsigned hart, u32 w) {
    switch (kind_of(w, (w & 3) == 3 ? 4 : 2)) {
        case SSPUSH: return x(hart, w == 0x6081 ? 1 : w >> 20 & 31);
        case SSPOPCHK: return x(hart, w == 0x6281 ? 5 : w >> 15 & 31);
        case SSAMOSWAP: return x(hart, w >> 20 & 31);
        case LPAD: return x(hart, 7);
        default: return 0;
    }
}

static void on_cfi(unsigned hart, void* data) {
    struct hart* h = &harts[hart];
    const struct site* site = data;
    int needed =
        kind_of(site->word, (site->word & 3) == 3 ? 4 : 2) == LPAD ? SENVCFG_LPE : SENVCFG_SSE;
    if (!(h->senvcfg & needed) || reg(hart, PRIV)) return;
    pthread_mutex_lock(&lock);
    end_all(hart);
    h->cfi_task = task_at(reg(hart, SSCRATCH));
    h->cfi = (struct cfi){.pc = site->pc,
                          .word = site->word,
                          .before = reg(hart, SSP),
                          .operand = operand(hart, site->word)};
    score(hart)->cfi = 1;
    pthread_mutex_unlock(&lock);
}

static void on_cfi_access(unsigned hart, qemu_plugin_meminfo_t info, u64 address, void* data) {
    struct cfi* cfi = &harts[hart].cfi;
    if (!score(hart)->cfi) return;
    qemu_plugin_mem_value v = qemu_plugin_mem_get_value(info);
    cfi->old = cfi->value;
    cfi->value = v.type == 3 ? v.data.u64 : v.data.u32;
    cfi->address = address;
    cfi->accesses++;
}

static void on_next(unsigned hart, void* data) {
    pthread_mutex_lock(&lock);
    end_cfi(hart, reg(hart, SSP), 255);
    pthread_mutex_unlock(&lock);
}

static void on_ecall(unsigned hart, void* data) {
    if (reg(hart, PRIV)) return;
    pthread_mutex_lock(&lock);
    end_all(hart);
    struct task* task = task_at(reg(hart, SSCRATCH));
    struct ecall e = {((struct site*)data)->pc, reg(hart, SP), reg(hart, SSP), reg(hart, A7), {0}};
    for (int i = 0; i < 6; i++) e.a[i] = reg(hart, A0 + i);
    emit(hart, REC_ECALL, 0, task, &e, sizeof e);
    pthread_mutex_unlock(&lock);
}

// The border between user mode and the kernel

enum { SSTATUS_SPP = 1 << 8, CAUSE_ECALL = 8 };

static void on_trap(unsigned hart, void* data) {
    if (reg(hart, SSTATUS) & SSTATUS_SPP) return;
    pthread_mutex_lock(&lock);
    struct task* task = task_at(reg(hart, SSCRATCH));
    struct trap trap = {reg(hart, SCAUSE), reg(hart, SEPC), reg(hart, STVAL),
                        reg(hart, SSP),    reg(hart, SP),   x(hart, 7)};
    bool own = !(trap.cause >> 63) && trap.pc == harts[hart].cfi.pc;
    end_cfi(hart, trap.ssp, own ? trap.cause : 255);
    end_accesses(hart);
    if (task) {
        task->trap = trap;
        if (trap.cause != CAUSE_ECALL && task->user)
            emit(hart, REC_TRAP, 0, task, &trap, sizeof trap);
    }
    pthread_mutex_unlock(&lock);
}

// Whether the table says where this kernel runs.
static void check_slide(unsigned hart) {
    static bool checked;
    if (checked || !harts[hart].reg[STVEC]) return;
    checked = true;
    slide = (reg(hart, STVEC) & ~3ull) - trap_address;
    if (!slide) return;
    stopped = true;
    fprintf(stderr, "shstk: the kernel runs 0x%llx above its link address: boot it with nokaslr\n",
            (unsigned long long)slide);
}

static void on_sret(unsigned hart, void* data) {
    if (reg(hart, SSTATUS) & SSTATUS_SPP || reg(hart, PRIV) != 1) return;
    pthread_mutex_lock(&lock);
    check_slide(hart);
    struct task* task = task_at(reg(hart, SSCRATCH));
    end_accesses(hart);
    harts[hart].senvcfg = reg(hart, SENVCFG);
    if (task && !stopped) {
        struct user user = {reg(hart, SEPC), reg(hart, A0),       reg(hart, SP),
                            reg(hart, SSP),  harts[hart].senvcfg, task->trap.cause};
        bool first = !task->user || task->fresh;
        if (first || task->trap.cause == CAUSE_ECALL || user.pc != task->trap.pc ||
            user.ssp != task->trap.ssp || user.sp != task->trap.sp) {
            task->user = true;
            task->fresh = false;
            task->mm = word(hart, task->pointer + mm_offset);
            begin(&user, sizeof user);
            for (int i = 0; i < user_peek_count; i++) append(hart, &user_peeks[i], NULL, task, 0);
            emit_body(hart, REC_USER, first, task);
        }
    }
    pthread_mutex_unlock(&lock);
}

// Functions of the kernel

static bool inside(const struct task* task, int watch) {
    for (int i = 0; i < task->depth; i++)
        if (task->open[i].watch == watch) return true;
    return false;
}

static void on_call(unsigned hart, void* data) {
    const struct watch* w = data;
    struct task* task = current(hart);
    if (!task || !(task->user || w->any_task) || stopped) return;
    if (w->within >= 0 && !inside(task, w->within)) return;
    pthread_mutex_lock(&lock);
    end_accesses(hart);
    task->mm = word(hart, task->pointer + mm_offset);
    struct call call;
    for (int i = 0; i < 8; i++) call.a[i] = reg(hart, A0 + i);
    begin(&call, sizeof call);
    for (int i = 0; i < w->entry_peeks; i++) append(hart, &w->entry[i], call.a, task, 0);
    emit_body(hart, REC_CALL, w - watches, task);
    if (w->returns && task->depth < MAX_OPEN) {
        struct open* open = &task->open[task->depth++];
        *open = (struct open){w - watches, reg(hart, RA), reg(hart, SP), {0}};
        memcpy(open->a, call.a, sizeof open->a);
        score(hart)->open = task->depth;
    }
    if (w->new_task >= 0) {
        struct task* born = task_at(call.a[w->new_task]);
        if (born) {
            born->user = born->fresh = true;
            born->depth = 0;
            born->trap = (struct trap){0};
        }
    }
    pthread_mutex_unlock(&lock);
}

// A `ret` in the kernel while the task is inside of a watched function. It ends that function if
// both sp and ra are as they were at its entry, whoever executes it (a tail call has the callee
// return). Functions that were left in another way are closed with it.
static void on_ret(unsigned hart, void* data) {
    struct task* task = current(hart);
    u64 sp = reg(hart, SP), ra = reg(hart, RA);
    int level = task ? task->depth - 1 : -1;
    while (level >= 0 && (task->open[level].sp != sp || task->open[level].ra != ra)) level--;
    if (level < 0) return;
    pthread_mutex_lock(&lock);
    end_accesses(hart);
    task->mm = word(hart, task->pointer + mm_offset);
    struct ret ret = {reg(hart, A0)};
    while (task->depth > level) {
        const struct open* open = &task->open[--task->depth];
        const struct watch* w = &watches[open->watch];
        if (open->sp != sp) continue;
        begin(&ret, sizeof ret);
        for (int i = 0; i < w->return_peeks; i++)
            append(hart, &w->result[i], open->a, task, ret.a0);
        emit_body(hart, REC_RETURN, open->watch, task);
    }
    score(hart)->open = task->depth;
    pthread_mutex_unlock(&lock);
}

static void on_switch(unsigned hart, void* data) {
    struct task *from = task_at(reg(hart, A0)), *to = task_at(reg(hart, A0 + 1));
    if (!from || !to) return;
    score(hart)->open = to->depth;
    if (!(from->user || to->user) || stopped) return;
    pthread_mutex_lock(&lock);
    end_accesses(hart);
    struct switched s = {from->pointer, word(hart, from->pointer + state_offset) & 0xffffffff};
    emit(hart, REC_SWITCH, 0, to, &s, sizeof s);
    pthread_mutex_unlock(&lock);
}

// The exception table also lists accesses that may go to the kernel's own memory.
static bool is_user(u64 address) { return !(address >> 56); }

static void on_access(unsigned hart, qemu_plugin_meminfo_t info, u64 address, void* data) {
    struct hart* h = &harts[hart];
    if (!is_user(address) || stopped) return;
    struct task* task = current(hart);
    if (!task || !task->user) return;
    pthread_mutex_lock(&lock);
    u32 store = qemu_plugin_mem_is_store(info);
    qemu_plugin_mem_value v = qemu_plugin_mem_get_value(info);
    u32 size = 1u << v.type;
    if (h->accessed &&
        (h->access_task != task || h->access.store != store ||
         h->access.address + h->accessed != address || h->accessed + size > MAX_BYTES))
        end_accesses(hart);
    if (!h->accessed) {
        h->access_task = task;
        h->access = (struct access){.address = address, .store = store};
    }
    memcpy(h->accesses + h->accessed, &v.data, size);
    h->accessed += size;
    pthread_mutex_unlock(&lock);
}

// Translation

static int by_address(const void* a, const void* b) {
    u64 x = *(const u64*)a, y = *(const u64*)b;
    return x < y ? -1 : x > y;
}

static void instrument_kernel(struct qemu_plugin_insn* insn) {
    u64 at = qemu_plugin_insn_vaddr(insn);
    u32 w = 0;
    qemu_plugin_insn_data(insn, &w, qemu_plugin_insn_size(insn));
    if (at == trap_address)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_trap, QEMU_PLUGIN_CB_R_REGS, NULL);
    if (at == switch_address)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_switch, QEMU_PLUGIN_CB_R_REGS, NULL);
    for (int i = 0; i < watch_count; i++)
        if (watches[i].address == at)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_call, QEMU_PLUGIN_CB_R_REGS,
                                                   &watches[i]);
    if (w == 0x10200073)  // sret
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_sret, QEMU_PLUGIN_CB_R_REGS, NULL);
    if (w == 0x8082 || w == 0x00008067)  // ret
        qemu_plugin_register_vcpu_insn_exec_cond_cb(insn, on_ret, QEMU_PLUGIN_CB_R_REGS,
                                                    QEMU_PLUGIN_COND_NE, open_score, 0, NULL);
    if (bsearch(&at, touching, touching_count, sizeof at, by_address))
        qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_MEM_RW,
                                         NULL);
}

static struct site* new_site(u64 pc, u32 word) {
    struct site* site = malloc(sizeof *site);
    *site = (struct site){pc, word};
    return site;
}

static void instrument_user(struct qemu_plugin_insn* insn, bool after_cfi) {
    u64 at = qemu_plugin_insn_vaddr(insn);
    size_t size = qemu_plugin_insn_size(insn);
    u32 w = 0;
    qemu_plugin_insn_data(insn, &w, size);
    if (after_cfi)
        qemu_plugin_register_vcpu_insn_exec_cond_cb(insn, on_next, QEMU_PLUGIN_CB_R_REGS,
                                                    QEMU_PLUGIN_COND_NE, cfi_score, 0, NULL);
    // The firmware's instructions lie here on QEMU's virt machine, and are not user mode's.
    if (at < 0x80000000 || at >= 0x80200000)
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64,
                                                            executed_score, 1);
    if (kind_of(w, size) != NO_CFI) {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_cfi, QEMU_PLUGIN_CB_R_REGS,
                                               new_site(at, w));
        qemu_plugin_register_vcpu_mem_cb(insn, on_cfi_access, QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
    }
    if (w == 0x73)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_ecall, QEMU_PLUGIN_CB_R_REGS,
                                               new_site(at, w));
}

static void instrument(struct qemu_plugin_tb* tb) {
    size_t count = qemu_plugin_tb_n_insns(tb);
    bool kernel = qemu_plugin_tb_vaddr(tb) >> 63, after_cfi = false;
    if (!kernel)
        qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_next, QEMU_PLUGIN_CB_R_REGS,
                                                  QEMU_PLUGIN_COND_NE, cfi_score, 0, NULL);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
        if (kernel) {
            instrument_kernel(insn);
            continue;
        }
        u32 w = 0;
        size_t size = qemu_plugin_insn_size(insn);
        qemu_plugin_insn_data(insn, &w, size);
        instrument_user(insn, after_cfi);
        after_cfi = kind_of(w, size) != NO_CFI;
    }
}

static void new_hart(unsigned hart) {
    struct hart* h = &harts[hart];
    GArray* all = qemu_plugin_get_registers();
    unsigned size = g_array_get_element_size(all);
    h->bytes = g_byte_array_new();
    for (unsigned i = 0; i < all->len; i++) {
        const qemu_plugin_reg_descriptor* d = (const void*)(all->data + i * size);
        for (int r = 0; r < REGS; r++)
            if (!strcmp(d->name, reg_names[r])) h->reg[r] = d->handle;
        for (int r = 0; r < 32; r++)
            if (!strcmp(d->name, x_names[r])) h->x[r] = d->handle;
    }
    for (int r = 0; r < REGS; r++)
        if (!h->reg[r] && r != STVEC && !(r == SSP && without_ssp)) {
            fprintf(stderr, "shstk: this QEMU's hart has no register %s: give it -cpu max\n",
                    reg_names[r]);
            exit(1);
        }
}

static void finish(void) {
    for (unsigned i = 0; i < MAX_HARTS; i++)
        if (harts[i].bytes) end_accesses(i);
    struct end end = {records, slide};
    emit(0, REC_END, 0, NULL, &end, sizeof end);
    if (fclose(events)) perror("shstk: the events are not complete");
}

#if INTERFACE >= 7
static void on_tb(struct qemu_plugin_tb* tb, void* data) { instrument(tb); }
static void on_hart(unsigned hart, void* data) { new_hart(hart); }
static void on_exit_of_qemu(void* data) { finish(); }
#else
static void on_tb(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) { instrument(tb); }
static void on_hart(qemu_plugin_id_t id, unsigned hart) { new_hart(hart); }
static void on_exit_of_qemu(qemu_plugin_id_t id, void* data) { finish(); }
#endif

// The table. table.py describes its lines.

static int base_of(const char* word) {
    if (word[0] == 'a' && word[1] >= '0' && word[1] <= '7') return word[1] - '0';
    if (!strcmp(word, "task")) return BASE_TASK;
    if (!strcmp(word, "result")) return BASE_RESULT;
    return -1;
}

static bool parse_peek(char* words, struct peek* p) {  // BASE OFFSET... SIZE
    char* list[MAX_STEPS + 2];
    int count = 0;
    for (char* w = strtok(words, " \n"); w && count < MAX_STEPS + 2; w = strtok(NULL, " \n"))
        list[count++] = w;
    if (count < 3 || (p->base = base_of(list[0])) < 0) return false;
    p->steps = count - 2;
    for (int i = 0; i < p->steps; i++) p->offset[i] = strtoull(list[i + 1], NULL, 10);
    p->size_of = base_of(list[count - 1]);
    p->size = p->size_of < 0 ? strtoull(list[count - 1], NULL, 10) : 0;
    return true;
}

static bool parse_line(char* line) {
    char kind[16], when[16];
    int n = 0, read = 0;
    unsigned long long at;
    if (sscanf(line, "%15s", kind) != 1 || !strcmp(kind, "note")) return true;
    if (sscanf(line, "trap %llx", &at) == 1) return trap_address = at, true;
    if (sscanf(line, "switch %llx", &at) == 1) return switch_address = at, true;
    if (sscanf(line, "mm %llu", &at) == 1) return mm_offset = at, true;
    if (sscanf(line, "state %llu", &at) == 1) return state_offset = at, true;
    if (!strcmp(line, "without ssp")) return without_ssp = true;
    if (sscanf(line, "access %llx", &at) == 1) {
        if (!(touching_count & (touching_count - 1)))
            touching = realloc(touching, 2 * (touching_count + 1) * sizeof *touching);
        return touching[touching_count++] = at, true;
    }
    struct watch* w = &watches[watch_count];
    char name[64];
    if (sscanf(line, "watch %d %63s %llx%n", &n, name, &at, &read) == 3) {
        if (n != watch_count || n == MAX_WATCHES) return false;
        *w = (struct watch){.address = at, .new_task = -1, .within = -1};
        for (char* word = strtok(line + read, " \n"); word; word = strtok(NULL, " \n")) {
            if (!strcmp(word, "return"))
                w->returns = true;
            else if (!strcmp(word, "any"))
                w->any_task = true;
            else if (!strncmp(word, "new=", 4))
                w->new_task = base_of(word + 4);
            else if (!strncmp(word, "within=", 7))
                w->within = atoi(word + 7);
            else
                return false;
        }
        return watch_count++, true;
    }
    if (sscanf(line, "peek %d %15s %63s%n", &n, when, name, &read) == 3) {
        if (n < 0 || n >= watch_count) return false;
        w = &watches[n];
        bool entry = !strcmp(when, "entry");
        int* count = entry ? &w->entry_peeks : &w->return_peeks;
        return *count < MAX_PEEKS &&
               parse_peek(line + read, (entry ? w->entry : w->result) + (*count)++);
    }
    if (sscanf(line, "user %63s%n", name, &read) == 1)
        return user_peek_count < MAX_PEEKS &&
               parse_peek(line + read, &user_peeks[user_peek_count++]);
    return false;
}

static bool parse_table(char* text) {
    char* line = strchr(text, '\n');
    if (strncmp(text, "shstk-qemu-table 1\n", 19) || !line) return false;
    while (*++line) {
        char *end = strchr(line, '\n'), copy[512];
        if (!end || (size_t)(end - line) >= sizeof copy) return false;
        memcpy(copy, line, end - line);
        copy[end - line] = 0;
        if (!parse_line(copy)) {
            fprintf(stderr, "shstk: the table's line is not understood: %s\n", copy);
            return false;
        }
        line = end;
    }
    qsort(touching, touching_count, sizeof *touching, by_address);
    return trap_address && switch_address;
}

static char* read_file(const char* path, long* size) {
    FILE* f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *size = ftell(f);
    rewind(f);
    char* text = malloc(*size + 1);
    bool whole = fread(text, 1, *size, f) == (size_t)*size;
    text[*size] = 0;
    fclose(f);
    return whole ? text : NULL;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int argc,
                               char** argv) {
    const char *table = NULL, *out = NULL;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "table=", 6)) table = argv[i] + 6;
        if (!strncmp(argv[i], "events=", 7)) out = argv[i] + 7;
#ifdef __linux__
        if (!strcmp(argv[i], "alone=off")) prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
    }
    if (!table || !out || strcmp(info->target_name, "riscv64") || !info->system_emulation) {
        fprintf(stderr, "shstk: load this into qemu-system-riscv64, with table=FILE,events=FILE\n");
        return 1;
    }
    if (info->system.smp_vcpus > MAX_HARTS) {
        fprintf(stderr, "shstk: at most %d harts\n", MAX_HARTS);
        return 1;
    }
    long size = 0;
    char* text = read_file(table, &size);
    if (!text || !parse_table(text)) {
        fprintf(stderr, "shstk: %s is not a table for this plugin\n", table);
        return 1;
    }
    events = fopen(out, "wb");
    if (!events) {
        perror(out);
        return 1;
    }
    setvbuf(events, NULL, _IOFBF, 1 << 20);
    struct prologue prologue = {"shstkqev", EVENTS_VERSION, INTERFACE, info->system.smp_vcpus,
                                size};
    fwrite(&prologue, sizeof prologue, 1, events);
    fwrite(text, size, 1, events);
    free(text);

    scores = qemu_plugin_scoreboard_new(sizeof(struct score));
    open_score = (qemu_plugin_u64){scores, offsetof(struct score, open)};
    cfi_score = (qemu_plugin_u64){scores, offsetof(struct score, cfi)};
    executed_score = (qemu_plugin_u64){scores, offsetof(struct score, executed)};
#if INTERFACE >= 7
    qemu_plugin_register_vcpu_init_cb(id, on_hart, NULL);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_tb, NULL);
#else
    qemu_plugin_register_vcpu_init_cb(id, on_hart);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_tb);
#endif
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
    return 0;
}
