// The layout, in 64-bit words except for the pages and the flow keys:
//   magic, icount, time offset, last step, lineages, interrupted (hart, space, pc, icount)
//   frames: lineage, page
//   files: size, size of the source, whether stored to and noted, pages of (page, frame)
//   spaces: areas of (first, count, permissions and entry_read, frame or none),
//           ranges of (first, count, offset, file)
//   harts: Hart::save
//   flow keys, in the order of their ids
// Each list begins with its length. An index refers to an earlier list.
#include "snapshot.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <unordered_map>

namespace core {

namespace {

constexpr u64 magic = 0x33544f4853504e53;  // "SNPSHOT3"
constexpr u64 none = ~u64{0};
constexpr Entry entry_kept = entry_flags & ~entry_mapped;
constexpr u64 pages_limit = address_limit >> page_shift;

// Numbers objects in the order of their first occurrence.
template <class T>
class Numbers {
  public:
    u64 of(T* object) {
        const auto [it, is_new] = numbers_.try_emplace(object, list.size());
        if (is_new) list.push_back(object);
        return it->second;
    }
    std::vector<T*> list;

  private:
    std::unordered_map<T*, u64> numbers_;
};

struct Area {
    u64 first, count;
    Entry entry;
};

[[noreturn]] void malformed(const char* what) {
    throw std::invalid_argument(std::string("not a snapshot: ") + what);
}

template <class T>
u64 index_of(const std::vector<std::shared_ptr<T>>& list, u64 id) {
    for (u64 i = 0; i < list.size(); ++i)
        if (list[i]->id == id) return i;
    return none;
}

template <class T>
void check_machine(const Machine& machine, const std::vector<std::shared_ptr<T>>& list) {
    for (const auto& item : list)
        if (!item || item->machine.get() != &machine)
            throw std::invalid_argument("a space or hart belongs to another machine");
}

}  // namespace

class Snapshot::Writer {
  public:
    std::string bytes;

    void word(u64 value) { raw(&value, sizeof value); }
    template <class... Words>
    void words(Words... values) {
        (word(values), ...);
    }
    void raw(const void* data, std::size_t size) {
        bytes.append(static_cast<const char*>(data), size);
    }

    // Adjacent demand-zero pages are merged into one area.
    static std::vector<Area> areas(const AddressSpace& space) {
        std::vector<Area> found;
        space.table_.visit(0, pages_limit, [&](u64 page, u64 count, Entry entry) {
            Area* last = found.empty() ? nullptr : &found.back();
            if (last && !frame_of(entry) && entry == last->entry &&
                page == last->first + last->count)
                last->count += count;
            else
                found.push_back({page, count, entry});
        });
        return found;
    }

    static std::vector<std::pair<u64, Frame*>> pages(const Pages& file) {
        std::vector<std::pair<u64, Frame*>> found(file.frames_.begin(), file.frames_.end());
        std::sort(found.begin(), found.end());
        return found;
    }
};

std::string Snapshot::save(const Machine& machine, const Spaces& spaces, const Harts& harts,
                           const Files& files) {
    check_machine(machine, spaces);
    check_machine(machine, harts);
    check_machine(machine, files);
    Numbers<Frame> frames;
    std::unordered_map<const Pages*, u64> numbers;
    for (const auto& file : files) numbers.try_emplace(file.get(), numbers.size());
    if (numbers.size() < files.size()) throw std::invalid_argument("a file is given twice");
    std::vector<std::vector<Area>> areas;
    for (const auto& space : spaces) {
        for (const Area& area : areas.emplace_back(Writer::areas(*space)))
            if (Frame* frame = frame_of(area.entry)) frames.of(frame);
        for (const auto& [first, range] : space->ranges_)
            if (!numbers.contains(range.pages.get()))
                throw std::invalid_argument("a space maps pages that are not given");
    }
    for (const auto& file : files)
        for (const auto& [page, frame] : Writer::pages(*file)) frames.of(frame);

    Writer out;
    out.bytes.reserve(frames.list.size() * (page_size + 8) + (std::size_t{1} << 16));
    const auto& at = machine.interrupted;
    out.words(magic, machine.icount, machine.time_offset, machine.last_step, machine.lineages_,
              index_of(harts, at.hart), index_of(spaces, at.space), at.pc, at.icount);
    out.word(frames.list.size());
    for (const Frame* frame : frames.list) {
        out.word(frame->lineage);
        out.raw(frame->bytes, page_size);
    }
    out.word(files.size());
    for (const auto& file : files) {
        const auto pages = Writer::pages(*file);
        out.words(file->size_, file->source_size_, file->stored_, file->noted_, pages.size());
        for (const auto& [page, frame] : pages) out.words(page, frames.of(frame));
    }
    out.word(spaces.size());
    for (u64 i = 0; i < spaces.size(); ++i) {
        out.word(areas[i].size());
        for (const auto& [first, count, entry] : areas[i]) {
            Frame* const frame = frame_of(entry);
            out.words(first, count, entry & entry_kept, frame ? frames.of(frame) : none);
        }
        out.word(spaces[i]->ranges_.size());
        for (const auto& [first, range] : spaces[i]->ranges_)
            out.words(first, range.count, range.offset, numbers.at(range.pages.get()));
    }
    out.word(harts.size());
    for (const auto& hart : harts) {
        u8 state[Hart::state_size];
        hart->save(state);
        out.raw(state, sizeof state);
    }
    std::vector<const std::string*> keys(machine.flow_ids_.size());
    for (const auto& [key, id] : machine.flow_ids_) keys[id - 1] = &key;
    out.word(keys.size());
    for (const std::string* key : keys) {
        out.word(key->size());
        out.raw(key->data(), key->size());
    }
    return std::move(out.bytes);
}

// Builds the objects. It releases them again if the bytes turn out to be malformed.
class Snapshot::Reader {
  public:
    Reader(const std::shared_ptr<Machine>& machine, std::span<const u8> bytes)
        : machine_(machine), rest_(bytes) {}
    ~Reader() {
        for (Frame* frame : frames_) machine_->release(frame);
    }

    Spaces spaces;
    Harts harts;
    Files files;
    u64 icount, time_offset, last_step, lineages;
    u64 interrupted[4];  // hart, space, pc, icount
    FlowIds flow_ids;

    void read() {
        if (word() != magic) malformed("wrong magic");
        icount = word();
        time_offset = word();
        last_step = word();
        lineages = word();
        for (u64& value : interrupted) value = word();
        read_frames();
        read_files();
        for (u64 n = length(16); n; --n) read_space();
        for (u64 n = length(Hart::state_size); n; --n) {
            harts.push_back(std::make_shared<Hart>(machine_));
            if (!harts.back()->restore(raw(Hart::state_size))) malformed("invalid hart");
        }
        for (u64 n = length(8); n; --n) {
            const auto key = raw(length(1));
            const u32 id = static_cast<u32>(flow_ids.size() + 1);
            if (!flow_ids.try_emplace(std::string(key.begin(), key.end()), id).second)
                malformed("duplicate block");
        }
        if (!rest_.empty()) malformed("trailing bytes");
    }

  private:
    std::span<const u8> raw(std::size_t size) {
        if (size > rest_.size()) malformed("truncated");
        const auto taken = rest_.first(size);
        rest_ = rest_.subspan(size);
        return taken;
    }
    u64 word() {
        u64 value;
        std::memcpy(&value, raw(sizeof value).data(), sizeof value);
        return value;
    }
    // The length of a list with items of at least `size` bytes each.
    u64 length(std::size_t size) {
        const u64 n = word();
        if (n > rest_.size() / size) malformed("a list is longer than the remaining bytes");
        return n;
    }
    template <class T>
    const T& item(const std::vector<T>& list, u64 index) {
        if (index >= list.size()) malformed("index out of range");
        return list[index];
    }
    // The end of a range of pages, which must begin at `from` or above.
    static u64 range_end(u64 first, u64 count, u64 from) {
        if (first < from || first >= pages_limit || count == 0 || count > pages_limit - first)
            malformed("invalid page range");
        return first + count;
    }

    void read_frames() {
        const u64 n = length(8 + page_size);
        if (machine_->max_frames_ && n > machine_->max_frames_)
            throw std::invalid_argument("the snapshot has more frames than the machine may have");
        for (u64 i = 0; i < n; ++i) {
            const u64 lineage = word();
            const auto bytes = raw(page_size);
            frames_.push_back(nullptr);
            frames_.back() = machine_->adopt_frame(lineage, bytes.data());
        }
    }

    void read_files() {
        for (u64 n = length(40); n; --n) {
            const u64 size = word();
            auto& file = files.emplace_back(std::make_shared<Pages>(machine_, word()));
            if (file->source_size_ > size) malformed("a source longer than its file");
            file->size_ = size;
            file->stored_ = word();
            file->noted_ = word();
            for (u64 pages = length(16); pages; --pages) {
                const u64 page = word();
                Frame* const frame = item(frames_, word());
                if (file->frames_.try_emplace(page, frame).second) ++frame->refs;
            }
        }
    }

    void read_space() {
        auto& space = spaces.emplace_back(std::make_shared<AddressSpace>(machine_));
        u64 from = 0;
        for (u64 n = length(32); n; --n) {
            const u64 first = word();
            const u64 count = word();
            const u64 flags = word();
            const u64 frame = word();
            from = range_end(first, count, from);
            if (flags & ~entry_kept) malformed("invalid permission");
            if (frame == none) {
                space->table_.fill(first, count, flags | entry_mapped);
                continue;
            }
            if (count != 1) malformed("a frame for several pages");
            Frame* const content = item(frames_, frame);
            space->table_.own(first) = make_entry(static_cast<u8>(flags), content);
            ++content->refs;
        }
        from = 0;
        for (u64 n = length(32); n; --n) {
            const u64 first = word();
            const u64 count = word();
            const u64 offset = word();
            from = range_end(first, count, from);
            space->ranges_[first] = {count, offset, item(files, word())};
        }
    }

    const std::shared_ptr<Machine> machine_;
    std::span<const u8> rest_;
    std::vector<Frame*> frames_;  // the reader holds a reference to each
};

std::tuple<Spaces, Harts, Files> Snapshot::restore(const std::shared_ptr<Machine>& machine,
                                                   std::span<const u8> bytes) {
    Machine& m = *machine;
    const std::vector<Pages*> earlier(m.caches.begin(), m.caches.end());
    Reader in(machine, bytes);
    in.read();
    m.forget_all_code();
    for (Pages* file : earlier) file->resize(0);
    m.icount = in.icount;
    m.time_offset = in.time_offset;
    m.last_step = in.last_step;
    m.lineages_ = in.lineages;
    m.flow_ids_ = std::move(in.flow_ids);
    m.stored = std::any_of(in.files.begin(), in.files.end(),
                           [](const auto& file) { return file->stored_ && !file->noted_; });
    m.interrupted = {};
    if (in.interrupted[0] < in.harts.size() && in.interrupted[1] < in.spaces.size())
        m.interrupted = {in.harts[in.interrupted[0]]->id, in.spaces[in.interrupted[1]]->id,
                         in.interrupted[2], in.interrupted[3]};
    return {std::move(in.spaces), std::move(in.harts), std::move(in.files)};
}

}  // namespace core
