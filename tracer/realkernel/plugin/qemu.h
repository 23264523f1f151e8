// The part of QEMU's TCG plugin interface that plugin.c uses, as its documentation describes it.
//
// A plugin needs no header of QEMU's: it exports qemu_plugin_version and qemu_plugin_install, and
// QEMU resolves the functions below when it loads it. What differs between versions of the
// interface: since 6 a register is read with a bool as the result, since 7 every callback gets user
// data as its last argument, and no longer the plugin's id as its first.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if INTERFACE < 4 || INTERFACE > 7
#error "compile with -DINTERFACE=4, 5, 6 or 7"
#endif

// GLib's, which QEMU is linked with.
typedef struct {
    uint8_t* data;
    unsigned len;
} GByteArray;
typedef struct {
    char* data;
    unsigned len;
} GArray;
GByteArray* g_byte_array_new(void);
GByteArray* g_byte_array_set_size(GByteArray*, unsigned);
unsigned g_array_get_element_size(GArray*);

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
struct qemu_plugin_register;

typedef struct {
    const char* target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus, max_vcpus;
    } system;
} qemu_info_t;

typedef struct {
    struct qemu_plugin_scoreboard* score;
    size_t offset;
} qemu_plugin_u64;

// The first members; later versions have more (g_array_get_element_size says how far the next is).
typedef struct {
    struct qemu_plugin_register* handle;
    const char* name;
    const char* feature;
} qemu_plugin_reg_descriptor;

typedef uint32_t qemu_plugin_meminfo_t;
typedef struct {
    int type;  // the logarithm of the size
    union {
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        uint64_t u128[2];
    } data;
} qemu_plugin_mem_value;

enum { QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS };
enum { QEMU_PLUGIN_MEM_RW = 3 };
enum { QEMU_PLUGIN_COND_NE = 3 };
enum { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*exec_cb)(unsigned hart, void* data);
typedef void (*mem_cb)(unsigned hart, qemu_plugin_meminfo_t, uint64_t address, void* data);

#if INTERFACE >= 7
typedef void (*tb_cb)(struct qemu_plugin_tb*, void*);
typedef void (*hart_cb)(unsigned hart, void*);
typedef void (*exit_cb)(void*);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_cb, void*);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t, hart_cb, void*);
#else
typedef void (*tb_cb)(qemu_plugin_id_t, struct qemu_plugin_tb*);
typedef void (*hart_cb)(qemu_plugin_id_t, unsigned hart);
typedef void (*exit_cb)(qemu_plugin_id_t, void*);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_cb);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t, hart_cb);
#endif
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, exit_cb, void*);

#if INTERFACE >= 6
bool qemu_plugin_read_register(struct qemu_plugin_register*, GByteArray*);
#else
int qemu_plugin_read_register(struct qemu_plugin_register*, GByteArray*);  // bytes, or -1
#endif
GArray* qemu_plugin_get_registers(void);
bool qemu_plugin_read_memory_vaddr(uint64_t address, GByteArray*, size_t);

void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, exec_cb, int, void*);
void qemu_plugin_register_vcpu_insn_exec_cond_cb(struct qemu_plugin_insn*, exec_cb, int flags,
                                                 int cond, qemu_plugin_u64, uint64_t, void*);
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb*, exec_cb, int flags, int cond,
                                               qemu_plugin_u64, uint64_t, void*);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn*, int op,
                                                         qemu_plugin_u64, uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn*, mem_cb, int flags, int rw, void*);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb*);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn*, void*, size_t);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);
qemu_plugin_mem_value qemu_plugin_mem_get_value(qemu_plugin_meminfo_t);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
struct qemu_plugin_scoreboard* qemu_plugin_scoreboard_new(size_t);
void* qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard*, unsigned hart);
