// The Python bindings of the core; _core.pyi documents the interface.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cctype>

#include "address_space.hpp"
#include "fp/fp.hpp"
#include "hart.hpp"
#include "listing.hpp"
#include "machine.hpp"
#include "native/engine.hpp"
#include "pages.hpp"
#include "row_buffer.hpp"
#include "run.hpp"
#include "snapshot.hpp"

namespace nb = nanobind;
using namespace core;

namespace {

// A drained column: memory that a memoryview keeps alive.
struct ColumnBuffer {
    std::shared_ptr<void> owner;
    void* data;
    Py_ssize_t count;
    Py_ssize_t item_size;
    char format[2];
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
    auto* buffer = nb::inst_ptr<ColumnBuffer>(nb::handle(self));
    if (PyBuffer_FillInfo(view, self, buffer->data, buffer->count * buffer->item_size, 0, flags) <
        0)
        return -1;
    view->itemsize = buffer->item_size;
    if (flags & PyBUF_FORMAT) view->format = buffer->format;
    if (flags & PyBUF_ND) view->shape = &buffer->count;
    if (flags & PyBUF_STRIDES) view->strides = &buffer->item_size;
    return 0;
}

PyType_Slot column_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

template <class T>
constexpr char format_of() {
    if (std::is_same_v<T, u8>) return 'B';
    if (std::is_same_v<T, i32>) return 'i';
    return sizeof(T) == 4 ? 'I' : 'Q';
}

template <class T>
nb::object memoryview(std::shared_ptr<void> owner, T* data, u64 count) {
    static T none{};
    nb::object column = nb::cast(ColumnBuffer{std::move(owner),
                                              data ? data : &none,
                                              static_cast<Py_ssize_t>(count),
                                              sizeof(T),
                                              {format_of<T>(), 0}});
    return nb::steal(PyMemoryView_FromObject(column.ptr()));
}

template <class T>
nb::object memoryview(std::vector<T>& column) {
    auto owner = std::make_shared<std::vector<T>>(std::move(column));
    return memoryview(owner, owner->data(), owner->size());
}

// Calls f(table) for the table with that name.
template <class F>
void with_table(Tables& tables, const std::string& wanted, F&& f) {
    bool found = false;
    tables.each([&](const char* name, auto& table, Trace) {
        if (wanted != name) return;
        f(table);
        found = true;
    });
    if (!found) throw nb::value_error(("no such table: " + wanted).c_str());
}

template <class... Columns>
nb::dict drain(FixedTable<Columns...>& table) {
    nb::dict columns;
    table.drain([&](const char* name, auto* values, u64 rows, const auto& memory) {
        columns[name] = memoryview(memory, values, rows);
    });
    return columns;
}

nb::dict drain(CodeTable& code) {
    nb::dict columns;
    CodeTable drained = std::exchange(code, {});
    drained.each([&](const char* name, auto& column) { columns[name] = memoryview(column); });
    return columns;
}

template <class... Columns>
u64 rows(const FixedTable<Columns...>& table) {
    return table.rows;
}

u64 rows(const CodeTable& code) { return code.rows(); }

nb::dict drain_named(Machine& m, const std::string& name) {
    nb::dict columns;
    with_table(m.tables, name, [&](auto& table) { columns = drain(table); });
    return columns;
}

u64 pending(Machine& m, const std::string& name) {
    u64 count = 0;
    with_table(m.tables, name, [&](auto& table) { count = rows(table); });
    return count;
}

// For each table the Trace bit that selects it, and the names and formats of its columns.
nb::dict described() {
    nb::dict tables;
    Tables().each([&](const char* name, auto& table, Trace bit) {
        nb::dict columns;
        table.each_column([&]<class T>(const char* column, T) {
            columns[column] = std::string(1, format_of<T>());
        });
        tables[name] = nb::make_tuple(unsigned{bit}, columns);
    });
    return tables;
}

nb::tuple cfi_kinds() {
#define WORD(word) #word,
    const char* words[] = {CFI_KINDS(WORD)};
#undef WORD
    nb::list list;
    for (const char* word : words) list.append(word);
    return nb::tuple(list);
}

int register_number(int i) {
    if (i < 0 || i > 31) throw nb::index_error("registers are numbered 0..31");
    return i;
}

std::span<const u8> span_of(nb::bytes data) {
    return {static_cast<const u8*>(data.data()), data.size()};
}

nb::object read_bytes(AddressSpace& space, u64 addr, u64 length, bool force) {
    nb::object bytes =
        nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(length)));
    if (!bytes.is_valid()) throw nb::python_error();
    auto* data = reinterpret_cast<u8*>(PyBytes_AS_STRING(bytes.ptr()));
    return space.read(addr, {data, length}, force) ? bytes : nb::none();
}

bool write_bytes(AddressSpace& space, u64 addr, nb::bytes data, bool force) {
    return space.write(addr, span_of(data), force);
}

nb::object read_cstr(AddressSpace& space, u64 addr, u64 limit) {
    const auto text = space.read_cstr(addr, limit);
    return text ? nb::object(nb::bytes(text->data(), text->size())) : nb::none();
}

nb::object ss_swap(AddressSpace& space, u64 addr, u64 value) {
    const auto old = space.ss_swap(addr, value);
    return old ? nb::object(nb::int_(*old)) : nb::none();
}

void set_traps(AddressSpace& space, std::vector<u64> breaks,
               const std::vector<std::tuple<u64, u64, u8>>& watches) {
    Traps traps{std::move(breaks), {}};
    for (const auto& [first, last, uses] : watches) traps.watches.push_back({first, last, uses});
    space.set_traps(std::move(traps));
}

nb::list regs(const Hart& h) {
    nb::list list;
    for (int i = 0; i < 32; ++i) list.append(h.x[i]);
    return list;
}

nb::tuple args(const Hart& h) {
    return nb::make_tuple(h.x[10], h.x[11], h.x[12], h.x[13], h.x[14], h.x[15], h.x[17]);
}

nb::tuple enter(Hart& h) {
    h.reservation = {};
    if (h.v.used) h.v.discard();
    const u64 pc = h.pc;
    h.pc += 4;
    return nb::make_tuple(h.machine->step(), h.x[17],
                          nb::make_tuple(h.x[10], h.x[11], h.x[12], h.x[13], h.x[14], h.x[15]), pc,
                          h.x[2], h.ssp);
}

nb::bytes state(const Hart& h) {
    u8 bytes[Hart::state_size];
    h.save(bytes);
    return nb::bytes(bytes, sizeof bytes);
}

void restore(Hart& h, nb::bytes state) {
    if (!h.restore(span_of(state))) throw nb::value_error("not the state of a hart");
}

void attach(Pages& pages, nb::bytes data) {
    Py_INCREF(data.ptr());
    std::shared_ptr<const void> owner(data.ptr(), [](PyObject* kept) { Py_DECREF(kept); });
    pages.attach(span_of(data), std::move(owner));
}

nb::bytes read_pages(const Pages& pages, u64 offset, u64 length) {
    const u64 rest = offset < pages.size() ? pages.size() - offset : 0;
    nb::object bytes = nb::steal(
        PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(std::min(length, rest))));
    if (!bytes.is_valid()) throw nb::python_error();
    auto* data = reinterpret_cast<u8*>(PyBytes_AS_STRING(bytes.ptr()));
    pages.read(offset, {data, std::min(length, rest)});
    return nb::borrow<nb::bytes>(bytes);
}

bool write_pages(Pages& pages, u64 offset, nb::bytes data) {
    if (offset > pages.size() || data.size() > pages.size() - offset)
        throw nb::value_error("past the end");
    return pages.write(offset, span_of(data));
}

bool clear_pages(Pages& pages, u64 offset, u64 length) {
    if (offset > pages.size() || length > pages.size() - offset)
        throw nb::value_error("past the end");
    return pages.clear(offset, length);
}

nb::bytes look(const AddressSpace& space, u64 start, u64 length) {
    const std::string found = space.look(start, length);
    return nb::bytes(found.data(), found.size());
}

nb::bytes save_machine(const Machine& machine, const Spaces& spaces, const Harts& harts,
                       const Files& files) {
    const std::string bytes = Snapshot::save(machine, spaces, harts, files);
    return nb::bytes(bytes.data(), bytes.size());
}

std::tuple<Spaces, Harts, Files> restore_machine(const std::shared_ptr<Machine>& machine,
                                                 nb::bytes bytes) {
    return Snapshot::restore(machine, span_of(bytes));
}

std::string native_obstacle() {
    std::string obstacle;
    native::Engine::create(Machine::default_native_bytes, obstacle);
    return obstacle;
}

nb::object decode_word(u32 word) {
    const Listed row = listed(word);
    if (!row.name) return nb::none();
    const Slot& s = row.slot;
    return nb::make_tuple(row.name, row.format, s.rd == x0_sink ? 0 : s.rd, s.rs1, s.rs2, s.rs3,
                          s.imm);
}

nb::bytes vector_register(const Hart& h, int i) {
    return nb::bytes(h.v.bytes + register_number(i) * VectorState::vlenb, VectorState::vlenb);
}

void set_vector_register(Hart& h, int i, nb::bytes value) {
    if (value.size() != VectorState::vlenb) throw nb::value_error("a vector register has 16 bytes");
    std::memcpy(h.v.bytes + register_number(i) * VectorState::vlenb, value.data(), value.size());
    h.v.used = true;
}

nb::tuple vector_csrs(const Hart& h) {
    return nb::make_tuple(h.v.vstart, h.v.vl, h.v.vtype, h.v.vcsr());
}

void set_vector_csrs(Hart& h, u64 vstart, u64 vl, u64 vtype, u64 vcsr) {
    h.v.configure(vtype, vl);
    h.v.set_vstart(vstart);
    h.v.set_vcsr(vcsr);
    h.v.used = true;
}

// In lower case, as in an ISA string.
std::vector<std::string> extensions() {
    std::vector<std::string> names(std::begin(extension_names), std::end(extension_names));
    for (std::string& name : names) name[0] = static_cast<char>(std::tolower(name[0]));
    return names;
}

Extensions all_extensions_but(const std::vector<std::string>& without) {
    const std::vector<std::string> known = extensions();
    Extensions left;
    for (const std::string& name : without) {
        const auto found = std::find(known.begin(), known.end(), name);
        if (found == known.end()) throw nb::value_error("no such extension");
        left.remove(Extension(found - known.begin()));
    }
    return left;
}

int run_hart(Hart& h, AddressSpace& space, u64 budget, u32 tid, u32 mm) {
    nb::gil_scoped_release release;
    const fp::HostMode mode;
    return run(h, space, budget, tid, mm);
}

nb::tuple fault(const Hart& h) {
    const Fault& f = h.fault;
    return nb::make_tuple(static_cast<int>(f.cause), f.tval, f.word, f.address, f.expected,
                          f.found);
}

}  // namespace

NB_MODULE(_core, module) {
    // A plugin may keep batches, and so buffers of the core, until the process ends.
    nb::set_leak_warnings(false);
    module.attr("C_COMPILER") = SHSTK_C_COMPILER;
    for (auto [name, value] : {std::pair{"STOP_BUDGET", int{stop_budget}},
                               {"STOP_ECALL", int{stop_ecall}},
                               {"STOP_FAULT", int{stop_fault}},
                               {"STOP_FLUSH", int{stop_flush}},
                               {"STOP_TRAP", int{stop_trap}},
                               {"USE_LOAD", int{use_load}},
                               {"USE_STORE", int{use_store}},
                               {"PERM_R", int{perm_r}},
                               {"PERM_W", int{perm_w}},
                               {"PERM_X", int{perm_x}},
                               {"PERM_SS", int{perm_ss}},
                               {"PERM_SHARED", int{perm_shared}},
                               {"TRACE_CFI", int{trace_cfi}},
                               {"TRACE_FLOW", int{trace_flow}},
                               {"TRACE_INSN", int{trace_insn}},
                               {"FAULT_NO_FRAME", int{cause_no_frame}}})
        module.attr(name) = value;

    module.attr("EXTENSIONS") = nb::tuple(nb::cast(extensions()));
    module.attr("TABLES") = described();
    module.attr("CFI_KINDS") = cfi_kinds();

    module.def("native_obstacle", native_obstacle);
    module.def("decode", decode_word, nb::arg("word"));

    nb::class_<ColumnBuffer>(module, "_ColumnBuffer", nb::type_slots(column_slots));

    nb::class_<Machine>(module, "Machine")
        .def(
            "__init__",
            [](Machine* self, const std::vector<std::string>& without, unsigned trace,
               u64 max_frames, std::optional<u64> native_after, std::size_t native_bytes) {
                new (self) Machine(all_extensions_but(without), trace, max_frames, native_after,
                                   native_bytes);
            },
            nb::kw_only(), nb::arg("without") = nb::tuple(), nb::arg("trace") = 0,
            nb::arg("max_frames") = 0, nb::arg("native_after") = nb::none(),
            nb::arg("native_bytes") = Machine::default_native_bytes)
        .def_rw("icount", &Machine::icount)
        .def_rw("time_offset", &Machine::time_offset)
        .def("now", [](const Machine& m) { return m.icount + m.time_offset; })
        .def(
            "spend", [](Machine& m, u64 ns) { m.time_offset += ns; }, nb::arg("ns"))
        .def("step", &Machine::step)
        .def_rw("trace", &Machine::trace)
        .def_prop_ro("frames", &Machine::frames)
        .def("pending", pending, nb::arg("table"))
        .def("drain", drain_named, nb::arg("table"))
        .def_rw("stored", &Machine::stored)
        .def_rw("noting", &Machine::noting)
        .def_rw("noted", &Machine::noted)
        .def_rw("pass_at", &Machine::pass_at)
        .def_rw("pass_access", &Machine::pass_access)
        .def_rw("kernel_stored", &Machine::kernel_stored)
        .def("save", save_machine, nb::arg("spaces"), nb::arg("harts"), nb::arg("files"))
        .def("restore", restore_machine, nb::arg("state"));

    nb::class_<RowBuffer>(module, "RowBuffer")
        .def(nb::init<const std::vector<RowBuffer::Described>&>(), nb::arg("columns"))
        .def("add", &RowBuffer::add, nb::arg("values"))
        .def_prop_ro("rows", &RowBuffer::rows)
        .def_prop_ro("last", &RowBuffer::last)
        .def("drain", &RowBuffer::drain);

    nb::class_<Pages>(module, "Pages")
        .def(nb::new_([](std::shared_ptr<Machine> machine, nb::bytes data) {
                 auto pages = std::make_shared<Pages>(std::move(machine), data.size());
                 attach(*pages, data);
                 return pages;
             }),
             nb::arg("machine"), nb::arg("data") = nb::bytes("", 0))
        .def_prop_ro("size", &Pages::size)
        .def("attach", attach, nb::arg("data"))
        .def("resize", &Pages::resize, nb::arg("size"))
        .def("read", read_pages, nb::arg("offset"), nb::arg("length"))
        .def("write", write_pages, nb::arg("offset"), nb::arg("data"))
        .def("clear", clear_pages, nb::arg("offset"), nb::arg("length"))
        .def("note_store", &Pages::note_store)
        .def("clean", &Pages::clean);

    nb::class_<AddressSpace>(module, "AddressSpace")
        .def(nb::new_([](std::shared_ptr<Machine> machine) {
                 return std::make_shared<AddressSpace>(std::move(machine));
             }),
             nb::arg("machine"))
        .def("fork", &AddressSpace::fork)
        .def("map", &AddressSpace::map, nb::arg("start"), nb::arg("length"), nb::arg("perm"))
        .def("map_pages", &AddressSpace::map_pages, nb::arg("start"), nb::arg("length"),
             nb::arg("perm"), nb::arg("pages"), nb::arg("offset"))
        .def("unmap", &AddressSpace::unmap, nb::arg("start"), nb::arg("length"))
        .def("protect", &AddressSpace::protect, nb::arg("start"), nb::arg("length"),
             nb::arg("perm"))
        .def("move", &AddressSpace::move, nb::arg("old_start"), nb::arg("length"),
             nb::arg("new_start"))
        .def("discard", &AddressSpace::discard, nb::arg("start"), nb::arg("length"))
        .def("perm", &AddressSpace::perm, nb::arg("addr"))
        .def("resident", &AddressSpace::resident, nb::arg("start"), nb::arg("length"))
        .def("populate", &AddressSpace::populate, nb::arg("start"), nb::arg("length"),
             nb::arg("write"))
        .def("anonymous", &AddressSpace::anonymous, nb::arg("start"), nb::arg("length"))
        .def("look", look, nb::arg("start"), nb::arg("length"))
        .def("read", read_bytes, nb::arg("addr"), nb::arg("length"), nb::arg("force") = false)
        .def("write", write_bytes, nb::arg("addr"), nb::arg("data"), nb::arg("force") = false)
        .def("read_cstr", read_cstr, nb::arg("addr"), nb::arg("limit"))
        .def("set_traps", set_traps, nb::arg("breaks"), nb::arg("watches"))
        .def("ss_write", &AddressSpace::ss_write, nb::arg("addr"), nb::arg("value"))
        .def("ss_swap", ss_swap, nb::arg("addr"), nb::arg("value"));

    nb::class_<Hart>(module, "Hart")
        .def(nb::new_([](std::shared_ptr<Machine> machine) {
                 return std::make_shared<Hart>(std::move(machine));
             }),
             nb::arg("machine"))
        .def("copy", &Hart::copy)
        .def_prop_rw(
            "pc", [](const Hart& h) { return h.pc; }, [](Hart& h, u64 pc) { h.pc = pc & ~u64{1}; })
        .def_prop_rw("fcsr", &Hart::fcsr, &Hart::set_fcsr)
        .def_prop_rw(
            "ssp", [](const Hart& h) { return h.ssp; }, [](Hart& h, u64 v) { h.ssp = v & ~u64{7}; })
        .def_rw("elp", &Hart::elp)
        .def_rw("sse", &Hart::sse)
        .def_rw("lpe", &Hart::lpe)
        .def_prop_rw(
            "pmlen", [](const Hart& h) { return h.pmlen; },
            [](Hart& h, u64 length) {
                if (!valid_pmlen(length)) throw std::invalid_argument("pmlen is 0, 7 or 16");
                h.pmlen = u8(length);
            })
        .def(
            "x", [](const Hart& h, int i) { return h.x[register_number(i)]; }, nb::arg("i"))
        .def(
            "set_x",
            [](Hart& h, int i, u64 value) {
                if (register_number(i)) h.x[i] = value;
            },
            nb::arg("i"), nb::arg("value"))
        .def(
            "f", [](const Hart& h, int i) { return h.f[register_number(i)]; }, nb::arg("i"))
        .def(
            "set_f", [](Hart& h, int i, u64 bits) { h.f[register_number(i)] = bits; }, nb::arg("i"),
            nb::arg("bits"))
        .def(
            "leave", [](Hart& h, i64 result) { h.x[10] = u64(result); }, nb::arg("result"))
        .def("regs", regs)
        .def("args", args)
        .def("enter", enter)
        .def("v", vector_register, nb::arg("i"))
        .def("set_v", set_vector_register, nb::arg("i"), nb::arg("value"))
        .def("v_csrs", vector_csrs)
        .def("set_v_csrs", set_vector_csrs, nb::arg("vstart"), nb::arg("vl"), nb::arg("vtype"),
             nb::arg("vcsr"))
        .def("discard_v", [](Hart& h) { h.v.discard(); })
        .def_prop_rw(
            "v_used", [](const Hart& h) { return h.v.used; },
            [](Hart& h, bool used) {
                const bool enabled = h.v.enabled;
                h.v = {};
                h.v.enabled = enabled;
                h.v.used = used;
            })
        .def_prop_rw(
            "v_enabled", [](const Hart& h) { return h.v.enabled; },
            [](Hart& h, bool enabled) { h.v.enabled = enabled; })
        .def("state", state)
        .def("restore", restore, nb::arg("state"))
        .def("state_hash", &Hart::hash)
        .def("clear_reservation", [](Hart& h) { h.reservation = {}; })
        .def("run", run_hart, nb::arg("space"), nb::arg("budget"), nb::arg("tid"), nb::arg("mm"))
        .def("fault", fault);
}
